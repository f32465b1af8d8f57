"""`checkpoint-runner up`: a whole stack that stops cleanly and goes on where it was."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from checkpoint_runner.clients import client_name
from tests.process.conftest import ROOT, TASKS, Processes, descendants, eventually, items_of, repeated


class Up:
    """`up` in one state folder, started again and again."""

    def __init__(self, processes: Processes, folder: Path) -> None:
        self.processes = processes
        self.folder = folder
        self.path = folder / "items"
        self.runs = 0
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]

    def start(self, *arguments: str) -> subprocess.Popen[bytes]:
        self.runs += 1
        process = self.processes.start(
            *(sys.executable, "-m", "checkpoint_runner", "up", "--web", "tests.process.web_app:app"),
            *("--tasks", TASKS, "--bind", f"127.0.0.1:{self.port}", "--workers", "4", "--grace", "10"),
            *("--state-dir", str(self.folder / "state"), *arguments),
            name=f"up{self.runs}",
            ITEMS_FILE=str(self.path),
            CHECKPOINT_RUNNER_REDIS_URL="",
        )
        eventually(lambda: self.answers() or process.poll() is not None, what="up answers")
        return process

    def answers(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=1):
                return True
        except OSError:
            return False

    def call(self, path: str, method: str = "GET") -> dict[str, object]:
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", method=method)
        with urllib.request.urlopen(request, timeout=10) as answer:
            return dict(json.load(answer))

    def log(self) -> str:
        return self.processes.log(f"up{self.runs}")


@pytest.fixture
def up(tmp_path: Path) -> Up:
    processes = Processes("", tmp_path)
    yield Up(processes, tmp_path)  # type: ignore[misc]
    processes.stop_all()


def test_ctrl_c_with_four_jobs_running_and_up_again(up: Up) -> None:
    """If this fails, Ctrl+C on a development stack loses jobs, connections or the log of its own end."""
    process = up.start()
    ids = [str(up.call("/start/200", "POST")["id"]) for _ in range(4)]
    eventually(lambda: all(len(items_of(up.path, job_id)) > 5 for job_id in ids), what="four jobs work")
    there = [process.pid, *descendants(process.pid)]

    os.killpg(process.pid, signal.SIGINT)

    assert process.wait(11) == 0
    assert not [pid for pid in there if Path(f"/proc/{pid}").exists()]
    log = up.log()
    assert log.count("closed the horse's Redis connections") == 4
    assert log.count("closed Redis connections to") == 4
    for line in ("closed the default runner's Redis connections", "closed the embedded Valkey", "connections of `up`"):
        assert log.count(line) == 1, line
    (summary,) = [line for line in log.splitlines() if " up " in line and "shutdown (SIGINT) took" in line]
    assert "5 of 5 processes stopped by themselves; 0 of our connections left on the server" in summary
    done = {job_id: len(items_of(up.path, job_id)) for job_id in ids}
    assert all(count < 200 for count in done.values())

    second = up.start()
    for job_id in ids:
        eventually(lambda job_id=job_id: up.call(f"/jobs/{job_id}")["status"] == "finished", what="the jobs go on")
    assert sum(items_of(up.path).values()) == 800
    assert repeated(up.path) == 0
    second.send_signal(signal.SIGTERM)
    assert second.wait(11) == 0


def test_a_second_up_in_the_same_folder_says_so(up: Up) -> None:
    """If this fails, two servers write into one folder."""
    first = up.start()
    answer = subprocess.run(
        [
            *(sys.executable, "-m", "checkpoint_runner", "up", "--tasks", TASKS),
            *("--state-dir", str(up.folder / "state")),
        ],
        cwd=ROOT,
        env={**up.processes.environ, "CHECKPOINT_RUNNER_REDIS_URL": ""},
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    assert answer.returncode == 1
    assert f"(pid {first.pid}) runs in" in answer.stderr
    assert first.poll() is None
    first.send_signal(signal.SIGTERM)
    assert first.wait(11) == 0


def test_a_killed_up_leaves_no_worker_behind_and_loses_nothing(up: Up) -> None:
    """If this fails, a killed terminal leaves workers and a server that the next `up` trips over."""
    process = up.start()
    job_id = str(up.call("/start/200", "POST")["id"])
    eventually(lambda: len(items_of(up.path)) > 5)
    there = [pid for pid in descendants(process.pid) if b"valkey" not in Path(f"/proc/{pid}/cmdline").read_bytes()]

    process.kill()
    process.wait()

    eventually(lambda: not [pid for pid in there if Path(f"/proc/{pid}").exists()], what="web and workers are gone")
    second = up.start()
    eventually(lambda: up.call(f"/jobs/{job_id}")["status"] == "finished", what="the job goes on")
    assert repeated(up.path) == 0
    second.send_signal(signal.SIGTERM)
    assert second.wait(11) == 0


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--workers", "0"], "nothing to run"),
        (["--tasks", "no.such.module"], "can't be found"),
        (["--web", "x:y", "--workers", "0", "--bind", "nonsense"], "expected HOST:PORT"),
        (["--tasks", TASKS, "--grace", "-1"], "grace"),
    ],
)
def test_wrong_use_is_told_at_once(arguments: list[str], expected: str, tmp_path: Path) -> None:
    """If this fails, a typing mistake shows as a traceback, or as a stack that never comes up."""
    answer = subprocess.run(
        [sys.executable, "-m", "checkpoint_runner", "up", "--state-dir", str(tmp_path / "state"), *arguments],
        cwd=ROOT,
        env={**os.environ, "CHECKPOINT_RUNNER_TASKS": ""},
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    assert answer.returncode == 1
    assert expected in answer.stderr
    assert "Traceback" not in answer.stderr


def test_client_names_tell_whose_a_connection_is() -> None:
    """If this fails, nobody can tell which of the server's connections are ours."""
    name = client_name("ckpt", "web")
    assert name.startswith("ckpt:web:")
    assert name.endswith(f":{os.getpid()}")
