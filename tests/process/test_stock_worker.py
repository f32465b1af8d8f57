"""Deliveries under RQ's own workers, started as RQ's documentation starts them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from checkpoint_runner import Runner, Status
from tests.process import process_tasks as tasks
from tests.process.conftest import Processes, children, eventually, items_of, repeated, send

RQ = str(Path(sys.executable).with_name("rq"))


def stock_worker(processes: Processes, *arguments: str, name: str = "rq") -> subprocess.Popen[bytes]:
    return processes.start(RQ, "worker", "default", "--url", processes.url, *arguments, name=name)


@pytest.mark.parametrize(
    "worker_class",
    ["rq.worker.Worker", "rq.worker.SpawnWorker", "rq.worker.SimpleWorker"],
    ids=["fork", "spawn", "simple"],
)
def test_a_stock_worker_runs_a_job_to_its_end(
    worker_class: str, processes: Processes, real_runner: Runner, tmp_path: Path
) -> None:
    """If this fails, a team can't begin with the workers that it already has."""
    job = tasks.items.start(str(tmp_path / "items"), 5)
    stock_worker(processes, "--burst", "-w", worker_class).wait(20)
    assert job.wait(1) == 5
    assert processes.client.exists(f"rq:job:{job.id}-1-1") == 0, "the delivery is gone"
    assert processes.client.zcard("rq:failed:default") == 0
    assert "Traceback" not in processes.log("rq")


@pytest.mark.parametrize("to_all", [False, True], ids=["the worker", "every process"])
@pytest.mark.parametrize("worker_class", ["rq.worker.Worker", "rq.worker.SimpleWorker"], ids=["fork", "simple"])
def test_sigterm_pauses_the_job_at_the_next_safe_place(
    to_all: bool, worker_class: str, processes: Processes, real_runner: Runner, tmp_path: Path
) -> None:
    """If this fails, a stock worker's warm shutdown waits for the whole job, or fails it."""
    path = tmp_path / "items"
    job = tasks.items.start(str(path), 2000)
    worker = stock_worker(processes, "-w", worker_class)
    eventually(lambda: len(items_of(path)) > 5, what="the job works")
    behind = tasks.items.start(str(path), 1)

    send(signal.SIGTERM, worker.pid, *(children(worker.pid) if to_all else []))

    assert worker.wait(10) == 0
    stopped = job.refresh()
    assert (stopped.status, stopped.reason) == (Status.QUEUED, "shutdown")
    front, *_ = processes.client.lrange("rq:queue:default", 0, -1)
    assert front.decode().startswith(job.id), "it goes on before what came later"
    assert behind.refresh().status is Status.QUEUED
    eventually(lambda: processes.connections() == [], within=2)

    before = sum(items_of(path).values())
    second = stock_worker(processes, name="rq2")
    eventually(lambda: sum(items_of(path).values()) > before + 5, what="the job goes on")
    second.send_signal(signal.SIGTERM)
    assert second.wait(10) == 0
    assert repeated(path) == 0


def test_a_killed_stock_worker_costs_only_the_lease(processes: Processes, real_runner: Runner, tmp_path: Path) -> None:
    """If this fails, a job of a killed stock worker waits for RQ's own clean-up, which takes minutes."""
    path = tmp_path / "items"
    job = tasks.items.start(str(path), 300)
    worker = stock_worker(processes)
    eventually(lambda: len(items_of(path)) > 5, what="the job works")

    for pid in [*children(worker.pid), worker.pid]:
        os.kill(pid, signal.SIGKILL)

    processes.worker(name="ours")
    assert job.wait(20) == 300
    assert set(items_of(path)) == {str(item) for item in range(300)}
