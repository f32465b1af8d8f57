"""Requests to stop at the next safe place, and the control flow that carries them."""

from __future__ import annotations

import time
from dataclasses import dataclass
from enum import StrEnum


class Reason(StrEnum):
    """Why an attempt is asked to stop."""

    SHUTDOWN = "shutdown"
    PAUSE = "pause"
    CANCEL = "cancel"
    LEASE_LOST = "lease lost"
    JOB_LOST = "job lost"


LOST = frozenset({Reason.LEASE_LOST, Reason.JOB_LOST})
"""Reasons after which the attempt has nothing to let go of."""


@dataclass(frozen=True, slots=True)
class Interruption:
    """A request to stop at the next safe place.

    `deadline` is a moment of `time.monotonic()`, or None where nothing presses.
    """

    reason: Reason
    deadline: float | None = None

    @property
    def seconds_left(self) -> float:
        """Seconds until the process must be gone; infinite where nothing presses."""
        if self.deadline is None:
            return float("inf")
        return max(0.0, self.deadline - time.monotonic())


class Interrupted(BaseException):
    """Unwinds a task at a safe place. Let it pass: the job goes on from its checkpoint later.

    It derives from BaseException for the reason that KeyboardInterrupt does: an
    `except Exception` must not swallow it. Where a bare `except` does, the next safe
    place raises it again.
    """

    def __init__(self, interruption: Interruption) -> None:
        super().__init__(interruption.reason.value)
        self.interruption = interruption


class LeaseLost(Interrupted):
    """Unwinds a task whose job is another process's by now, or is no longer on the server: nothing that
    it does can be stored any more."""


class PauseWanted(BaseException):
    """Unwinds a task that asked for a person with `checkpoint.pause(reason)`."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason
