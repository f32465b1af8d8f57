"""A CheckpointWorker and its horse under every signal that a deploy, a terminal or an operator sends."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from checkpoint_runner import Job, Runner, Status
from checkpoint_runner.embedded import EmbeddedValkey
from tests.process import process_tasks as tasks
from tests.process.conftest import Processes, children, eventually, items_of, repeated, send

Kill = Callable[[subprocess.Popen[bytes]], None]


def to_worker(sig: signal.Signals) -> Kill:
    return lambda worker: os.kill(worker.pid, sig)


def to_everybody(sig: signal.Signals) -> Kill:
    def kill(worker: subprocess.Popen[bytes]) -> None:
        send(sig, worker.pid, *children(worker.pid))

    return kill


def running_with(path: Path, job: Job, least: int = 5) -> None:
    eventually(lambda: len(items_of(path, job.id)) >= least, what=f"job {job.id} works")


@pytest.mark.parametrize(
    "kill",
    [
        pytest.param(to_worker(signal.SIGTERM), id="SIGTERM to the worker"),
        pytest.param(to_worker(signal.SIGINT), id="SIGINT to the worker"),
        pytest.param(to_everybody(signal.SIGTERM), id="SIGTERM to every process, as systemd does"),
        pytest.param(to_everybody(signal.SIGINT), id="SIGINT to every process, as a terminal does"),
    ],
)
def test_a_stopped_worker_pauses_its_job_and_the_next_one_goes_on(
    kill: Kill, processes: Processes, real_runner: Runner, tmp_path: Path
) -> None:
    """If this fails, a deploy loses work or does finished items again."""
    path = tmp_path / "items"
    worker = processes.worker("--grace", "10")
    job = tasks.items.start(str(path), 200)
    running_with(path, job)
    behind = tasks.items.start(str(path), 1)

    kill(worker)

    assert worker.wait(5) == 0
    stopped = job.refresh()
    assert (stopped.status, stopped.reason, stopped.interruptions) == (Status.QUEUED, "shutdown", 1)
    assert stopped.progress.done == len(items_of(path, job.id)), "the checkpoint is as of the last finished item"
    front, _ = processes.client.lrange("rq:queue:default", 0, -1)
    assert front.decode().startswith(job.id), "it goes on before what came later"
    assert processes.connections() == []

    processes.worker("--burst", name="next")
    assert job.wait(20) == 200
    assert behind.wait(20) == 1
    assert len(items_of(path, job.id)) == 200
    assert repeated(path) == 0
    assert job.refresh().crashes == 0


def test_a_second_signal_ends_it_now_and_still_loses_nothing(
    processes: Processes, real_runner: Runner, tmp_path: Path
) -> None:
    """If this fails, an impatient second Ctrl+C waits for the whole grace, or costs the job."""
    path = tmp_path / "items"
    worker = processes.worker("--grace", "60")
    job = tasks.outlasts_the_grace.start(str(path))
    running_with(path, job, 2)

    worker.send_signal(signal.SIGINT)
    eventually(lambda: "SIGINT received; stopping" in processes.log("worker"))
    eventually(lambda: _repeat(worker, processes), within=10)

    assert worker.wait(15) == 0
    stopped = job.refresh()
    assert (stopped.status, stopped.reason) == (Status.QUEUED, "shutdown")
    assert stopped.progress.done == 1
    assert stopped.crashes == 0


def _repeat(worker: subprocess.Popen[bytes], processes: Processes) -> bool:
    if worker.poll() is None:
        worker.send_signal(signal.SIGINT)
    return "received again" in processes.log("worker")


def test_an_item_that_outlasts_the_grace_is_ended_inside_it(
    processes: Processes, real_runner: Runner, tmp_path: Path
) -> None:
    """If this fails, an orchestrator kills the worker, and what it had not saved is gone."""
    path = tmp_path / "items"
    worker = processes.worker("--grace", "2")
    job = tasks.outlasts_the_grace.start(str(path))
    running_with(path, job, 2)

    worker.send_signal(signal.SIGTERM)

    assert worker.wait(2.5) == 0
    stopped = job.refresh()
    assert (stopped.status, stopped.reason, stopped.crashes) == (Status.QUEUED, "shutdown", 0)
    assert stopped.progress.done == 1, "the finished item is saved, although its successor never ended"


def test_a_long_item_can_see_the_stop_and_end_early(processes: Processes, real_runner: Runner, tmp_path: Path) -> None:
    """If this fails, `checkpoint.stopping` does not tell a long item that it should hurry."""
    path = tmp_path / "items"
    worker = processes.worker("--grace", "20")
    job = tasks.ends_early.start(str(path))
    running_with(path, job, 1)

    worker.send_signal(signal.SIGTERM)

    assert worker.wait(5) == 0
    assert "shutdown:True" in items_of(path)
    assert job.refresh().progress.done == 1


@pytest.mark.parametrize("how", ["os._exit(0)", "SIGKILL", "SIGSEGV"])
def test_a_horse_that_dies_is_a_crash_and_the_job_goes_on(
    how: str, processes: Processes, real_runner: Runner, tmp_path: Path
) -> None:
    """If this fails, an out-of-memory kill leaves the job standing still, or starts it from zero."""
    path = tmp_path / "items"
    processes.worker()
    job = tasks.exits.start(str(path), how)

    assert job.wait(10) == 4
    assert (job.refresh().crashes, job.refresh().attempts) == (1, 2)
    assert set(items_of(path)) == {"0", "1", "2", "3"}


def test_sys_exit_in_a_task_fails_the_job(processes: Processes, real_runner: Runner, tmp_path: Path) -> None:
    """If this fails, a task that calls sys.exit takes its worker down or runs again and again."""
    path = tmp_path / "items"
    processes.worker()
    job = tasks.exits.start(str(path), "sys.exit(3)")
    failed = eventually(lambda: job.refresh() if job.refresh().final else None)
    assert failed.status is Status.FAILED
    assert failed.error.type == "SystemExit"
    assert failed.retry().wait(10) == 4
    assert repeated(path) == 1, "the item that was cut off, and no finished one"


def test_a_job_that_kills_every_worker_fails_and_others_go_on(
    processes: Processes, real_runner: Runner, tmp_path: Path
) -> None:
    """If this fails, one poisonous item takes worker after worker down for ever."""
    path = tmp_path / "items"
    processes.worker()
    poison = tasks.always_dies.start(str(path))
    other = tasks.items.start(str(path), 3)

    failed = eventually(lambda: poison.refresh() if poison.refresh().final else None)
    assert (failed.status, failed.reason) == (Status.FAILED, "crash loop")
    assert "signal 9" in failed.error.message
    assert other.wait(10) == 3


def test_a_horse_without_a_parent_saves_and_hands_over(
    processes: Processes, real_runner: Runner, tmp_path: Path
) -> None:
    """If this fails, a killed worker leaves a zombie that goes on while another runs the same job."""
    path = tmp_path / "items"
    worker = processes.worker()
    job = tasks.items.start(str(path), 300)
    running_with(path, job)
    (horse,) = children(worker.pid)

    worker.kill()

    stopped = eventually(lambda: job.refresh() if job.refresh().status is Status.QUEUED else None, within=3)
    assert stopped.reason == "shutdown"
    eventually(lambda: not Path(f"/proc/{horse}").exists() or _is_zombie(horse))
    processes.worker("--burst", name="next")
    assert job.wait(20) == 300
    assert repeated(path) == 0


def _is_zombie(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text("utf-8").rsplit(")", 1)[1].split()[0] == "Z"
    except OSError:
        return True


def test_a_worker_and_horse_killed_together_cost_at_most_a_second_of_work(
    processes: Processes, real_runner: Runner, tmp_path: Path
) -> None:
    """If this fails, losing a machine loses more work than `save_every`."""
    path = tmp_path / "items"
    worker = processes.worker()
    job = tasks.items.start(str(path), 400)
    running_with(path, job, 150)

    for pid in [*children(worker.pid), worker.pid]:
        os.kill(pid, signal.SIGKILL)

    processes.worker(name="next")
    assert job.wait(20) == 400, "the state counts every item once, although some were begun twice"
    assert set(items_of(path)) == {str(item) for item in range(400)}
    assert repeated(path) <= 130, "one second of items of 10 ms, and what the machine adds"


def test_a_task_that_swallows_everything_is_interrupted_all_the_same(
    processes: Processes, real_runner: Runner, tmp_path: Path
) -> None:
    """If this fails, a bare except turns a deploy into a finished job that did half its work."""
    path = tmp_path / "items"
    worker = processes.worker("--grace", "10")
    job = tasks.swallows.start(str(path))
    running_with(path, job)

    worker.send_signal(signal.SIGTERM)

    assert worker.wait(10) == 0
    assert job.refresh().status is Status.QUEUED
    assert repeated(path) == 0


def test_a_subprocess_of_the_task_is_not_signalled(processes: Processes, real_runner: Runner, tmp_path: Path) -> None:
    """If this fails, a stop kills the converter that a task has just started, and the item fails."""
    path = tmp_path / "items"
    worker = processes.worker("--grace", "10")
    job = tasks.with_subprocess.start(str(path))
    running_with(path, job)

    worker.send_signal(signal.SIGTERM)

    assert worker.wait(10) == 0
    assert (job.refresh().status, job.refresh().error) == (Status.QUEUED, None)
    assert repeated(path) == 0


def test_a_frozen_server_does_not_hold_up_the_exit(
    processes: Processes, real_runner: Runner, valkey: EmbeddedValkey, tmp_path: Path
) -> None:
    """If this fails, a deploy during an outage hangs until the orchestrator kills everything."""
    path = tmp_path / "items"
    worker = processes.worker("--grace", "3")
    job = tasks.items.start(str(path), 100_000)
    running_with(path, job)
    assert valkey.pid is not None

    os.kill(valkey.pid, signal.SIGSTOP)
    try:
        worker.send_signal(signal.SIGTERM)
        worker.wait(3.5)
    finally:
        os.kill(valkey.pid, signal.SIGCONT)
    assert job.refresh().task.endswith("items"), "the server has the job, as of its last acknowledged save"


@pytest.mark.parametrize("queues", [("default",), ("default", "other")], ids=["one queue", "two queues"])
def test_a_stop_while_a_delivery_is_taken_strands_nothing(
    queues: tuple[str, ...], processes: Processes, real_runner: Runner, tmp_path: Path, race_runs: int
) -> None:
    """If this fails, a job that was started in the moment of a deploy waits for a sweep, or for ever."""
    path = tmp_path / "items"
    jobs = []
    for run in range(race_runs):
        worker = processes.worker(*queues, name=f"worker{run}")
        jobs.append(tasks.items.start(str(path), 2, 0.0))
        eventually_after(run % 9 / 1000)
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(5) == 0
        job = jobs[-1].refresh()
        waiting = processes.client.lrange("rq:queue:default", 0, -1)
        assert job.final or any(entry.decode().startswith(job.id) for entry in waiting), f"run {run}: stranded"
    processes.worker(*queues, "--burst", name="last")
    assert [job.wait(20) for job in jobs] == [2] * race_runs
    assert repeated(path) == 0


def eventually_after(seconds: float) -> None:
    """Let so much time pass: the race needs the signal at a moment, not at a condition."""
    import time

    limit = time.monotonic() + seconds
    while time.monotonic() < limit:
        pass
