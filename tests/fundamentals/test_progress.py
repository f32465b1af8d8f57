"""Progress: counted by `each`, or told by the task; never ahead of the position."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from checkpoint_runner import Checkpoint, checkpointed
from tests.conftest import Worker, done


def unknown_length() -> Iterator[int]:
    yield from range(6)


@checkpointed
def counted(checkpoint: Checkpoint, sized: bool) -> None:
    for number in checkpoint.each(range(6) if sized else unknown_length()):
        done.append(number)


@checkpointed
def told(checkpoint: Checkpoint) -> None:
    checkpoint.progress(total=600, message="beginning")
    for number in checkpoint.each(range(6)):
        done.append(number)
        checkpoint.progress(done=(number + 1) * 100, message=f"after {number}")


@checkpointed
def only_told(checkpoint: Checkpoint) -> None:
    while checkpoint.state.get("at", 0) < 4:
        checkpoint.state["at"] = checkpoint.state.get("at", 0) + 1
        done.append(checkpoint.state["at"])
        checkpoint.progress(checkpoint.state["at"], 4, "by hand")
        checkpoint.here()


@checkpointed
def told_in_an_unfinished_item(checkpoint: Checkpoint) -> None:
    for number in checkpoint.each(range(3)):
        checkpoint.progress(done=(number + 1) * 10)
        if number == 1 and checkpoint.attempt == 1:
            raise RuntimeError("no")
        done.append(number)


ODD: dict[str, tuple[Any, Any, Any]] = {
    "half an item": (0.5, None, None),
    "text for a number": ("3", None, None),
    "half a total": (1, 2.5, None),
    "number for a message": (1, 2, 5),
    "object for a message": (1, 2, object()),
    "undecodable file name": (1, 2, "file caf\udce9.txt"),
}


@checkpointed
def odd(checkpoint: Checkpoint, kind: str) -> None:
    for number in checkpoint.each(range(3)):
        done.append(number)
        checkpoint.progress(*ODD[kind])


@pytest.mark.parametrize(("sized", "total"), [(True, 6), (False, None)])
def test_each_counts_by_itself(worker: Worker, sized: bool, total: int | None) -> None:
    """A progress bar would stand still in the simplest of tasks."""
    job = counted.start(sized)
    worker.run(stop_after=2)
    assert (job.refresh().progress.done, job.refresh().progress.total) == (2, total)
    worker.run(stop_after=2)
    assert (job.refresh().progress.done, job.refresh().progress.total) == (4, total)
    worker.run()
    assert (job.refresh().progress.done, job.refresh().progress.total) == (6, total)


def test_what_the_task_tells_takes_its_place(worker: Worker) -> None:
    """A task that counts bytes could not say so."""
    job = told.start()
    worker.run(stop_after=2)
    progress = job.refresh().progress
    assert (progress.done, progress.total, progress.message) == (200, 600, "after 1")
    assert job.refresh().message == "after 1"
    worker.run()
    progress = job.refresh().progress
    assert (progress.done, progress.total, progress.message) == (600, 600, "after 5")


def test_without_any_loop(worker: Worker) -> None:
    """A loop written by hand could not show how far it is."""
    job = only_told.start()
    worker.run(stop_after=2)
    progress = job.refresh().progress
    assert (progress.done, progress.total, progress.message) == (2, 4, "by hand")
    worker.run()
    assert job.refresh().progress.done == 4


def test_it_never_runs_ahead_of_the_position(worker: Worker) -> None:
    """A bar would show over 100 % after a failed item is done again."""
    job = told_in_an_unfinished_item.start()
    worker.run()
    assert job.refresh().progress.done == 10
    job.retry()
    worker.run()
    assert job.refresh().progress.done == 30


@pytest.mark.parametrize("kind", ODD)
def test_odd_values_never_cost_the_job_its_checkpoint(worker: Worker, kind: str) -> None:
    """A half item or a file name in a wrong encoding would make the job unreadable, or keep it running for ever."""
    job = odd.start(kind)
    worker.run(stop_after=2)
    worker.run()
    job = job.refresh()
    if job.status == "failed":
        assert job.error is not None
        assert job.error.type in ("WrongUse", "UnstorableValue")
    else:
        assert job.status == "finished"
        assert done == [0, 1, 2]
