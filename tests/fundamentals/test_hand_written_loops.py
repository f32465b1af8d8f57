"""`here()` and `save()`: safe places in loops that are written by hand."""

from __future__ import annotations

import pytest

from checkpoint_runner import Checkpoint, checkpointed, events
from tests.conftest import Worker, done


@checkpointed
def countdown(checkpoint: Checkpoint, n: int) -> None:
    checkpoint.state.setdefault("left", n)
    while checkpoint.state["left"] > 0:
        done.append(checkpoint.state["left"])
        checkpoint.state["left"] -= 1
        checkpoint.here()


@checkpointed
def saves_each_time(checkpoint: Checkpoint, n: int) -> None:
    while checkpoint.state.get("at", 0) < n:
        checkpoint.state["at"] = checkpoint.state.get("at", 0) + 1
        done.append(checkpoint.state["at"])
        checkpoint.save()


@checkpointed
def raises_between(checkpoint: Checkpoint) -> int:
    while checkpoint.state.get("at", 0) < 4:
        checkpoint.state["at"] = checkpoint.state.get("at", 0) + 1
        if checkpoint.state["at"] == 3 and checkpoint.attempt == 1:
            raise RuntimeError("before here()")
        done.append(checkpoint.state["at"])
        checkpoint.here()
    return len(done)


@checkpointed
def by_hand_behind_a_loop(checkpoint: Checkpoint) -> None:
    for number in checkpoint.each(range(3)):
        done.append(("each", number))
    while checkpoint.state.get("at", 0) < 3:
        checkpoint.state["at"] = checkpoint.state.get("at", 0) + 1
        done.append(("hand", checkpoint.state["at"]))
        checkpoint.here()
    for number in checkpoint.each(range(2), name="last"):
        done.append(("last", number))


@checkpointed
def here_before_the_loop(checkpoint: Checkpoint) -> None:
    checkpoint.here()
    for row in checkpoint.each(range(2)):
        for column in checkpoint.each(range(3), name="columns"):
            done.append((row, column))


@pytest.mark.parametrize("stop_after", [None, 1, 2])
@pytest.mark.parametrize("task", [countdown, saves_each_time], ids=["here", "save"])
def test_the_loop_goes_on_from_its_state(worker: Worker, task: object, stop_after: int | None) -> None:
    """A loop written by hand would begin again, or repeat a turn."""
    job = task.start(5)  # type: ignore[attr-defined]
    worker.run_until_idle(stop_after=stop_after)
    assert done == ([5, 4, 3, 2, 1] if task is countdown else [1, 2, 3, 4, 5])
    assert job.refresh().attempts == {None: 1, 1: 6, 2: 3}[stop_after]


def test_what_was_changed_since_here_is_dropped_by_an_exception(worker: Worker) -> None:
    """The turn that failed would count as done."""
    job = raises_between.start()
    worker.run()
    job.retry()
    worker.run()
    assert done == [1, 2, 3, 4]


@pytest.mark.parametrize("stop_after", [1, 2, 3, 4, 5, 7])
def test_together_with_each(worker: Worker, stop_after: int) -> None:
    """Loops of both kinds could not follow each other."""
    by_hand_behind_a_loop.start()
    worker.run_until_idle(stop_after=stop_after)
    assert done == [
        *(("each", number) for number in range(3)),
        *(("hand", number) for number in (1, 2, 3)),
        *(("last", number) for number in range(2)),
    ]


def test_here_before_a_resumed_loop_keeps_its_position(worker: Worker) -> None:
    """A safe place in front of a loop would send the loop back to its beginning."""
    here_before_the_loop.start()
    worker.run(stop_after=4)
    worker.run(stop_after=0)
    worker.run(stop_after=1)
    worker.run()
    assert done == [(row, column) for row in range(2) for column in range(3)]


def test_save_saves_now_and_here_only_when_it_is_due(worker: Worker, seen: list[events.Event]) -> None:
    """here() in a tight loop would cost a round trip each time, or save() would not keep its promise."""
    countdown.start(50)
    worker.run()
    assert sum(attempt.journal.saves for attempt in worker.attempts) <= 5
    saves_each_time.start(5)
    worker.run()
    assert worker.attempts[-1].journal.saves >= 5
