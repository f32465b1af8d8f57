"""A task called directly: here and now, in memory, by the same code."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from checkpoint_runner import Checkpoint, checkpointed
from checkpoint_runner.errors import CheckpointRunnerError, NotPossibleNow, UnstorableValue, WrongUse
from checkpoint_runner.runner import _default  # noqa: F401 - it must stay unused: no test here has a server
from tests.conftest import done


@dataclass
class Tally:
    rows: int = 0


@checkpointed
def everything(checkpoint: Checkpoint[Tally], n: int, *, factor: int = 1) -> int:
    """Doc of the task."""
    assert checkpoint.attempt == 1
    assert not checkpoint.resumed
    assert checkpoint.stopping is None
    base = checkpoint.step("base", lambda: 10)
    for row in checkpoint.each(range(n)):
        for column in checkpoint.each(range(n), name="columns"):
            checkpoint.state.rows += 1
            done.append((row, column))
        checkpoint.progress(message="row")
    checkpoint.here()
    checkpoint.save()
    return (base + checkpoint.state.rows) * factor


@checkpointed
def raises(checkpoint: Checkpoint) -> None:
    raise KeyError("own")


@checkpointed
def asks(checkpoint: Checkpoint) -> None:
    checkpoint.pause("a person is needed")


@checkpointed
def returns_what_cannot_be_stored(checkpoint: Checkpoint) -> object:
    return object()


@checkpointed
def calls_another(checkpoint: Checkpoint) -> list[int]:
    return [everything(number) for number in checkpoint.each(range(2))]


@checkpointed
def misuses(checkpoint: Checkpoint) -> None:
    for _ in checkpoint.each(range(2)):
        checkpoint.here()


@pytest.fixture(autouse=True)
def _no_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHECKPOINT_RUNNER_REDIS_URL", "redis://127.0.0.1:1/0")


def test_it_needs_no_server() -> None:
    """Unit tests and scripts of users would need a Redis."""
    assert everything(2) == 14
    assert everything(2, factor=2) == 28
    assert done == [(row, column) for row in range(2) for column in range(2)] * 2


def test_its_exceptions_are_its_own() -> None:
    """A unit test could not expect the exception that the function raises."""
    with pytest.raises(KeyError, match="own"):
        raises()


def test_a_wish_for_a_person_is_an_error() -> None:
    """A script would crash with a control flow exception that it can't catch."""
    with pytest.raises(NotPossibleNow, match="a person is needed"):
        asks()


def test_what_a_worker_would_refuse_is_refused() -> None:
    """A unit test would pass where the worker fails."""
    with pytest.raises(UnstorableValue, match="the result is of type object"):
        returns_what_cannot_be_stored()
    with pytest.raises(WrongUse, match=r"here\(\) was called inside an each\(\) item"):
        misuses()


def test_wrong_arguments_raise_what_python_raises() -> None:
    """A call with a missing argument would be answered in a confusing way."""
    with pytest.raises((TypeError, CheckpointRunnerError), match="n"):
        everything()  # type: ignore[call-arg]


def test_a_task_may_call_another() -> None:
    """Code that is shared between tasks could not be a task."""
    assert calls_another() == [10, 11]


def test_it_looks_like_the_function() -> None:
    """Documentation tools and tracebacks would show a nameless object."""
    assert everything.__doc__ == "Doc of the task."
    assert everything.__name__ == "everything"
    assert repr(everything) == f"<Task {everything.name}>"
