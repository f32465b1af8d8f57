"""`stopping`, and what happens where a task swallows its interruption."""

from __future__ import annotations

from typing import Any

import pytest

from checkpoint_runner import Checkpoint, Interrupted, Interruption, Task, checkpointed, events
from checkpoint_runner.interruptions import Reason
from tests.conftest import Worker, done


@checkpointed
def long_item(checkpoint: Checkpoint) -> None:
    for number in checkpoint.each(range(2)):
        for part in range(1000):
            if number == 0 and part == 3:
                done.append("asked")
            stopping = checkpoint.stopping
            if stopping is not None:
                done.append((part, stopping.reason, 0 < stopping.seconds_left <= 20))
                break


@checkpointed
def only_exceptions(checkpoint: Checkpoint) -> None:
    for number in checkpoint.each(range(5)):
        done.append(number)
        try:
            checkpoint.step("work", int)
        except Exception:
            done.append("swallowed")


@checkpointed
def bare_around_the_loop(checkpoint: Checkpoint) -> str:
    try:
        for number in checkpoint.each(range(5)):
            done.append(number)
    except:  # noqa: E722
        pass
    return "as if it was through"


@checkpointed
def bare_then_here(checkpoint: Checkpoint) -> None:
    try:
        for number in checkpoint.each(range(5)):
            done.append(number)
            checkpoint.step("work", int)
    except:  # noqa: E722
        pass
    checkpoint.here()


@checkpointed
def bare_then_here_without_steps(checkpoint: Checkpoint) -> None:
    try:
        for number in checkpoint.each(range(5)):
            done.append(number)
    except:  # noqa: E722
        pass
    checkpoint.here()


@checkpointed
def bare_then_another_loop(checkpoint: Checkpoint) -> None:
    try:
        for number in checkpoint.each(range(5)):
            done.append(number)
            checkpoint.step("work", int)
    except:  # noqa: E722
        pass
    for _ in checkpoint.each(range(1), name="second"):
        pass


@checkpointed
def bare_around_nested_loops(checkpoint: Checkpoint) -> None:
    try:
        for row in checkpoint.each(range(2)):
            for column in checkpoint.each(range(3), name="columns"):
                done.append(row * 3 + column)
    except:  # noqa: E722
        pass
    checkpoint.save()


@checkpointed
def bare_and_again(checkpoint: Checkpoint) -> None:
    for _ in range(3):
        try:
            for number in checkpoint.each(range(5)):
                done.append(number)
        except:  # noqa: E722
            continue
        break


@checkpointed
def bare_inside_the_item(checkpoint: Checkpoint) -> None:
    for number in checkpoint.each(range(5)):
        try:
            done.append("at work") if number == 1 and checkpoint.attempt == 1 else None
            checkpoint.step("work", done.append, number)
        except:  # noqa: E722
            pass


@checkpointed
def turns_it_into_an_error(checkpoint: Checkpoint) -> None:
    try:
        for number in checkpoint.each(range(5)):
            done.append(number)
    except BaseException as error:
        raise RuntimeError("the import broke off") from error


@checkpointed
def cleans_up_badly(checkpoint: Checkpoint) -> None:
    try:
        for number in checkpoint.each(range(5)):
            done.append(number)
    finally:
        if checkpoint.stopping:
            raise ConnectionError("rollback on a closed connection")


@checkpointed
def cleans_up(checkpoint: Checkpoint) -> None:
    try:
        for number in checkpoint.each(range(5)):
            done.append(number)
    except Interrupted:
        done.append("cleaned up")
        raise


@checkpointed
def swallows_its_pause(checkpoint: Checkpoint) -> None:
    try:  # noqa: SIM105
        checkpoint.pause("look at this")
    except:  # noqa: E722
        pass
    done.append("went on")
    checkpoint.here()
    done.append("and on")


@checkpointed
def exits(checkpoint: Checkpoint) -> None:
    for number in checkpoint.each(range(3)):
        if number == 1 and checkpoint.attempt == 1:
            raise SystemExit(3)
        done.append(number)


@checkpointed
def is_interrupted_from_the_keyboard(checkpoint: Checkpoint) -> None:
    for number in checkpoint.each(range(3)):
        if number == 1 and checkpoint.attempt == 1:
            raise KeyboardInterrupt
        done.append(number)


