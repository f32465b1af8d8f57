"""The last rungs of the shutdown ladder: items that do not end, repeated signals, exits of a task's own."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from checkpoint_runner import Job, Runner, Status
from tests.process import process_tasks as tasks
from tests.process import recovery_tasks
from tests.process.conftest import Processes, children, descendants, eventually, items_of, repeated

BOTH = {"CHECKPOINT_RUNNER_TASKS": "tests.process.process_tasks,tests.process.recovery_tasks"}
GRACE = 2.0
EXIT = 1.5
"""Seconds that an interpreter may take from its last line to its end on a busy machine."""


def working(path: Path, job: Job[Any], least: int) -> None:
    eventually(lambda: len(items_of(path, job.id)) >= least, what=f"job {job.id} works")


def gone(pid: int) -> bool:
    """Whether a process has ended, whoever is to reap it."""
    try:
        return Path(f"/proc/{pid}/stat").read_text("utf-8").rsplit(")", 1)[1].split()[0] in "ZX"
    except OSError:
        return True


def took(processes: Processes) -> float:
    """Return the seconds that the worker's shutdown took, as its log says."""
    (seconds,) = re.findall(r"worker \d+: shutdown \(SIGTERM\) took ([\d.]+) s", processes.log("worker"))
    return float(seconds)


@contextlib.contextmanager
def killed_in_the_end(pids: list[int]) -> Any:
    try:
        yield
    finally:
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


@pytest.mark.parametrize("how", recovery_tasks.BLOCKS)
def test_an_item_that_does_not_end_is_ended_with_all_that_it_started(
    how: str, processes: Processes, real_runner: Runner, tmp_path: Path
) -> None:
    """If this fails, one item that hangs makes a deploy hang, or a worker that is gone leaves work running."""
    path = tmp_path / "items"
    worker = processes.worker("--grace", str(GRACE), **BOTH)
    job = recovery_tasks.blocks.start(str(path), how)
    working(path, job, 2)
    if how == "in_a_subprocess":
        eventually(lambda: len(descendants(worker.pid)) == 2)
    below = descendants(worker.pid)

    with killed_in_the_end(below):
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(GRACE + EXIT) == 0
        assert took(processes) < GRACE
        assert all(gone(pid) for pid in below), "also the task's subprocess"

    stopped = job.refresh()
    assert (stopped.status, stopped.reason, stopped.crashes) == (Status.QUEUED, "shutdown", 0)
    assert stopped.interruptions == 1
    saved = stopped.progress.done
    if how in ("in_c", "in_a_regex"):
        assert saved in (0, 1), "what was not saved when the interpreter was blocked may be lost"
    else:
        assert saved == 1, "the finished item is saved"


@pytest.mark.parametrize(
    "how",
    [
        how
        for how in recovery_tasks.BLOCKS
        if how != "in_c"  # until the call returns no thread can run; the lease ends, and fencing keeps the job
    ],
)
def test_an_orphan_in_an_item_that_does_not_end_is_ended_too(
    how: str, processes: Processes, real_runner: Runner, tmp_path: Path
) -> None:
    """If this fails, a worker that is killed leaves a process behind that hangs until somebody finds it."""
    path = tmp_path / "items"
    grace = 2 * GRACE
    worker = processes.worker("--grace", str(grace), **BOTH)
    job = recovery_tasks.blocks.start(str(path), how)
    working(path, job, 2)
    below = descendants(worker.pid)

    with killed_in_the_end(below):
        worker.kill()
        eventually(lambda: gone(below[0]), within=grace + EXIT, what="the orphan is gone")

    stopped = job.refresh()
    assert stopped.crashes == 0
    if how != "in_a_regex":  # there the threads may not get their turn to let go: the lease does it for them
        assert (stopped.status, stopped.reason) == (Status.QUEUED, "shutdown")
        assert stopped.progress.done == 1


LEFT = (0, -signal.SIGTERM)
"""Exit codes of a worker whose work is settled: a signal may fall between its last line and its end."""

Send = Callable[[subprocess.Popen[bytes]], None]


def to_worker(worker: subprocess.Popen[bytes]) -> None:
    worker.send_signal(signal.SIGTERM)


def to_group(worker: subprocess.Popen[bytes]) -> None:
    os.killpg(worker.pid, signal.SIGTERM)


def to_all(worker: subprocess.Popen[bytes]) -> None:
    for pid in [worker.pid, *children(worker.pid)]:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)


def mixed(worker: subprocess.Popen[bytes]) -> None:
    """What a terminal, a service manager and an impatient person send together."""
    for sig in (signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGTERM):
        for pid in [worker.pid, *children(worker.pid)] if sig is not signal.SIGHUP else children(worker.pid):
            if sig is signal.SIGQUIT and pid == worker.pid:
                continue
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, sig)


