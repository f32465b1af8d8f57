"""What the type checker must know of the public face. Checked by mypy --strict; never run.

Each `type: ignore` is an error that the type checker must find: where it does not, the ignore
itself is one.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, assert_type

from checkpoint_runner import Checkpoint, Interruption, Job, Runner, ShutdownCoordinator, Status, Task, checkpointed
from checkpoint_runner.sources import lines
from checkpoint_runner.tasks import Call


@dataclass
class Tally:
    rows: int = 0


@checkpointed
def plain(checkpoint: Checkpoint, path: str, *, limit: int = 0) -> int:
    return limit


@checkpointed(queue="imports", save_every=timedelta(seconds=1), aliases=["old"], retention=60, max_crashes=2, version=2)
def with_state(checkpoint: Checkpoint[Tally], *paths: Path) -> list[str]:
    assert_type(checkpoint.state, Tally)
    checkpoint.state = Tally(1)
    checkpoint.state = {}  # type: ignore[assignment]
    return []


@checkpointed(name="nothing")
def nothing(checkpoint: Checkpoint) -> None:
    assert_type(checkpoint.state, dict[str, Any])
    assert_type(checkpoint.each([1, 2]), Iterator[int])
    assert_type(checkpoint.each(range(3), name="a"), Iterator[int])
    assert_type(checkpoint.each({"a": 1}), Iterator[str])
    assert_type(checkpoint.each(lines("x")), Iterator[str])
    assert_type(checkpoint.each(lambda: [1.5]), Iterator[float])
    assert_type(checkpoint.each(lambda: lines("x")), Iterator[str])
    assert_type(checkpoint.step("a", len, [1]), int)
    assert_type(checkpoint.stopping, Interruption | None)
    assert_type(checkpoint.idempotency_key("x"), str)
    assert_type(checkpoint.job_id, str)
    assert_type(checkpoint.attempt, int)
    assert_type(checkpoint.resumed, bool)
    checkpoint.progress(1, 2, "three")
    checkpoint.here()
    checkpoint.save()
    checkpoint.each(5)  # type: ignore[call-overload]
    checkpoint.each([1], "a")  # type: ignore[call-overload]


def tasks() -> None:
    assert_type(plain("x"), int)
    assert_type(plain.start("x", limit=3), Job[int])
    assert_type(plain.bind("x"), Call[int])
    assert_type(plain.options(key="a", delay=timedelta(1), labels={"a": "b"}).start("x"), Job[int])
    assert_type(plain.job("id"), Job[int])
    assert_type(with_state.start(Path("a"), Path("b")).wait(timeout=5), list[str])
    assert_type(with_state.start().result, list[str] | None)
    nothing.start()
    wanted: Task[[], None] = nothing
    wanted.start()


def mistakes(checkpoint: Checkpoint) -> None:
    plain.start()  # type: ignore[call-arg]
    plain.start(5)  # type: ignore[arg-type]
    plain.start("x", 3)  # type: ignore[call-arg]
    plain.start("x", limits=3)  # type: ignore[call-arg]
    plain.start(checkpoint, "x")  # type: ignore[call-arg,arg-type]
    plain(checkpoint, "x")  # type: ignore[call-arg,arg-type]
    plain.bind(5)  # type: ignore[arg-type]
    plain.options("key")  # type: ignore[call-arg]
    plain.options(priority=5)  # type: ignore[call-arg]
    with_state.start("x")  # type: ignore[arg-type]
    checkpointed(time_slice=5)  # type: ignore[call-overload]


def jobs(job: Job[int]) -> None:
    assert_type(job.status, Status)
    assert_type(job.wait(), int)
    assert_type(job.pause(), Job[int])
    assert_type(job.resume(), Job[int])
    assert_type(job.cancel("why"), Job[int])
    assert_type(job.retry(), Job[int])
    assert_type(job.refresh(), Job[int])
    assert_type(job.watch(), Iterator[Job[int]])
    assert_type(job.progress.done, int)
    assert_type(job.progress.total, int | None)
    job.status = Status.QUEUED  # type: ignore[misc]


def runners(runner: Runner) -> None:
    assert_type(runner.job("id"), Job[Any])
    assert_type(runner.jobs(status="queued"), list[Job[Any]])
    assert_type(runner.work("a", "b", burst=True), int)


def shutdown(path: Path) -> None:
    with ShutdownCoordinator(grace=25.0) as coordinator, path.open() as file:
        assert_type(coordinator.manage(path, close=lambda there: there.unlink()), Path)
        assert_type(coordinator.stopping, Interruption | None)
        coordinator.manage(file)
