"""What a worker sees of its horse: signs of life, and how it ended."""

from __future__ import annotations

import os
import signal
import time

from checkpoint_runner import processes

UNSETTLED = os.EX_TEMPFAIL
"""Exit code of a horse that failed outside of its task, as when Redis went away before the claim: no crash."""


class HorseWatch:
    """What the parent has seen of one horse."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.seen_at = time.monotonic()
        self.renew_at = 0.0
        self._beaten_at = 0.0
        self._cpu = -1

    def shows_life(self, beaten_at: float) -> bool:
        """Whether the horse has beaten or used CPU since the last look (a long C call holds its threads up)."""
        cpu = processes.cpu_time(self.pid)
        alive = beaten_at != self._beaten_at or cpu != self._cpu
        self._beaten_at, self._cpu = beaten_at, cpu
        if alive:
            self.seen_at = time.monotonic()
        return alive


def pidfd(pid: int) -> int | None:
    """Return a descriptor that becomes readable when the process ends; None where there is no such thing."""
    try:
        return os.pidfd_open(pid)
    except (AttributeError, OSError):
        return None  # not Linux, or the horse is gone: the wait below will tell


def cause_of(status: int | None) -> tuple[str, str]:
    """Return what ended a process, by its wait status, for people and as a kind ("crash" or "exit")."""
    if status is None:
        return "ended unseen", "crash"
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        name = signal.Signals(number).name if number in signal.valid_signals() else "?"
        hint = ", perhaps out of memory" if number == signal.SIGKILL else ""
        return f"killed by signal {number} ({name}){hint}", "crash"
    code = os.WEXITSTATUS(status)
    return f"exited with code {code}", "exit" if code in (0, UNSETTLED) else "crash"
