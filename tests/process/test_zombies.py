"""Processes that were taken for dead and are not, that look dead and are not, and what a task leaves behind."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from checkpoint_runner import Job, Runner, Status
from checkpoint_runner.embedded import EmbeddedValkey
from tests.process import process_tasks as tasks
from tests.process import recovery_tasks
from tests.process.conftest import Processes, children, eventually, items_of, repeated

LEASE = 1.0
SHORT = {"CHECKPOINT_RUNNER_LEASE": str(LEASE)}
BOTH = {"CHECKPOINT_RUNNER_TASKS": "tests.process.process_tasks,tests.process.recovery_tasks"}

IMPATIENT = """
import sys
from checkpoint_runner import worker
from checkpoint_runner.console import start_logging
from checkpoint_runner.settings import Settings
from checkpoint_runner.worker_process import run_worker

worker.NO_LIFE = float(sys.argv[1])
start_logging()
run_worker(Settings.read(), ())
"""
"""A worker that waits for less than half a minute for a sign of life."""


def impatient_worker(processes: Processes, no_life: float, **environ: str) -> subprocess.Popen[bytes]:
    worker = processes.start(sys.executable, "-c", IMPATIENT, str(no_life), name="worker", **{**BOTH, **environ})
    eventually(processes.listening)
    return worker


def working(path: Path, job: Job[Any], least: int = 5) -> None:
    eventually(lambda: len(items_of(path, job.id)) >= least, what=f"job {job.id} works")


def gone(pid: int) -> bool:
    """Whether a process has ended, whoever is to reap it."""
    try:
        return Path(f"/proc/{pid}/stat").read_text("utf-8").rsplit(")", 1)[1].split()[0] in "ZX"
    except OSError:
        return True


def lines_of(path: Path, job: Job[Any]) -> list[tuple[str, int]]:
    """Return (item, attempt) in the order in which they were begun."""
    rows = [line.split(" ") for line in path.read_text("utf-8").splitlines()]
    return [(item, int(attempt)) for job_id, item, attempt in rows if job_id == job.id]


def late(path: Path, job: Job[Any]) -> int:
    """Return how many items an older attempt began after a newer one had begun its first."""
    newest, count = 0, 0
    for _, attempt in lines_of(path, job):
        count += attempt < newest
        newest = max(newest, attempt)
    return count


def send(sig: signal.Signals, *pids: int) -> None:
    for pid in pids:
        os.kill(pid, sig)


@contextlib.contextmanager
def thawed_in_the_end(*pids: int) -> Any:
    try:
        yield
    finally:
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)


def pass_time(seconds: float) -> None:
    until = time.monotonic() + seconds
    eventually(lambda: time.monotonic() > until, within=seconds + 5)


@pytest.mark.parametrize("busy", [False, True], ids=["items of 20 ms", "items back to back"])
def test_a_zombie_writes_nothing_and_ends_by_itself(
    busy: bool, processes: Processes, real_runner: Runner, tmp_path: Path
) -> None:
    """If this fails, a virtual machine that was paused and woke up runs a job that another one has taken over."""
    path = tmp_path / "items"
    old = processes.worker(name="old", **SHORT, **BOTH)
    job = recovery_tasks.back_to_back.start(str(path), 10**9) if busy else tasks.items.start(str(path), 400, 0.02)
    working(path, job)
    processes.worker(name="new", **SHORT, **BOTH)
    (horse,) = children(old.pid)

    with thawed_in_the_end(old.pid, horse):
        send(signal.SIGSTOP, old.pid, horse)
        frozen_at = time.monotonic()
        eventually(lambda: lines_of(path, job)[-1][1] == 2, what="another worker takes over")
        pass_time(3 * LEASE - (time.monotonic() - frozen_at))
        before = job.refresh()
        assert (before.status, before.attempts, before.lost, before.crashes) == (Status.RUNNING, 2, 1, 0)
        send(signal.SIGCONT, old.pid, horse)

        eventually(lambda: gone(horse), within=5, what="the old horse ends by itself")
    if busy:
        job.cancel()
        eventually(lambda: job.refresh().final)
    else:
        assert job.wait(30) == 400
    after = job.refresh()
    assert (after.attempts, after.lost, after.crashes, after.interruptions) == (2, 1, 0, 0)
    assert busy or late(path, job) <= 1, "no item but the one in flight"
    assert old.poll() is None
    assert "lease lost" in processes.log("old")
    again = tasks.items.start(str(path), 3)
    assert again.wait(10) == 3


def test_a_zombie_begins_nothing_before_it_knows_that_the_job_is_still_its(
    processes: Processes, real_runner: Runner, valkey: EmbeddedValkey, tmp_path: Path
) -> None:
    """If this fails, a process that slept for many leases goes on sending mails until Redis answers it."""
    path = tmp_path / "items"
    worker = processes.worker(**BOTH, CHECKPOINT_RUNNER_LEASE="1")
    job = recovery_tasks.seldom_saved.start(str(path), 100_000)
    working(path, job)
    (horse,) = children(worker.pid)

    assert valkey.pid is not None
    with thawed_in_the_end(worker.pid, horse, valkey.pid):
        send(signal.SIGSTOP, worker.pid, horse, valkey.pid)
        began = len(lines_of(path, job))
        pass_time(3)
        send(signal.SIGCONT, horse)
        pass_time(1)
        more = len(lines_of(path, job)) - began
    assert more <= 15, "what it does until its timer has looked, and not a second of items"


def test_a_lease_of_a_second_runs_out_too(processes: Processes, real_runner: Runner, tmp_path: Path) -> None:
    """If this fails, whoever sets a short lease to recover sooner does not recover at all."""
    path = tmp_path / "items"
    old = processes.worker(name="old", CHECKPOINT_RUNNER_LEASE="1")
    job = tasks.items.start(str(path), 100_000)
    working(path, job)
    processes.worker(name="new", CHECKPOINT_RUNNER_LEASE="1")
    (horse,) = children(old.pid)
    with thawed_in_the_end(old.pid, horse):
        send(signal.SIGSTOP, old.pid, horse)
        eventually(lambda: lines_of(path, job)[-1][1] == 2, within=5, what="another worker takes over")


def test_a_zombie_that_wakes_up_when_all_is_over_changes_nothing(
    processes: Processes, real_runner: Runner, tmp_path: Path
) -> None:
    """If this fails, a finished job is taken back by a process that slept through its end."""
    path = tmp_path / "items"
    old = processes.worker(name="old", **SHORT)
    job = tasks.items.start(str(path), 60, 0.02)
    working(path, job)
    (horse,) = children(old.pid)

    with thawed_in_the_end(old.pid, horse):
        send(signal.SIGSTOP, old.pid, horse)
        processes.worker(name="new", **SHORT)
        assert job.wait(20) == 60
        ended = job.refresh()
        send(signal.SIGCONT, horse, old.pid)
        eventually(lambda: gone(horse), within=5)

    assert job.refresh() == ended
    assert len(job.history()) == 5
    assert tasks.items.start(str(path), 3).wait(10) == 3
    assert old.poll() is None


def test_a_frozen_horse_is_killed_and_its_job_goes_on(
    processes: Processes, real_runner: Runner, tmp_path: Path
) -> None:
    """If this fails, a deadlocked or frozen process keeps its job for ever, since its worker renews the lease."""
    path = tmp_path / "items"
    worker = impatient_worker(processes, 2.0)
    job = tasks.items.start(str(path), 300)
    working(path, job)
    (horse,) = children(worker.pid)

    send(signal.SIGSTOP, horse)
    frozen_at = time.monotonic()
    eventually(lambda: lines_of(path, job)[-1][1] == 2, within=5)
    took = time.monotonic() - frozen_at

    assert 1.5 < took < 3.0, "two seconds without life, and one more"
    assert job.wait(15) == 300
    done = job.refresh()
    assert (done.attempts, done.crashes, done.lost) == (2, 1, 0)
    assert "shown no life" in processes.log("worker")


def test_a_pause_of_the_whole_machine_is_not_taken_for_a_frozen_horse(
    processes: Processes, real_runner: Runner, tmp_path: Path
) -> None:
    """If this fails, `docker pause` for a minute is counted as a crash of every job that runs in the container."""
    path = tmp_path / "items"
    worker = impatient_worker(processes, 1.5)
    job = tasks.items.start(str(path), 300)
    working(path, job)
    (horse,) = children(worker.pid)

    with thawed_in_the_end(worker.pid, horse):
        send(signal.SIGSTOP, worker.pid, horse)
        pass_time(2.5)
        send(signal.SIGCONT, worker.pid)
        pass_time(0.3)
        send(signal.SIGCONT, horse)

    assert job.wait(15) == 300
    assert (job.refresh().attempts, job.refresh().crashes) == (1, 0)
    assert repeated(path) == 0


@pytest.mark.parametrize("how", ["in_c", "in_a_regex"])
def test_a_horse_that_holds_the_gil_keeps_its_lease(
    how: str, processes: Processes, real_runner: Runner, tmp_path: Path
) -> None:
    """If this fails, a job with one slow regex is taken over, and run twice, again and again."""
    path = tmp_path / "items"
    processes.worker(**SHORT, **BOTH)
    processes.worker(name="idle", **SHORT, **BOTH)
    job = recovery_tasks.blocks.start(str(path), how, 3.5)

    assert job.wait(20) == 3
    done = job.refresh()
    assert (done.attempts, done.lost, done.crashes) == (1, 0, 0)
    assert repeated(path) == 0


@pytest.mark.parametrize(
    "server",
    [
        "is there",
        "is frozen",
    ],
)
def test_an_orphan_ends_inside_the_grace(
    server: str, processes: Processes, real_runner: Runner, valkey: EmbeddedValkey, tmp_path: Path
) -> None:
    """If this fails, each worker that is killed leaves a process behind that nobody can stop."""
    path = tmp_path / "items"
    worker = processes.worker("--grace", "2", **BOTH)
    job = tasks.items.start(str(path), 100_000)
    working(path, job)
    eventually(lambda: job.refresh().progress.done > 0)
    (horse,) = children(worker.pid)

    assert valkey.pid is not None
    with thawed_in_the_end(valkey.pid):
        if server == "is frozen":
            send(signal.SIGSTOP, valkey.pid)
            began = len(items_of(path))
            eventually(lambda: len(items_of(path)) == began or len(items_of(path)) > began + 150)
        worker.kill()
        eventually(lambda: gone(horse), within=3.5, what="the orphan is gone")
    assert job.refresh().progress.done > 0
    processes.worker(name="next", **BOTH)
    eventually(lambda: lines_of(path, job)[-1][1] == 2, what="somebody else goes on")
    assert job.refresh().lost == 0


def test_what_a_task_left_running_holds_nobody_up(processes: Processes, real_runner: Runner, tmp_path: Path) -> None:
    """If this fails, a forgotten thread or subprocess makes a worker hang at the end of a job."""
    path = tmp_path / "items"
    worker = processes.worker("--grace", "5", **BOTH)
    job = recovery_tasks.leaves_a_thread_and_a_subprocess.start(str(path), 10)
    left = []
    try:
        assert job.wait(10) == 10
        after = recovery_tasks.leaves_a_thread_and_a_subprocess.start(str(path), 1000)
        working(path, after, 10)
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(3) == 0
        assert after.refresh().status is Status.QUEUED
        assert after.refresh().progress.done == len(items_of(path, after.id)) - 1
        assert repeated(path) == 0
    finally:
        left += [int(item.removeprefix("child:")) for item in items_of(path) if item.startswith("child:")]
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def test_a_task_may_fork_and_both_may_use_redis(processes: Processes, real_runner: Runner, tmp_path: Path) -> None:
    """If this fails, `multiprocessing` in a task mixes up replies, or its child closes what is the parent's."""
    path = tmp_path / "items"
    worker = processes.worker("--grace", "5", **BOTH)
    job = recovery_tasks.forks.start(str(path), 40)
    assert job.wait(20) == 40
    assert repeated(path) == 0
    assert (job.refresh().attempts, job.refresh().crashes) == (1, 0)
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(3) == 0
    assert processes.connections() == []


FORKING_WEB = """
import os, sys
from tests.process import process_tasks as tasks

path = sys.argv[1]
first = tasks.items.options(key="before").start(path, 1)
pids = []
for child in range(4):
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            for number in range(50):
                key = f"{child}-{number}"
                job = tasks.items.options(key=key).start(path, 1)
                assert job.refresh().key == key and job.created, key
            assert first.refresh().key == "before"
            code = 0
        finally:
            os._exit(code)
    pids.append(pid)
codes = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids]
assert first.refresh().key == "before"
assert codes == [0] * 4, codes
"""


def test_a_fork_after_the_first_use_of_redis_mixes_nothing_up(processes: Processes, tmp_path: Path) -> None:
    """If this fails, gunicorn with --preload hands one request the job of another."""
    program = processes.start(sys.executable, "-c", FORKING_WEB, str(tmp_path / "items"), name="web", **BOTH)
    assert program.wait(20) == 0, processes.log("web")
    assert processes.client.zcard("ckpt:status:queued") == 201
