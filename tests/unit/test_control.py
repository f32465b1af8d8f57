"""Requests to stop: which one counts, and until when it can be taken back."""

from __future__ import annotations

from typing import Any

import pytest

from checkpoint_runner import Checkpoint, checkpointed
from checkpoint_runner.attempt import Attempt
from checkpoint_runner.control import Control
from checkpoint_runner.interruptions import Interrupted, Interruption, Reason
from checkpoint_runner.lease import MemoryLease


@checkpointed
def nothing(checkpoint: Checkpoint) -> None:
    pass


@pytest.fixture
def attempt() -> Attempt:
    return Attempt(nothing.spec, MemoryLease(), None, kept_steps=False)


def test_the_more_pressing_request_wins(attempt: Attempt) -> None:
    """A shutdown would wait behind a pause that has no deadline."""
    control = attempt.control
    assert control.request(Interruption(Reason.PAUSE))
    assert control.raised
    assert not control.request(Interruption(Reason.PAUSE))
    assert control.request(Interruption(Reason.CANCEL))
    assert control.request(Interruption(Reason.SHUTDOWN, 5.0))
    assert not control.request(Interruption(Reason.CANCEL))
    assert control.request(Interruption(Reason.LEASE_LOST))
    with pytest.raises(Interrupted) as caught:
        attempt.attend()
    assert caught.value.interruption.reason is Reason.LEASE_LOST


def test_nothing_asked_nothing_thrown(attempt: Attempt) -> None:
    """A save that is due would stop the job."""
    attempt.control.raised = True
    attempt.attend()
    assert not attempt.control.raised


def test_a_request_can_be_taken_back(attempt: Attempt) -> None:
    """A pause that was taken back would stop the job all the same."""
    attempt.stop(Interruption(Reason.PAUSE))
    attempt.control.withdraw(Reason.CANCEL)
    assert attempt.checkpoint.stopping is not None
    attempt.control.withdraw(Reason.PAUSE)
    attempt.attend()


def test_a_request_that_was_thrown_cannot_be_taken_back(attempt: Attempt) -> None:
    """A task that is half unwound would go on, in whatever state it is."""
    attempt.stop(Interruption(Reason.PAUSE))
    for _ in range(3):
        with pytest.raises(Interrupted):
            attempt.attend()
        attempt.control.withdraw(Reason.PAUSE)


def test_a_withdrawal_in_the_very_moment_does_no_harm(attempt: Attempt) -> None:
    """A pause that the pulse withdraws while the task looks at it would fail the job with an AttributeError."""

    class Racing(Control):
        """Withdrawn by another thread right behind the first look."""

        __slots__ = ("asked",)

        def __getattribute__(self, name: str) -> Any:
            value = object.__getattribute__(self, name)
            if name == "interruption":
                object.__setattr__(self, "interruption", None)
            return value

    racing = Racing()
    racing.interruption = Interruption(Reason.PAUSE)
    racing.raised = True
    attempt.control = attempt.course.control = racing
    try:
        attempt.attend()
    except Interrupted as stop:
        assert stop.interruption.reason is Reason.PAUSE  # noqa: PT017 - either is right: stopped, or withdrawn
