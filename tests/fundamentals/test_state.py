"""`checkpoint.state`: what a task wants to find again, saved with its position."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from checkpoint_runner import Checkpoint, Job, checkpointed
from tests.conftest import Worker, done


@checkpointed
def count(checkpoint: Checkpoint, n: int) -> dict[str, Any]:
    for number in checkpoint.each(range(n)):
        done.append(number)
        checkpoint.state["rows"] = checkpoint.state.get("rows", 0) + 1
        checkpoint.state.setdefault("seen", []).append(number)
    return checkpoint.state


@dataclass
class Tally:
    rows: int = 0
    tags: set[str] = field(default_factory=set)
    last: datetime | None = None


@checkpointed
def tally(checkpoint: Checkpoint[Tally]) -> Tally:
    for number in checkpoint.each(range(4)):
        assert isinstance(checkpoint.state, Tally)
        done.append(number)
        checkpoint.state.rows += 1
        checkpoint.state.tags.add(f"tag {number % 2}")
        checkpoint.state.last = datetime(2024, 1, 1 + number, tzinfo=UTC)
    return checkpoint.state


class Totals(msgspec.Struct):
    rows: int = 0
    pair: tuple[int, str] = (0, "")


@checkpointed
def totals(checkpoint: Checkpoint[Totals]) -> Totals:
    for number in checkpoint.each(range(4)):
        done.append(number)
        checkpoint.state = Totals(checkpoint.state.rows + 1, (number, "x"))
    return checkpoint.state


@checkpointed
def a_number(checkpoint: Checkpoint[int]) -> int:
    for number in checkpoint.each(range(4)):
        done.append(number)
        checkpoint.state += 1
    return checkpoint.state


@checkpointed
def a_list(checkpoint: Checkpoint[list[int]]) -> list[int]:
    for number in checkpoint.each(range(4)):
        done.append(number)
        checkpoint.state.append(number)
    return checkpoint.state


@checkpointed
def a_plain_list(checkpoint: Checkpoint[list]) -> list:  # type: ignore[type-arg]
    for number in checkpoint.each(range(4)):
        done.append(number)
        checkpoint.state.append(number)
    return checkpoint.state


@dataclass
class NoDefaults:
    rows: int


@checkpointed
def no_defaults(checkpoint: Checkpoint[NoDefaults]) -> None:
    checkpoint.state.rows += 1


@checkpointed
def fails_in_an_item(checkpoint: Checkpoint, n: int) -> int:
    for number in checkpoint.each(range(n)):
        checkpoint.state["rows"] = checkpoint.state.get("rows", 0) + 1
        if number == 1 and checkpoint.attempt == 1:
            raise ConnectionError("the API is away")
        done.append(number)
    return checkpoint.state["rows"]  # type: ignore[no-any-return]


BAD: dict[str, Any] = {
    "object": object(),
    "tuple": (1, 2),
    "set": {1},
    "int key": {1: "a"},
    "nan": float("nan"),
    "datetime": datetime(2024, 1, 1, tzinfo=UTC),
    "bytes": b"x",
}


@checkpointed
def bad_from_the_first(checkpoint: Checkpoint, kind: str) -> None:
    for number in checkpoint.each(range(3)):
        done.append(number)
        checkpoint.state["deep"] = [{"value": BAD[kind]}]


@checkpointed
def bad_later(checkpoint: Checkpoint, kind: str) -> None:
    for number in checkpoint.each(range(5)):
        done.append(number)
        checkpoint.state["value"] = BAD[kind] if number >= 2 else number


@checkpointed
def reads_only_at_the_end(checkpoint: Checkpoint) -> int:
    for number in checkpoint.each(range(4)):
        done.append(number)
        if number == 0:
            checkpoint.state["first"] = "seen"
    return len(checkpoint.state)


@checkpointed
def reads_never_after_the_first(checkpoint: Checkpoint) -> None:
    if not checkpoint.resumed:
        checkpoint.state["token"] = "abc"
    for number in checkpoint.each(range(4)):
        done.append(number)
        if number == 3:
            done.append(checkpoint.state["token"])


@pytest.mark.parametrize("stop_after", [None, 1, 2, 3])
def test_a_dict(worker: Worker, stop_after: int | None) -> None:
    """Counts would be lost, or counted twice, because of a deploy."""
    job: Job[dict[str, Any]] = count.start(5)
    worker.run_until_idle(stop_after=stop_after)
    assert job.refresh().result == {"rows": 5, "seen": [0, 1, 2, 3, 4]}


@pytest.mark.parametrize("stop_after", [None, 1, 2])
def test_a_dataclass(worker: Worker, stop_after: int | None) -> None:
    """Typed state would come back as a plain dict, without its set and its datetime."""
    job = tally.start()
    worker.run_until_idle(stop_after=stop_after)
    assert job.refresh().result == Tally(4, {"tag 0", "tag 1"}, datetime(2024, 1, 4, tzinfo=UTC))


@pytest.mark.parametrize("stop_after", [None, 1, 2])
def test_a_struct_that_is_replaced(worker: Worker, stop_after: int | None) -> None:
    """Assigning a new state would not be noticed."""
    job = totals.start()
    worker.run_until_idle(stop_after=stop_after)
    assert job.refresh().result == Totals(4, (3, "x"))


def test_a_number(worker: Worker) -> None:
    """The smallest state of all, a counter, would not work."""
    job = a_number.start()
    worker.run_until_idle(stop_after=1)
    assert job.refresh().result == 4


@pytest.mark.parametrize("task", [a_list, a_plain_list], ids=["list[int]", "list"])
def test_a_list(worker: Worker, task: Any) -> None:
    """A state annotated as a list would begin as a dict."""
    job = task.start()
    worker.run_until_idle(stop_after=1)
    assert job.refresh().result == [0, 1, 2, 3]


def test_a_state_that_needs_arguments(worker: Worker) -> None:
    """The message would be Python's about __init__, without a word about what to do."""
    job = no_defaults.start()
    assert worker.run() == "failed"
    error = job.refresh().error
    assert error is not None
    assert error.type == "UnstorableValue"
    assert "Give every field a default" in error.message


