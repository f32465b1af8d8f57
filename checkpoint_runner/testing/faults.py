"""What can go wrong in an attempt, and a store through which it does."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from checkpoint_runner.errors import RedisUnavailable
from checkpoint_runner.records import EncodedRecord
from checkpoint_runner.scripts import Argument
from checkpoint_runner.store import Store


class Kind(StrEnum):
    """A kind of fault."""

    NONE = "no fault"
    SHUTDOWN = "shutdown"
    EXCEPTION = "exception"
    DEATH_BEFORE_SAVE = "process death before the save"
    DEATH_AFTER_SAVE = "process death after the save"
    LOST_REPLY = "lost reply"
    DOUBLED_DELIVERY = "doubled delivery"
    LOST_LEASE = "lost lease"


AT_SAVES = frozenset({Kind.DEATH_BEFORE_SAVE, Kind.DEATH_AFTER_SAVE, Kind.LOST_REPLY})
"""Kinds that strike when something is stored; the others strike at a safe place."""

CUTTING_OFF = frozenset({Kind.DEATH_BEFORE_SAVE, Kind.LOST_LEASE})
"""Kinds after which one item or step that had ended is done again, since nobody knows that it had."""


@dataclass
class Fault:
    """One fault: its kind, and at which point of the job (counted from 1) it comes.

    `where` says, once it has come, after which item or step that was.
    """

    kind: Kind
    point: int
    where: str = ""

    def comes(self, reached: int) -> bool:
        return reached == self.point and not self.where


Storing = Callable[[], str]
"""Something that an attempt is about to store; returns the server's answer."""


class Died(BaseException):
    """Stands for SIGKILL in the test's own process: it unwinds the task, and nothing is stored any more."""


class Struck(Exception):
    """What a source raises where a test asked for an exception."""


class FaultyStore(Store):
    """A store that does what a test asked for when the attempt that runs now stores something.

    `strike` is given each storing; it may carry it out, or not, or raise.
    """

    dead = False
    strike: Callable[[Storing], str]

    def revive(self, strike: Callable[[Storing], str] | None = None) -> None:
        """Begin a new process: alive, with faults of its own."""
        self.dead = False
        self.strike = strike or (lambda storing: storing())
        self._task_thread = threading.get_ident()

    def die(self) -> str:
        """Be dead from now on. Raises Died."""
        self.dead = True
        raise Died

    def save(self, job_id: str, attempt: int, holder: str, record: EncodedRecord, passed: Sequence[str]) -> str:
        return self._store(lambda: super(FaultyStore, self).save(job_id, attempt, holder, record, passed))

    def keep_step(self, job_id: str, attempt: int, holder: str, path: str, result: bytes, number: int) -> str:
        return self._store(lambda: super(FaultyStore, self).keep_step(job_id, attempt, holder, path, result, number))

    def let_go(
        self,
        how: str,
        job_id: str,
        attempt: int,
        holder: str,
        record: EncodedRecord,
        *details: Argument,
        until: float,
    ) -> str:
        go = super().let_go
        return self._store(lambda: go(how, job_id, attempt, holder, record, *details, until=until))

    def step_result(self, job_id: str, path: str) -> bytes | None:
        self._require_life()
        return super().step_result(job_id, path)

    def renew(self, job_id: str, attempt: int, holder: str, lease: float) -> str:
        self._require_life()
        return super().renew(job_id, attempt, holder, lease)

    def _store(self, storing: Storing) -> str:
        self._require_life()
        return self.strike(storing) if threading.get_ident() == self._task_thread else storing()

    def _require_life(self) -> None:
        if self.dead:  # to the attempt's own thread, which Died must not end with a message, the server is away
            raise Died if threading.get_ident() == self._task_thread else lost_reply()


def lost_reply() -> RedisUnavailable:
    """Return what a request raises whose reply never came."""
    return RedisUnavailable("The reply was lost on its way.")
