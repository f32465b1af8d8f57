"""One job of an experiment, under way, with the fault that comes to it."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager

from checkpoint_runner import events
from checkpoint_runner.attempt import Attempt
from checkpoint_runner.interruptions import Interruption, Reason
from checkpoint_runner.testing.bench import Bench
from checkpoint_runner.testing.faults import AT_SAVES, Fault, Kind, Storing, Struck, lost_reply
from checkpoint_runner.testing.rules import Rule
from checkpoint_runner.testing.watch import Watch


class Trial:
    """One job of an experiment, under way."""

    def __init__(self, bench: Bench, fault: Fault, watch: Watch) -> None:
        self.bench = bench
        self.fault = fault
        self.watch = watch
        self.statuses: list[str] = []
        self.safe_places = 0
        self.saves = 0

    def deliver(self) -> bool:
        """Run the next attempt; return whether there was one."""
        delivered = self.bench.deliver(self.attend, self.strike)
        if delivered is not None:
            self.statuses.append(delivered[1])
        return delivered is not None

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Hear of interruptions that the task swallowed."""
        unsubscribe = events.subscribe(self._hear)
        try:
            yield
        finally:
            unsubscribe()

    def _hear(self, event: events.Event) -> None:
        if isinstance(event, events.InterruptionSwallowed):
            seen = "the task caught the interruption and returned as if it had finished"
            self.watch.find(Rule.LET_PASS, self.watch.last, seen)

    def attend(self, attempt: Attempt) -> None:
        """Watch an attempt, and have it save at every safe place."""
        self.watch.attend(attempt)
        attempt.save_every_item(math.inf)
        attempt.course.attend = lambda: self._at_safe_place(attempt)

    def _at_safe_place(self, attempt: Attempt) -> None:
        self.safe_places += 1
        if self.fault.kind not in AT_SAVES and self.fault.comes(self.safe_places):
            self._begin_fault()
            match self.fault.kind:
                case Kind.SHUTDOWN:
                    grace = self.bench.backend.settings.grace
                    attempt.stop(Interruption(Reason.SHUTDOWN, time.monotonic() + grace))
                case Kind.EXCEPTION:
                    raise Struck("The test struck here: the source could not give the next item.")
                case Kind.DOUBLED_DELIVERY:
                    self.bench.deliver_again(attempt)
                case Kind.LOST_LEASE:
                    self.bench.clock.move(2 * self.bench.backend.settings.lease)
        attempt.attend()

    def strike(self, storing: Storing) -> str:
        """Store something, unless this is where the fault comes."""
        self.saves += 1
        if self.fault.kind not in AT_SAVES or not self.fault.comes(self.saves):
            return storing()
        self._begin_fault()
        if self.fault.kind is Kind.DEATH_BEFORE_SAVE:
            return self.bench.store.die()
        storing()
        if self.fault.kind is Kind.DEATH_AFTER_SAVE:
            return self.bench.store.die()
        raise lost_reply()

    def _begin_fault(self) -> None:
        self.fault.where = self.watch.last
