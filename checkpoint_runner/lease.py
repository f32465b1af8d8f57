"""The right to advance one job: what an attempt may write, and where it goes."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Protocol

from checkpoint_runner.names import new_job_id
from checkpoint_runner.records import EncodedRecord
from checkpoint_runner.scripts import Argument
from checkpoint_runner.store import Store

STOPS = frozenset({"pause", "cancel"})
"""Answers that ask the attempt to stop."""


class Lease(Protocol):
    """What an attempt needs of the place where its job lives.

    The answers of `save`, `keep_step` and `renew` are a stop request ("pause" or "cancel"),
    "lost" or "gone" where the right has passed on, or anything else to go on.
    """

    job_id: str
    attempt: int

    @property
    def unanswered(self) -> bool: ...
    def save(self, record: EncodedRecord, passed: Sequence[str]) -> str: ...
    def step_result(self, path: str) -> bytes | None: ...
    def keep_step(self, path: str, result: bytes) -> str: ...
    def renew(self) -> str: ...
    def let_go(self, how: str, record: EncodedRecord, *details: Argument, until: float) -> str: ...


class RedisLease:
    """A lease on a job in Redis."""

    def __init__(self, store: Store, job_id: str, attempt: int, holder: str, seconds: float, *, kept: int = 0) -> None:
        self.job_id = job_id
        self.attempt = attempt
        self.seconds = seconds
        self._store = store
        self._holder = holder
        self._kept = kept
        self._answered = time.monotonic()

    @property
    def unanswered(self) -> bool:
        """Whether the server has not said for a whole lease that it is ours."""
        return time.monotonic() - self._answered > self.seconds

    def save(self, record: EncodedRecord, passed: Sequence[str]) -> str:
        return self._store.save(self.job_id, self.attempt, self._holder, record, passed)

    def step_result(self, path: str) -> bytes | None:
        return self._store.step_result(self.job_id, path)

    def keep_step(self, path: str, result: bytes) -> str:
        answer = self._store.keep_step(self.job_id, self.attempt, self._holder, path, result, self._kept + 1)
        self._kept += 1  # only once it was answered: the same result is sent again with the same number
        return answer

    def renew(self) -> str:
        asked = time.monotonic()
        answer = self._store.renew(self.job_id, self.attempt, self._holder, self.seconds)
        self._answered = asked
        return answer

    def let_go(self, how: str, record: EncodedRecord, *details: Argument, until: float) -> str:
        return self._store.let_go(how, self.job_id, self.attempt, self._holder, record, *details, until=until)


class MemoryLease:
    """A lease on a job that lives in this call only: a task called directly, without Redis."""

    def __init__(self) -> None:
        self.job_id = new_job_id()
        self.attempt = 1
        self.unanswered = False
        self._steps: dict[str, bytes] = {}

    def save(self, record: EncodedRecord, passed: Sequence[str]) -> str:
        for path in passed:
            self._steps.pop(path, None)
        return ""

    def step_result(self, path: str) -> bytes | None:
        return self._steps.get(path)

    def keep_step(self, path: str, result: bytes) -> str:
        self._steps[path] = result
        return ""

    def renew(self) -> str:
        return ""

    def let_go(self, how: str, record: EncodedRecord, *details: Argument, until: float) -> str:
        return how