@pytest.mark.parametrize("send", [to_worker, to_group, to_all, mixed], ids=lambda send: send.__name__)
def test_five_signals_at_once_are_one_shutdown(
    send: Send, processes: Processes, real_runner: Runner, tmp_path: Path
) -> None:
    """If this fails, a terminal and a service manager that both signal cost what one of them alone does not."""
    path = tmp_path / "items"
    worker = processes.worker("--grace", "10")
    job = tasks.items.start(str(path), 300, 0.02)
    working(path, job, 5)

    for _ in range(5):
        send(worker)

    assert worker.wait(5) in LEFT
    stopped = job.refresh()
    assert (stopped.status, stopped.reason, stopped.interruptions, stopped.crashes) == (
        Status.QUEUED,
        "shutdown",
        1,
        0,
    )
    assert stopped.progress.done == len(items_of(path, job.id))
    assert processes.connections() == []
    assert processes.client.llen("rq:queue:default") == 1, "one delivery, whatever was repeated"


@pytest.mark.parametrize("send", [to_worker, to_all], ids=lambda send: send.__name__)
@pytest.mark.parametrize("how", ["swallowing", "in_c"])
def test_a_fifth_signal_is_no_worse_than_a_second(
    how: str, send: Send, processes: Processes, real_runner: Runner, tmp_path: Path
) -> None:
    """If this fails, hammering Ctrl+C at a job that hangs loses it, or waits for the whole grace."""
    path = tmp_path / "items"
    worker = processes.worker("--grace", "60", **BOTH)
    job = recovery_tasks.blocks.start(str(path), how)
    working(path, job, 2)

    times = 0
    began = time.monotonic()
    while worker.poll() is None and time.monotonic() - began < 15:
        send(worker)
        times += 1
        with contextlib.suppress(subprocess.TimeoutExpired):
            worker.wait(0.3)

    assert worker.wait(0) in LEFT
    assert times > 2
    stopped = job.refresh()
    assert (stopped.status, stopped.reason, stopped.crashes) == (Status.QUEUED, "shutdown", 0)
    assert processes.client.llen("rq:queue:default") == 1
    assert stopped.progress.done == (1 if how == "swallowing" else stopped.progress.done)


def test_a_signal_in_the_last_moment_does_not_change_the_exit_code(
    processes: Processes, real_runner: Runner, tmp_path: Path
) -> None:
    """If this fails, an orchestrator that signals twice reports a failed stop where nothing failed."""
    worker = processes.worker("--grace", "10")
    limit = time.monotonic() + 10
    while worker.poll() is None and time.monotonic() < limit:
        worker.send_signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            worker.wait(0.001)
    assert worker.poll() == 0


def test_a_signal_to_the_horse_alone_hands_the_job_over(
    processes: Processes, real_runner: Runner, tmp_path: Path
) -> None:
    """If this fails, a signal to the wrong process fails a job or makes its worker useless."""
    path = tmp_path / "items"
    worker = processes.worker()
    job = tasks.items.start(str(path), 150)
    working(path, job, 5)
    (horse,) = children(worker.pid)

    for sig in (signal.SIGINT, signal.SIGHUP, signal.SIGQUIT):
        os.kill(horse, sig)
    working(path, job, 20)
    assert children(worker.pid) == [horse], "only its parent gives it orders, by SIGTERM"
    os.kill(horse, signal.SIGTERM)

    assert job.wait(20) == 150
    done = job.refresh()
    assert (done.attempts, done.interruptions, done.crashes) == (2, 1, 0)
    assert repeated(path) == 0
    assert worker.poll() is None


@pytest.mark.parametrize("how", ["os._exit(0)", "sys.exit(3)"])
def test_an_item_that_answers_a_stop_by_exiting_is_not_lost(
    how: str, processes: Processes, real_runner: Runner, tmp_path: Path
) -> None:
    """If this fails, a library that exits on a signal takes the job with it."""
    path = tmp_path / "items"
    worker = processes.worker("--grace", "5", **BOTH)
    job = recovery_tasks.leaves_when_stopped.start(str(path), how)
    working(path, job, 2)

    worker.send_signal(signal.SIGTERM)
    assert worker.wait(5) == 0

    stopped = job.refresh()
    if how == "sys.exit(3)":
        assert (stopped.status, stopped.error and stopped.error.type) == (Status.FAILED, "SystemExit")
        assert stopped.progress.done == 1
        stopped.retry()
    else:
        assert stopped.status is Status.QUEUED
    processes.worker("--burst", name="next", **BOTH)
    assert job.wait(10) == 3
    assert set(items_of(path)) == {"0", "1", "2"}


@pytest.mark.parametrize("code", [0, 3])
def test_a_task_that_always_exits_stops_in_the_end(
    code: int, processes: Processes, real_runner: Runner, tmp_path: Path
) -> None:
    """If this fails, a task that calls os._exit runs again and again, for ever."""
    path = tmp_path / "items"
    processes.worker(**BOTH)
    job = recovery_tasks.always_exits.start(str(path), code)
    other = tasks.items.start(str(path), 3)

    failed = eventually(lambda: job.refresh() if job.refresh().final else None)
    assert (failed.status, failed.reason) == (Status.FAILED, "crash loop")
    assert f"exited with code {code}" in failed.error.message
    assert "item 2" in failed.error.message, "it names where"
    assert other.wait(10) == 3
