"""Wrong use is told with what was found, what was expected, and what to do."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

from checkpoint_runner import Checkpoint, Interrupted, Status, checkpointed
from checkpoint_runner.errors import WrongUse
from tests.conftest import Worker, done

Wrong = Callable[[Checkpoint], Any]


def zipped(checkpoint: Checkpoint) -> None:
    for pair in zip(checkpoint.each(range(3)), checkpoint.each(range(3), name="b"), strict=False):
        done.append(pair)


def second_unnamed(checkpoint: Checkpoint) -> None:
    for _ in checkpoint.each(range(1)):
        pass
    for _ in checkpoint.each(range(1)):
        done.append("second")


def same_name_twice(checkpoint: Checkpoint) -> None:
    for _ in checkpoint.each(range(1), name="rows"):
        pass
    for _ in checkpoint.each(range(1), name="rows"):
        done.append("second")


def unnamed_inside(checkpoint: Checkpoint) -> None:
    for _ in checkpoint.each(range(1)):
        for _ in checkpoint.each(range(1)):
            done.append("inner")


def same_name_in_one_item(checkpoint: Checkpoint) -> None:
    for _ in checkpoint.each(range(1)):
        for _ in checkpoint.each(range(1), name="x"):
            pass
        for _ in checkpoint.each(range(1), name="x"):
            done.append("second")


def here_in_item(checkpoint: Checkpoint) -> None:
    for _ in checkpoint.each(range(1)):
        checkpoint.here()


def save_in_item(checkpoint: Checkpoint) -> None:
    for _ in checkpoint.each(range(1)):
        checkpoint.save()


def here_in_step(checkpoint: Checkpoint) -> None:
    checkpoint.step("a", checkpoint.here)


def each_in_step(checkpoint: Checkpoint) -> None:
    checkpoint.step("a", lambda: list(checkpoint.each(range(3))))


def step_in_step(checkpoint: Checkpoint) -> None:
    checkpoint.step("a", lambda: checkpoint.step("b", int))


def two_steps_of_one_name(checkpoint: Checkpoint) -> None:
    checkpoint.step("a", int)
    checkpoint.step("a", int)


def state_in_step(checkpoint: Checkpoint) -> None:
    def change() -> None:
        checkpoint.state["x"] = 1

    checkpoint.state["x"] = 0
    checkpoint.step("a", change)


def odd_loop_name(checkpoint: Checkpoint) -> None:
    checkpoint.each(range(3), name="new\nline")


def empty_loop_name(checkpoint: Checkpoint) -> None:
    checkpoint.each(range(3), name="")


def odd_step_name(checkpoint: Checkpoint) -> None:
    checkpoint.step("\x1b[31m", int)


def long_step_name(checkpoint: Checkpoint) -> None:
    checkpoint.step("x" * 10_000, int)


WRONG: dict[Wrong, tuple[str, str]] = {
    zipped: ("WrongUse", "each() must feed one `for`"),
    second_unnamed: ("WrongUse", 'each(source, name="rows")'),
    same_name_twice: ("WrongUse", "Two loops are named 'rows'"),
    unnamed_inside: ("WrongUse", "A loop inside another one needs a name"),
    same_name_in_one_item: ("WrongUse", "Two loops are named 'x'"),
    here_in_item: ("WrongUse", "here() was called inside an each() item"),
    save_in_item: ("WrongUse", "save() was called inside an each() item"),
    here_in_step: ("WrongUse", "here() was called inside the step 'a'"),
    each_in_step: ("WrongUse", "each() was called inside the step 'a'"),
    step_in_step: ("WrongUse", "steps don't nest"),
    two_steps_of_one_name: ("WrongUse", "Two steps are named 'a'"),
    state_in_step: ("WrongUse", "read-only inside a step"),
    odd_loop_name: ("WrongName", "The loop name 'new\\nline' can't be used; expected 1 to 200 printable"),
    empty_loop_name: ("WrongName", "The loop name '' can't be used"),
    odd_step_name: ("WrongName", "The step name '\\x1b[31m' can't be used"),
    long_step_name: ("WrongName", "can't be used; expected 1 to 200 printable"),
}
BY_NAME = {function.__name__: function for function in WRONG}


@checkpointed
def misuse(checkpoint: Checkpoint, how: str) -> None:
    BY_NAME[how](checkpoint)


@pytest.mark.parametrize("how", BY_NAME)
def test_misuse_fails_the_job_with_advice(worker: Worker, how: str) -> None:
    """Items would be lost silently, or the message would not say what to do."""
    job = misuse.start(how)
    assert worker.run() == "failed"
    error = job.refresh().error
    assert error is not None
    kind, part = WRONG[BY_NAME[how]]
    assert error.type == kind
    assert part in error.message
    assert len(error.message) < 500
    assert "second" not in done


def test_zip_is_found_out_before_anything_is_lost(worker: Worker) -> None:
    """zip() of two loops would lose items at a stop."""
    job = misuse.start("zipped")
    worker.run()
    assert done == [(0, 0)]
    assert job.refresh().status is Status.FAILED


@checkpointed
def in_a_thread(checkpoint: Checkpoint, verb: str) -> None:
    def use() -> None:
        try:
            match verb:
                case "state":
                    checkpoint.state["x"] = 1
                case "state=":
                    checkpoint.state = {}
                case "each":
                    checkpoint.each(range(3))
                case "step":
                    checkpoint.step("a", int)
                case "progress":
                    checkpoint.progress(1)
                case "pause":
                    checkpoint.pause("x")
                case "idempotency_key":
                    checkpoint.idempotency_key("x")
                case "stopping":
                    done.append(checkpoint.stopping)
                case _:
                    getattr(checkpoint, verb)()
        except (WrongUse, Interrupted) as error:
            done.append(str(error))

    thread = threading.Thread(target=use)
    thread.start()
    thread.join()


@pytest.mark.parametrize(
    "verb", ["state", "state=", "each", "step", "here", "save", "progress", "pause", "idempotency_key"]
)
def test_use_in_another_thread_is_refused(worker: Worker, verb: str) -> None:
    """Two threads would write into one position, and items would be lost at random."""
    in_a_thread.start(verb)
    assert worker.run() == "finished"
    assert len(done) == 1
    assert f"Checkpoint.{verb.rstrip('=')} was used in another process or thread" in done[0]


def test_a_thread_may_look_whether_to_stop(worker: Worker) -> None:
    """A thread pool inside an item could not be told to end early."""
    in_a_thread.start("stopping")
    assert worker.run() == "finished"
    assert done == [None]


@checkpointed
def walks_in_a_thread(checkpoint: Checkpoint) -> None:
    loop = checkpoint.each(range(3))

    def walk() -> None:
        try:
            done.extend(loop)
        except WrongUse as error:
            done.append(str(error))

    thread = threading.Thread(target=walk)
    thread.start()
    thread.join()


@checkpointed
def order(checkpoint: Checkpoint, swapped: bool = False) -> None:
    names = ["a", "b"]
    for name in reversed(names) if REORDERED else names:
        for number in checkpoint.each(range(3), name=name):
            done.append((name, number))


REORDERED: list[bool] = []


def test_loops_in_another_order_ask_for_a_person(worker: Worker) -> None:
    """After a release that changed the order of its loops, a job would do finished work again."""
    job = order.start()
    worker.run(stop_after=2)
    REORDERED.append(True)
    try:
        assert worker.run() == "paused"
        assert "The checkpoint stands in the loop 'a', but the task came to the loop 'b' first" in job.refresh().reason
        REORDERED.clear()
        job.refresh().resume()
        assert worker.run() == "finished"
    finally:
        REORDERED.clear()
    assert done == [(name, number) for name in "ab" for number in range(3)]
