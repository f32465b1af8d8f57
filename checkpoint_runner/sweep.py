"""The sweep: one look at the agenda drives recovery, lost deliveries, timers and removal."""

from __future__ import annotations

import logging
import time

from checkpoint_runner import processes
from checkpoint_runner.backend import Backend
from checkpoint_runner.errors import RedisTrouble
from checkpoint_runner.recovery import recover
from checkpoint_runner.statuses import FINAL, Status
from checkpoint_runner.store import Due

log = logging.getLogger(__name__)

MOST_DUE = 100
"""Jobs looked at per sweep."""

MOST_SEARCHES = 3
"""Searches of a queue's list per sweep: one at the end of 100,000 entries blocks the server for 2 ms."""


class Sweeper:
    """Sweeps now and then on behalf of everybody; of all sweepers one is elected each time."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self.pause = min(1.0, backend.settings.lease / 4)
        self._next = 0.0

    def sweep_if_due(self) -> None:
        """Sweep, unless this process did a moment ago. Trouble with the server is logged, not raised."""
        now = time.monotonic()
        if now < self._next:
            return
        self._next = now + self.pause
        try:
            self.sweep()
        except RedisTrouble as error:
            log.warning("The sweep is put off: %s", error)

    def sweep(self) -> int:
        """Do what is due and return how many jobs changed; 0 where somebody else has just swept.

        Raises RedisUnavailable or RedisRefused.
        """
        store = self._backend.store
        found = store.due(self.pause * 0.8, self._backend.settings.lease, MOST_DUE)
        if found is None:
            return 0
        may_expire, due = found
        changed = 0
        searches = MOST_SEARCHES
        for entry in due:
            outcome = self._look_at(entry, may_expire=may_expire, search=searches > 0)
            searches -= outcome == "searched"
            changed += outcome not in ("", "there", "searched", "refused")
        return changed + self._bury_the_dead()

    def _look_at(self, due: Due, *, may_expire: bool, search: bool) -> str:
        store = self._backend.store
        match due.status:
            case Status.RUNNING:
                outcome = store.expire(due) if may_expire else ""
            case Status.QUEUED:
                outcome = store.redeliver(due, search=search)
            case Status.WAITING:
                outcome = store.wake(due)
            case _ if due.status == "" or due.status in FINAL:
                outcome = store.remove(due.job_id, asked=False)
            case _:
                outcome = ""
        if outcome not in ("", "there", "searched", "refused"):
            log.info("Job %s was %s and due: %s", due.job_id, due.status or "without a hash", outcome)
        return outcome

    def _bury_the_dead(self) -> int:
        """Recover the running jobs whose holder lived on this machine and is proved dead."""
        store, buried = self._backend.store, 0
        for job_id in (entry.job_id for entry in store.ids(Status.RUNNING, limit=MOST_DUE)):
            found = store.read(job_id, ("holder", "attempt"))
            if found is None:
                continue
            holder, attempt = (value.decode("utf-8", "replace") for value in found[2].values())
            if not processes.proved_dead(holder):
                continue
            cause = "its process is gone from this machine"
            buried += recover(self._backend, job_id, int(attempt), holder.split("|")[0], cause, "crash") != "refused"
        return buried