@pytest.mark.parametrize("n", [2, 4])
def test_an_exception_in_an_item_after_a_change(worker: Worker, n: int) -> None:
    """retry() would count the item that failed twice."""
    job = fails_in_an_item.start(n)
    assert worker.run() == "failed"
    job.retry()
    assert worker.run() == "finished"
    assert done == list(range(n))
    assert job.refresh().result == n


@pytest.mark.parametrize("kind", BAD)
def test_what_cannot_be_stored_is_refused(worker: Worker, kind: str) -> None:
    """The state would silently come back as something else."""
    job = bad_from_the_first.start(kind)
    assert worker.run() == "failed"
    error = job.refresh().error
    assert error is not None
    assert error.type == "UnstorableValue"
    assert error.message.startswith("state.deep[0].value ")
    assert done == [0]


@pytest.mark.parametrize("kind", BAD)
def test_what_cannot_be_stored_is_refused_later_too(worker: Worker, kind: str) -> None:
    """A value that appears in a later item would be stored changed: a tuple as a list, the key 1 as "1"."""
    job = bad_later.start(kind)
    status = worker.run(stop_after=4)
    error = job.refresh().error
    assert status == "failed"
    assert error is not None
    assert error.type == "UnstorableValue"


@pytest.mark.parametrize("stop_after", [1, 2, 3])
def test_state_that_later_items_do_not_look_at(worker: Worker, stop_after: int) -> None:
    """State that an attempt never reads would be gone after it."""
    job = reads_only_at_the_end.start()
    worker.run_until_idle(stop_after=stop_after)
    assert job.refresh().result == 1


@pytest.mark.parametrize("stop_after", [1, 2])
def test_state_survives_attempts_that_never_read_it(worker: Worker, stop_after: int) -> None:
    """A token that the first attempt kept would be missing in the third."""
    reads_never_after_the_first.start()
    worker.run_until_idle(stop_after=stop_after)
    assert done == [0, 1, 2, 3, "abc"]


@checkpointed
def bad_then_raises(checkpoint: Checkpoint, kind: str) -> None:
    for number in checkpoint.each(range(4)):
        if number == 2 and checkpoint.attempt == 1:
            raise ConnectionError("the API is away")
        if checkpoint.attempt == 1:
            checkpoint.state[f"value {number}"] = BAD[kind] if number else 0
        else:
            done.append(checkpoint.state["value 1"])


@pytest.mark.parametrize("kind", BAD)
def test_a_change_in_a_later_item_is_refused_or_comes_back_the_same(worker: Worker, kind: str) -> None:
    """After an exception the task would find a list where it had put a tuple."""
    job = bad_then_raises.start(kind)
    worker.run()
    error = job.refresh().error
    assert error is not None
    assert error.type == "UnstorableValue"


@checkpointed
def reads_at_the_very_end(checkpoint: Checkpoint) -> str:
    if not checkpoint.resumed:
        checkpoint.state["token"] = "abc"
    for row in checkpoint.each(range(3)):
        for column in checkpoint.each(range(2), name="columns"):
            done.append((row, column))
        checkpoint.step("close", int)
    checkpoint.here()
    return str(checkpoint.state["token"])


@pytest.mark.parametrize("stop_after", [1, 2, 3])
def test_state_survives_loops_and_steps_that_never_read_it(worker: Worker, stop_after: int) -> None:
    """State would be written over with nothing by an attempt that has inner loops and steps but never looks at it."""
    job = reads_at_the_very_end.start()
    worker.run_until_idle(stop_after=stop_after)
    assert job.refresh().result == "abc"
