"""A loop that is left by `break` is done when the task goes on; one left by an exception is open."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from checkpoint_runner import Checkpoint, checkpointed
from tests.conftest import Worker, done

trouble: list[Exception] = []


@pytest.fixture(autouse=True)
def _no_trouble() -> None:
    trouble.clear()


@checkpointed
def find_then_use(checkpoint: Checkpoint) -> None:
    for number in checkpoint.each(range(100)):
        done.append(("look", number))
        if number == 2:
            break
    for number in checkpoint.each(range(3), name="use"):
        done.append(("use", number))


@checkpointed
def inner_break(checkpoint: Checkpoint) -> None:
    for row in checkpoint.each(range(3)):
        for column in checkpoint.each(range(10), name="columns"):
            done.append((row, column))
            if column == row:
                break
    checkpoint.state["end"] = True


@checkpointed
def returns_inside(checkpoint: Checkpoint) -> str:
    for row in checkpoint.each(range(3)):
        for column in checkpoint.each(range(10), name="columns"):
            done.append((row, column))
            if (row, column) == (1, 3):
                return "found"
    return "not found"


@checkpointed
def survives_a_bad_row(checkpoint: Checkpoint) -> None:
    for row in checkpoint.each(range(3)):
        try:
            for column in checkpoint.each(range(4), name="columns"):
                if (row, column) == (1, 2):
                    raise ValueError("bad cell")
                done.append((row, column))
        except ValueError:
            done.append((row, "bad"))


def flaky() -> Iterator[int]:
    yield from range(3)
    if trouble:
        raise trouble.pop()
    yield from range(3, 5)


@checkpointed
def survives_a_bad_source(checkpoint: Checkpoint) -> None:
    try:
        for number in checkpoint.each(flaky()):
            done.append(("flaky", number))
    except OSError:
        done.append(("flaky", "over"))
    for number in checkpoint.each(range(4), name="rest"):
        done.append(("rest", number))


@checkpointed
def bad_source(checkpoint: Checkpoint) -> None:
    for number in checkpoint.each(flaky()):
        done.append(number)


@pytest.mark.parametrize("stop_after", [4, 5])
def test_the_loop_that_was_left_is_not_entered_again(worker: Worker, stop_after: int) -> None:
    """A search that found what it looked for would go on searching after a restart."""
    find_then_use.start()
    worker.run(stop_after=stop_after)
    worker.run()
    assert done == [("look", 0), ("look", 1), ("look", 2), ("use", 0), ("use", 1), ("use", 2)]


def test_a_stop_in_the_item_that_breaks(worker: Worker) -> None:
    """The item that leaves the loop would count as unfinished work and the loop as open."""
    find_then_use.start()
    worker.run(stop_after=3)
    worker.run()
    assert done == [("look", 0), ("look", 1), ("look", 2), ("use", 0), ("use", 1), ("use", 2)]


@pytest.mark.parametrize("stop_after", [None, 1, 2])
def test_an_inner_loop_left_by_break(worker: Worker, stop_after: int | None) -> None:
    """The next item's inner loop would not begin at its beginning."""
    inner_break.start()
    worker.run_until_idle(stop_after=stop_after)
    wanted = [(0, 0), (1, 0), (1, 1), (2, 0), (2, 1), (2, 2)]
    assert sorted(set(done)) == wanted
    if stop_after is None:
        assert done == wanted


def test_a_return_inside_two_loops_finishes_the_job(worker: Worker) -> None:
    """A task could not return early."""
    job = returns_inside.start()
    assert worker.run() == "finished"
    job = job.refresh()
    assert job.result == "found"
    assert job.progress.done == 1


def test_an_exception_that_the_task_handles_ends_only_the_inner_loop(worker: Worker) -> None:
    """One bad row would take the following rows with it."""
    survives_a_bad_row.start()
    assert worker.run() == "finished"
    assert done == [(0, 0), (0, 1), (0, 2), (0, 3), (1, 0), (1, 1), (1, "bad"), (2, 0), (2, 1), (2, 2), (2, 3)]


def test_a_source_that_breaks_and_is_handled_counts_as_left(worker: Worker) -> None:
    """The loop behind it would begin again after a restart, since it was taken for one inside it."""
    trouble.append(OSError("connection reset"))
    survives_a_bad_source.start()
    worker.run(stop_after=6)
    worker.run()
    assert done == [
        *(("flaky", number) for number in (0, 1, 2, "over")),
        *(("rest", number) for number in range(4)),
    ]


def test_a_source_that_breaks_fails_the_job_at_its_position(worker: Worker) -> None:
    """A dropped database connection in the source would cost what was done before."""
    trouble.append(OSError("connection reset"))
    job = bad_source.start()
    assert worker.run() == "failed"
    job.retry()
    assert worker.run() == "finished"
    assert done == [0, 1, 2, 3, 4]
