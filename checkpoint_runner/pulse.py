"""The attempt's timer: tells when a save is due, keeps the lease, and saves when a long item holds up a shutdown."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from checkpoint_runner.control import Control
from checkpoint_runner.errors import RedisTrouble
from checkpoint_runner.interruptions import Interruption
from checkpoint_runner.journal import Journal
from checkpoint_runner.lease import RedisLease
from checkpoint_runner.wakeup import leave_signals_to_main_thread

log = logging.getLogger(__name__)

TICK = 0.1
"""Seconds between two looks."""

SAVE_AFTER_STOP = 0.3
"""Seconds after a stop request until the newest record is saved whatever the main thread does."""

LAST_RESORT = 0.9
"""The part of the grace after which a horse that did not stop lets go by itself; its parent, if any, ends it then."""


class Chore(Protocol):
    """Something else that this process does now and then while it runs a job."""

    def __call__(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Rhythm:
    """How often, in seconds."""

    save_every: float
    renew_every: float


class Pulse:
    """A daemon thread that looks after one attempt."""

    def __init__(
        self,
        lease: RedisLease,
        journal: Journal,
        control: Control,
        rhythm: Rhythm,
        *,
        heed: Callable[[str], None],
        chores: tuple[Chore, ...] = (),
        last_resort: Callable[[], None] | None = None,
    ) -> None:
        self._lease = lease
        self._journal = journal
        self._control = control
        self._rhythm = rhythm
        self._heed = heed
        self._chores = chores
        self._last_resort = last_resort
        self._renewed_at = time.monotonic()
        self._saved_for_stop = False
        self._pressed_for: Interruption | None = None
        self._pressed_at = 0.0
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, name="checkpoint-pulse", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """End the thread and wait for it, but not for a server that does not answer."""
        self._end.set()
        self._thread.join(timeout=5.0)

    def _run(self) -> None:
        leave_signals_to_main_thread()
        while not self._end.wait(TICK):
            try:
                self._beat(time.monotonic())
            except Exception:
                log.exception("The pulse of job %s stumbled and goes on", self._lease.job_id)

    def _beat(self, now: float) -> None:
        if self._lease.unanswered:
            self._control.raised = True  # told before it is asked: this process may have been frozen for a while
        for chore in self._chores:
            chore()
        if self._journal.dirty and now - self._journal.saved_at >= self._rhythm.save_every:
            self._control.raised = True
        if now - self._renewed_at >= self._rhythm.renew_every:
            self._renewed_at = now
            self._renew()
        self._press(now)

    def _renew(self) -> None:
        try:
            self._heed(self._lease.renew())
        except RedisTrouble as error:
            log.warning("The lease of job %s could not be renewed: %s", self._lease.job_id, error)
        if self._lease.unanswered:
            self._control.raised = True

    def _press(self, now: float) -> None:
        """The task was asked to stop and has not: save for it, and at the very end let go for it."""
        interruption = self._control.interruption
        if interruption is not self._pressed_for:  # another one, or withdrawn: its time begins now
            self._pressed_for, self._pressed_at, self._saved_for_stop = interruption, now, False
        if interruption is None:
            return
        if not self._saved_for_stop and now - self._pressed_at >= SAVE_AFTER_STOP:
            try:
                self._journal.save()
                self._saved_for_stop = True
            except RedisTrouble as error:
                log.warning("The newest checkpoint of job %s is not saved yet: %s", self._lease.job_id, error)
        if interruption.deadline is None or self._last_resort is None:
            return
        grace = interruption.deadline - self._pressed_at
        if now >= self._pressed_at + LAST_RESORT * grace:
            self._last_resort()
