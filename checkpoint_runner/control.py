"""The one flag that the hot path tests, and the request to stop behind it."""

from __future__ import annotations

from typing import NoReturn

from checkpoint_runner.interruptions import Interrupted, Interruption, PauseWanted, Reason

_URGENCY = (Reason.PAUSE, Reason.CANCEL, Reason.SHUTDOWN, Reason.LEASE_LOST, Reason.JOB_LOST)


class Control:
    """Tells an attempt that the next safe place has something to do. Any thread may call it."""

    __slots__ = ("interruption", "raised", "thrown")

    def __init__(self) -> None:
        self.raised = False
        self.interruption: Interruption | None = None
        self.thrown: Interrupted | PauseWanted | None = None

    def request(self, interruption: Interruption) -> bool:
        """Ask the attempt to stop; a more pressing request takes the place of an earlier one.

        Return whether this one did. What becomes of the job is decided by its hash in Redis, not by
        which request came first.
        """
        present = self.interruption
        if present is not None and _URGENCY.index(present.reason) >= _URGENCY.index(interruption.reason):
            return False
        self.interruption = interruption
        self.raised = True
        return True

    def withdraw(self, reason: Reason) -> None:
        """Take a request back that no safe place has honoured yet."""
        present = self.interruption  # read once: another thread may ask for something more pressing meanwhile
        if present is not None and present.reason is reason and self.thrown is None:
            self.interruption = None

    def throw_if_thrown(self) -> None:
        """Raise again what the task caught and was not to catch: nothing that it does since then counts."""
        if self.thrown is not None:
            raise self.thrown

    def throw(self, control_flow: Interrupted | PauseWanted) -> NoReturn:
        """Unwind the task."""
        self.raised = True
        self.thrown = control_flow
        raise control_flow