SWALLOWING: list[Task[[], Any]] = [
    bare_around_the_loop,
    bare_then_here,
    bare_then_here_without_steps,
    bare_then_another_loop,
    bare_around_nested_loops,
    bare_and_again,
    turns_it_into_an_error,
    cleans_up_badly,
]


def test_a_long_item_can_see_the_stop(worker: Worker) -> None:
    """An item that takes minutes could not end in time and would be killed."""
    long_item.start()
    worker.run(stop_after=1)
    assert done[:2] == ["asked", (3, Reason.SHUTDOWN, True)]


def test_except_exception_does_not_catch_it(worker: Worker) -> None:
    """Ordinary error handling inside an item would swallow every deploy."""
    only_exceptions.start()
    assert worker.run(stop_after=2) == "queued"
    assert done == [0, 1]
    worker.run()
    assert done == [0, 1, 1, 2, 3, 4]


def test_a_task_can_clean_up(worker: Worker) -> None:
    """A temporary file could not be removed at a stop."""
    cleans_up.start()
    assert worker.run(stop_after=2) == "queued"
    worker.run()
    assert done == [0, 1, "cleaned up", 2, 3, 4]


@pytest.mark.parametrize("stop_after", [1, 2, 4])
@pytest.mark.parametrize("task", SWALLOWING, ids=lambda task: task.name.rpartition(".")[2])
def test_an_interruption_that_is_swallowed_is_an_interruption(
    worker: Worker, task: Task[[], Any], stop_after: int
) -> None:
    """A bare `except` would turn a deploy into a failed job, or into a finished one that lacks half of its items."""
    job = task.start()
    status = worker.run(stop_after=stop_after)
    assert status == "queued", job.refresh().error
    assert worker.run() == "finished"
    assert list(dict.fromkeys(done)) == list(range(6 if task is bare_around_nested_loops else 5))


def test_an_item_whose_interruption_was_swallowed_is_not_finished(worker: Worker) -> None:
    """The item would count as done although its step never ran."""
    bare_inside_the_item.start()
    worker.run(stop_after=2)
    worker.run()
    assert [entry for entry in done if entry != "at work"] == [0, 1, 2, 3, 4]


def test_a_swallowed_interruption_is_told(worker: Worker, seen: list[events.Event]) -> None:
    """Nobody would learn that the task's error handling is in the way."""
    bare_around_the_loop.start()
    worker.run(stop_after=1)
    assert any(isinstance(event, events.InterruptionSwallowed) for event in seen)


def test_a_swallowed_wish_for_a_person_is_raised_again(worker: Worker) -> None:
    """pause() promises never to return; the task would go on with what it wanted a person for."""
    job = swallows_its_pause.start()
    assert worker.run() == "paused"
    assert job.refresh().reason == "look at this"
    assert "and on" not in done


def test_sys_exit_in_a_task_is_a_failure(worker: Worker) -> None:
    """A library that calls sys.exit() would end the worker, and the job with it."""
    job = exits.start()
    assert worker.run() == "failed"
    error = job.refresh().error
    assert error is not None
    assert (error.type, error.message) == ("SystemExit", "3")


def test_a_keyboard_interrupt_is_not_a_failure(worker: Worker) -> None:
    """Ctrl+C on a script that calls runner.work() would mark the job failed and go on with the next one."""
    job = is_interrupted_from_the_keyboard.start()
    with pytest.raises(KeyboardInterrupt):
        worker.run()
    assert job.refresh().status == "queued"


def test_a_lost_lease_ends_the_attempt_without_a_word(worker: Worker, seen: list[events.Event]) -> None:
    """A worker that was away too long would write over what its successor does."""
    job = only_exceptions.start()
    assert worker.run(stop_after=2, reason=Reason.LEASE_LOST) == "lost"
    ended = [event for event in seen if isinstance(event, events.AttemptEnded)]
    assert (ended[0].status, ended[0].reason) == ("lost", "lease lost")
    assert job.refresh().status == "running"


def test_a_more_pressing_request_takes_over(worker: Worker) -> None:
    """A shutdown that comes after a pause request would wait without an end."""
    only_exceptions.start()

    def ask_thrice(attempt: Any) -> None:
        attempt.stop(Interruption(Reason.PAUSE))
        attempt.stop(Interruption(Reason.SHUTDOWN, 1e12))
        attempt.stop(Interruption(Reason.CANCEL))
        assert attempt.checkpoint.stopping.reason is Reason.SHUTDOWN

    assert worker.run_and(ask_thrice, after=1) == "queued"
