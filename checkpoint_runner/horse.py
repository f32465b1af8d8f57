"""What a worker sees of its horse: signs of life, and how it ended."""

from __future__ import annotations

import os
import signal
import threading
import time

from checkpoint_runner import processes
from checkpoint_runner.interruptions import Interruption
from checkpoint_runner.wakeup import leave_signals_to_main_thread

VERY_LAST = 0.98
"""The part of the grace after which a horse ends itself, settled or not."""

LATE, LAST_WORD = 0.05, 0.3
"""Seconds after which a thread counts as held up, and that one which was held up gets for the job's last word."""

UNSETTLED = os.EX_TEMPFAIL
"""Exit code of a horse that failed outside of its task, as when Redis went away before the claim: no crash."""


def end_by_force_after(interruption: Interruption) -> None:
    """In the horse, when it is asked to stop: end this process before its grace is over, whatever holds it up.

    Its parent does so earlier; this is for a horse that has none any more while the server does not answer.
    """
    at = time.monotonic() + VERY_LAST * interruption.seconds_left
    threading.Thread(target=_end_at, args=(at,), name="horse-end", daemon=True).start()


def _end_at(moment: float) -> None:
    leave_signals_to_main_thread()
    time.sleep(max(0.0, moment - time.monotonic()))
    if time.monotonic() - moment > LATE:
        time.sleep(LAST_WORD)  # the interpreter was blocked: the pulse, which lets go of the job, is as late
    os._exit(1)


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
