"""gunicorn with its config module and the workers plugin: one command is a whole deployment."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from checkpoint_runner import Runner, Status
from checkpoint_runner.runner import default_runner
from tests.process.conftest import Processes, children, descendants, eventually, items_of, repeated, send

JOBS, COUNT = 3, 120


class Gunicorn:
    """One gunicorn master with web workers, and job workers under it."""

    def __init__(self, processes: Processes, folder: Path, worker_class: str, job_workers: int = 2) -> None:
        self.processes = processes
        self.path = folder / "items"
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.master = processes.start(
            *(sys.executable, "-m", "gunicorn", "-c", "python:checkpoint_runner.gunicorn_conf"),
            *("-k", worker_class, "--threads", "4", "-b", f"127.0.0.1:{self.port}", "--no-control-socket"),
            "tests.process.web_app:app",
            name="gunicorn",
            CHECKPOINT_RUNNER_WORKERS=str(job_workers),
            CHECKPOINT_RUNNER_GRACE="10",
            ITEMS_FILE=str(self.path),
        )
        eventually(self.answers, what="the web app answers")
        eventually(lambda: len(processes.listening()) == job_workers, what="the job workers listen")

    def answers(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=1):
                return True
        except OSError:
            assert self.master.poll() is None, self.processes.log("gunicorn")
            return False

    def call(self, path: str, method: str = "GET") -> Any:
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", method=method)
        with urllib.request.urlopen(request, timeout=20) as answer:
            return json.load(answer)

    def start_jobs(self) -> list[str]:
        ids = [self.call(f"/start/{COUNT}", "POST")["id"] for _ in range(JOBS)]
        eventually(lambda: sum(len(items_of(self.path, job_id)) > 5 for job_id in ids) >= 2, what="two jobs work")
        return ids


def everything_of(master: subprocess.Popen[bytes]) -> list[int]:
    return [master.pid, *descendants(master.pid)]


def ctrl_c(gunicorn: Gunicorn) -> None:
    os.killpg(gunicorn.master.pid, signal.SIGINT)


def sigterm_to_master(gunicorn: Gunicorn) -> None:
    gunicorn.master.send_signal(signal.SIGTERM)


def sigterm_to_all(gunicorn: Gunicorn) -> None:
    send(signal.SIGTERM, *everything_of(gunicorn.master))


OFTEN = [
    ("gthread", ctrl_c),
    ("gthread", sigterm_to_master),
    ("gthread", sigterm_to_all),
    ("sync", ctrl_c),
    ("gevent", sigterm_to_master),
]
EVERY = [(kind, stop) for kind in ("gthread", "sync", "gevent") for stop in (ctrl_c, sigterm_to_master, sigterm_to_all)]


@pytest.mark.parametrize(("worker_class", "stop"), EVERY if os.environ.get("CHECKPOINT_RUNNER_DEEP") else OFTEN)
def test_a_stop_of_gunicorn_stops_web_and_jobs_side_by_side(
    worker_class: str,
    stop: Callable[[Gunicorn], None],
    processes: Processes,
    real_runner: Runner,
    tmp_path: Path,
) -> None:
    """If this fails, stopping the one command of a deployment loses jobs, connections or log lines."""
    gunicorn = Gunicorn(processes, tmp_path, worker_class)
    ids = gunicorn.start_jobs()
    there = everything_of(gunicorn.master)

    stop(gunicorn)

    assert gunicorn.master.wait(10) == 0
    eventually(lambda: not [pid for pid in there if _lives(pid)], within=5, what="all processes are gone")
    eventually(lambda: processes.connections() == [], within=2, what="no connection is left")
    log = processes.log("gunicorn")
    assert log.count("closed the default runner's Redis connections") == 1
    assert "0 of our connections left on the server" in log
    assert "Traceback" not in log
    processes.worker("--burst", name="next")
    for job_id in ids:
        assert real_runner.job(job_id).wait(20) == COUNT
    assert sum(items_of(gunicorn.path).values()) == JOBS * COUNT
    assert repeated(gunicorn.path) == 0


def test_a_reload_moves_the_jobs_to_new_workers(processes: Processes, real_runner: Runner, tmp_path: Path) -> None:
    """If this fails, `kill -HUP` drops jobs, or leaves them with workers of the old code."""
    gunicorn = Gunicorn(processes, tmp_path, "gthread")
    ids = gunicorn.start_jobs()
    old = processes.listening()

    gunicorn.master.send_signal(signal.SIGHUP)

    eventually(lambda: len(processes.listening() - old) == 2 and not processes.listening() & old, what="new workers")
    for job_id in ids:
        assert real_runner.job(job_id).wait(20) == COUNT
    assert repeated(gunicorn.path) == 0
    assert {real_runner.job(job_id).crashes for job_id in ids} == {0}
    assert sum(real_runner.job(job_id).interruptions for job_id in ids) >= 2
    eventually(gunicorn.answers, what="web goes on")
    gunicorn.master.send_signal(signal.SIGTERM)
    assert gunicorn.master.wait(10) == 0
    eventually(lambda: processes.connections() == [], within=2)


def test_a_killed_master_leaves_no_job_worker_behind(processes: Processes, real_runner: Runner, tmp_path: Path) -> None:
    """If this fails, job workers of a dead deployment go on and take jobs from the new one."""
    gunicorn = Gunicorn(processes, tmp_path, "sync")
    ids = gunicorn.start_jobs()
    there = descendants(gunicorn.master.pid)

    gunicorn.master.kill()

    eventually(lambda: not [pid for pid in there if _lives(pid)], within=10, what="the descendants are gone")
    assert {real_runner.job(job_id).status for job_id in ids} == {Status.QUEUED}
    assert repeated(gunicorn.path) == 0


def test_a_killed_supervisor_comes_back(processes: Processes, real_runner: Runner, tmp_path: Path) -> None:
    """If this fails, one lost process ends all job work until the next deploy, unnoticed."""
    gunicorn = Gunicorn(processes, tmp_path, "sync", job_workers=1)
    (supervisor,) = [pid for pid in children(gunicorn.master.pid) if b"--supervised" in _command(pid)]
    job_id = gunicorn.call(f"/start/{COUNT}", "POST")["id"]

    os.kill(supervisor, signal.SIGKILL)

    assert real_runner.job(job_id).wait(30) == COUNT
    assert repeated(gunicorn.path) == 0
    gunicorn.master.send_signal(signal.SIGTERM)
    assert gunicorn.master.wait(10) == 0


def test_an_event_stream_ends_itself_when_the_stop_begins(
    processes: Processes, real_runner: Runner, tmp_path: Path
) -> None:
    """If this fails, one open browser tab holds up every deploy by the whole graceful timeout."""
    gunicorn = Gunicorn(processes, tmp_path, "gthread", job_workers=1)
    job_id = gunicorn.call("/start/100000", "POST")["id"]
    lines: list[bytes] = []
    opened = threading.Event()

    def read() -> None:
        with urllib.request.urlopen(f"http://127.0.0.1:{gunicorn.port}/watch/{job_id}", timeout=30) as stream:
            for line in stream:
                lines.append(line)
                opened.set()

    reader = threading.Thread(target=read)
    reader.start()
    assert opened.wait(10)

    gunicorn.master.send_signal(signal.SIGTERM)

    assert gunicorn.master.wait(8) == 0
    reader.join(5)
    assert b"data: end\n" in lines


def _lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text("utf-8").rsplit(")", 1)[1].split()[0] not in "ZX"
    except OSError:
        return False


def _command(pid: int) -> bytes:
    return Path(f"/proc/{pid}/cmdline").read_bytes()


def test_the_default_runner_is_closed_twice_without_harm(real_runner: Runner) -> None:
    """If this fails, the explicit close and the one at exit get into each other's way."""
    assert default_runner() is real_runner
    real_runner.close()
    real_runner.close()
