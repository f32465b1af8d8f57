"""Every key in Redis and every lifetime. No other module names one.

All keys are derived from two prefixes: the namespace (ours) and RQ's own. The scripts get
them in one fixed order (`Keys.of_job`), so that a script's KEYS header means the same everywhere.
"""

from __future__ import annotations

from dataclasses import dataclass

LEASE = 10.0
"""Seconds for which a claim holds without being renewed."""

GRACE = 25.0
"""Seconds from the first signal until every process is gone."""

RETENTION = 7 * 24 * 3600.0
"""Seconds for which a final job stays."""

DELIVERY_CHECK = 10.0
"""Seconds until a delivery that nobody claimed is looked for; doubled each time it was found."""

DELIVERY_CHECK_MOST = 600.0
"""The longest pause, in seconds, between two looks for one delivery."""

DECLINE_PAUSE = 5.0
"""Seconds until a declined job is delivered again."""

DECLINE_LIMIT = 600.0
"""Seconds after which a job that every worker declined is paused."""

DELIVERY_FAILURE_TTL = 60
"""Seconds for which RQ keeps a delivery that ended badly; the job itself lives elsewhere."""

FOREIGN_TTL = 365 * 24 * 3600
"""Seconds for which RQ lists an ordinary RQ job that was refused; its own default for failed jobs."""

RETENTION_NET = 24 * 3600.0
"""Extra seconds after which Redis itself drops a final job that no sweep removed."""

HISTORY_LENGTH = 100
"""Transitions remembered per job."""

NONCES = 8
"""Requests remembered per job, so that one that is sent again changes nothing."""


@dataclass(frozen=True, slots=True)
class Keys:
    """The names of all keys below one namespace, beside one RQ prefix."""

    namespace: str
    rq: str

    def of_job(self, job_id: str) -> list[str]:
        """Return the KEYS that every script of a job begins with.

        1 the job's hash, 2 its step results, 3 its history, 4 the agenda,
        5 the prefix of the status sets, 6 RQ's prefix, 7 what each queue's workers took last.
        """
        job = f"{self.namespace}:job:{job_id}"
        return [
            job,
            f"{job}:steps",
            f"{job}:history",
            self.agenda,
            f"{self.namespace}:status:",
            f"{self.rq}:",
            self.taken,
        ]

    def job(self, job_id: str) -> str:
        return f"{self.namespace}:job:{job_id}"

    def steps(self, job_id: str) -> str:
        return f"{self.namespace}:job:{job_id}:steps"

    def history(self, job_id: str) -> str:
        return f"{self.namespace}:job:{job_id}:history"

    def status(self, status: str) -> str:
        """The sorted set of the jobs in that status, by the moment they entered it."""
        return f"{self.namespace}:status:{status}"

    def key(self, task: str, key: str) -> str:
        """Holds the job that was started with that key. No task has a `/` in its name, so two never meet."""
        return f"{self.namespace}:key:{task}/{key}"

    def unique(self, task: str, unique: str) -> str:
        """Holds the live job of that name."""
        return f"{self.namespace}:unique:{task}/{unique}"

    def queue(self, queue: str) -> str:
        """RQ's list of deliveries."""
        return f"{self.rq}:queue:{queue}"

    def intermediate(self, queue: str) -> str:
        """RQ's list of deliveries that a worker popped and has not begun."""
        return f"{self.rq}:queue:{queue}:intermediate"

    def delivery(self, delivery: str) -> str:
        """RQ's hash of one delivery."""
        return f"{self.rq}:job:{delivery}"

    def started(self, queue: str) -> str:
        """RQ's registry of RQ jobs that are being executed."""
        return f"{self.rq}:wip:{queue}"

    def failed(self, queue: str) -> str:
        """RQ's registry of failed RQ jobs."""
        return f"{self.rq}:failed:{queue}"

    def worker(self, name: str) -> str:
        """RQ's hash of one worker."""
        return f"{self.rq}:worker:{name}"

    @property
    def queues(self) -> str:
        """RQ's set of the lists of all queues that were ever used."""
        return f"{self.rq}:queues"

    @property
    def agenda(self) -> str:
        """Sorted set: job id -> when to look at it next, in milliseconds."""
        return f"{self.namespace}:agenda"

    @property
    def taken(self) -> str:
        """Hash: queue -> "delivered_at taken_at" of the newest delivery that was claimed."""
        return f"{self.namespace}:taken"

    @property
    def sweep(self) -> str:
        """Hash: when the last sweep was, and until when nothing expires."""
        return f"{self.namespace}:sweep"
