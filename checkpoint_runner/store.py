"""The transitions, as Python calls: one method per Lua script, nothing else speaks to the job keys."""

from __future__ import annotations

import secrets
import time
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import redis

from checkpoint_runner import keys
from checkpoint_runner.clients import Sender
from checkpoint_runner.deliveries import Delivery
from checkpoint_runner.durations import milliseconds
from checkpoint_runner.keys import Keys
from checkpoint_runner.payload import PAYLOAD
from checkpoint_runner.records import FORMAT, EncodedRecord
from checkpoint_runner.scripts import Argument, Reply, script

FOREIGN = (
    "checkpoint-runner workers run deliveries of checkpoint_runner tasks only, and this is an ordinary RQ job. "
    "Nothing of it was run. Start a stock worker for its queue (rq worker {queue}) and requeue it."
)
"""What RQ's registry says of an ordinary RQ job in a queue of ours."""


@dataclass(frozen=True, slots=True)
class StartRequest:
    """All that a new job is made of."""

    job_id: str
    task: str
    version: int
    arguments: bytes
    digest: str
    queue: str
    delay: float
    retention: float
    max_crashes: int
    labels: bytes
    key: str | None
    unique: str | None


@dataclass(frozen=True, slots=True)
class Claim:
    """What a worker gets to know with the right to advance a job."""

    task: str
    version: int
    arguments: bytes
    record: EncodedRecord | None
    step_results: int
    kept: int
    crash_streak: int
    idle_streak: int


@dataclass(frozen=True, slots=True)
class Due:
    """A job that the agenda says should be looked at now."""

    job_id: str
    status: str
    attempt: int


@dataclass(frozen=True, slots=True)
class Entry:
    """A job in a status, and the moment in ms at which it entered it."""

    job_id: str
    entered_at: float


class Store:
    """Reads and changes jobs in Redis through one sender.

    Every method may raise RedisUnavailable (the outcome is unknown; the same call may be sent
    again) or RedisRefused.
    """

    def __init__(self, sender: Sender, names: Keys) -> None:
        self.sender = sender
        self.keys = names

    # A start and the requests of people.

    def start(self, request: StartRequest) -> tuple[str, str]:
        """Return ("created" | "existing" | "conflict", job id)."""
        key_at = self.keys.key(request.task, request.key) if request.key else ""
        unique_at = self.keys.unique(request.task, request.unique) if request.unique else ""
        outcome, job_id = cast(
            "list[bytes]",
            self._run(
                "start",
                [*self.keys.of_job(request.job_id), key_at, unique_at],
                [
                    request.job_id,
                    request.task,
                    request.version,
                    request.arguments,
                    request.digest,
                    request.queue,
                    milliseconds(request.delay),
                    milliseconds(request.retention),
                    request.max_crashes,
                    request.labels,
                    request.key or "",
                    request.unique or "",
                ],
            ),
        )
        return outcome.decode(), job_id.decode()

    def ask(self, verb: str, job_id: str, revision: int, *details: str) -> str:
        """Ask for "pause", "resume", "cancel" or "retry"; return the script's outcome."""
        return self._word(f"ask_{verb}", job_id, revision, secrets.token_hex(8), *details)

    def remove(self, job_id: str, *, asked: bool) -> str:
        """Return "removed", "gone", or the status that stands against it."""
        return self._word("remove", job_id, job_id, "asked" if asked else "due")

    def read(self, job_id: str, fields: Sequence[str]) -> tuple[int, int | None, dict[str, bytes]] | None:
        """Return (the server's time in ms, when the job is due, the fields), or None without such a job."""
        names = [self.keys.job(job_id), self.keys.agenda]
        reply = cast("list[bytes]", self._run("read", names, [job_id, *fields]))
        if not reply:
            return None
        now, due, *values = reply
        return int(now), int(float(due)) if due else None, dict(zip(fields, values, strict=True))

    def history(self, job_id: str) -> list[str]:
        """Return the job's transitions, oldest first, as prelude.lua writes them."""
        entries = self.sender.send(lambda client: client.lrange(self.keys.history(job_id), 0, -1))
        return [entry.decode("utf-8", "replace") for entry in cast("list[bytes]", entries)]

    def ids(self, status: str, *, limit: int, after: Entry | None = None) -> list[Entry]:
        """Return the next entries of a status, those first that entered it first.

        `after` is the last entry seen; where it has left the status meanwhile, its moment tells where to go on.
        """
        key = self.keys.status(status)
        rank = None if after is None else self.sender.send(lambda client: client.zrank(key, after.job_id))
        if after is not None and rank is None:
            rank = self.sender.send(lambda client: client.zcount(key, "-inf", after.entered_at)) - 1
        first = 0 if rank is None else cast("int", rank) + 1
        found = self.sender.send(lambda client: client.zrange(key, first, first + limit - 1, withscores=True))
        return [Entry(job_id.decode(), float(score)) for job_id, score in cast("list[tuple[bytes, float]]", found)]

    def entered_at(self, job_id: str, status: str) -> float:
        """Return the moment in ms at which the job entered that status; 0 where it is not in it."""
        score = self.sender.send(lambda client: client.zscore(self.keys.status(status), job_id))
        return float(score or 0.0)

    # The life of an attempt.

    def claim(self, job_id: str, attempt: int, holder: str, lease: float, version: int, *, until: float) -> Claim | str:
        """Return what the job needs to run, or the status that stands against it ("" where it is gone)."""
        reply = self._run(
            "claim", self.keys.of_job(job_id), [attempt, holder, milliseconds(lease), version, FORMAT], until=until
        )
        outcome, *rest = cast("list[bytes]", reply)
        if outcome != b"claimed":
            return rest[0].decode()
        task, stored_version, arguments, seq, record, progress, checksum, steps, crash_streak, idle_streak, kept = rest
        return Claim(
            task=task.decode(),
            version=int(stored_version),
            arguments=arguments,
            record=EncodedRecord(int(seq), record, progress, checksum.decode()) if int(seq) else None,
            step_results=int(steps),
            kept=int(kept),
            crash_streak=int(crash_streak),
            idle_streak=int(idle_streak),
        )

    def save(self, job_id: str, attempt: int, holder: str, record: EncodedRecord, passed: Sequence[str]) -> str:
        """Store a checkpoint; return a stop request ("" for none), "lost" or "gone"."""
        names = [self.keys.job(job_id), self.keys.steps(job_id)]
        return self._decoded(self._run("save", names, [attempt, holder, *record.arguments(), *passed]))

    def keep_step(self, job_id: str, attempt: int, holder: str, path: str, result: bytes, number: int) -> str:
        """Keep the `number`th step's result of the job's life; return a stop request, "", "lost" or "gone"."""
        names = [self.keys.job(job_id), self.keys.steps(job_id)]
        return self._decoded(self._run("step", names, [attempt, holder, path, result, number]))

    def step_result(self, job_id: str, path: str) -> bytes | None:
        """Return the kept result of a step, or None."""
        return cast("bytes | None", self.sender.send(lambda client: client.hget(self.keys.steps(job_id), path)))

    def renew(self, job_id: str, attempt: int, holder: str, lease: float) -> str:
        """Hold on to the job; return a stop request ("" for none), "unclaimed", "lost" or "gone"."""
        names = [self.keys.job(job_id), self.keys.agenda]
        arguments: list[Argument] = [attempt, holder, milliseconds(lease), job_id]
        return self._decoded(self._run("renew", names, arguments, until=0.0))

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
        """End an attempt by "finish", "fail", "interrupt" or "pause"; return the new status, "lost" or "gone"."""
        return self._word(how, job_id, attempt, holder, *record.arguments(), *details, until=until)

    def decline(self, job_id: str, attempt: int, delivery: str, reason: str) -> str:
        """Hand a delivery back that this worker can't run; return the new status or "refused"."""
        return self._word("decline", job_id, attempt, delivery, reason)

    # RQ's side, for a process that runs deliveries without an RQ worker.

    def pop_delivery(self, queue: str) -> str | None:
        """Take the first delivery of a queue. Not sent again: a lost reply loses it, and the sweep makes a new one."""
        popped = self.sender.send(lambda client: client.lpop(self.keys.queue(queue)), until=0.0)
        return None if popped is None else str(popped, "ascii", "replace")  # type: ignore[arg-type]

    def is_delivery(self, rq_id: str) -> bool:
        """Say whether an RQ id that was popped is a delivery's: by its hash, which is ours to the byte, or gone."""
        data = self.sender.send(lambda client: client.hget(self.keys.delivery(rq_id), "data"))
        return Delivery.parse(rq_id) is not None and data in (None, PAYLOAD)

    def refuse_delivery(self, rq_id: str, queue: str) -> None:
        """Move an ordinary RQ job to RQ's registry of failed ones, with a message, and nothing of its own changed."""
        failed: dict[Any, Any] = {"status": "failed", "exc_info": zlib.compress(FOREIGN.format(queue=queue).encode())}

        def move(client: redis.Redis) -> None:
            with client.pipeline(transaction=True) as pipeline:
                pipeline.hset(self.keys.delivery(rq_id), mapping=failed)
                pipeline.zadd(self.keys.failed(queue), {rq_id: time.time() + keys.FOREIGN_TTL})
                pipeline.lrem(self.keys.intermediate(queue), 1, rq_id)
                pipeline.execute()

        self.sender.send(move)

    def forget_delivery(self, delivery: str) -> None:
        """Remove RQ's hash of a delivery that was run."""
        self.sender.send(lambda client: client.delete(self.keys.delivery(delivery)))

    # What is done for processes that are not there any more.

    def crash(
        self, job_id: str, attempt: int, delivery: str, cause: str, kind: str, error: bytes, *, until: float | None
    ) -> str:
        """The process that had the delivery is dead; return the new status or "refused"."""
        return self._word("crash", job_id, attempt, delivery, cause, kind, error, until=until)

    def expire(self, due: Due) -> str:
        return self._word("expire", due.job_id, due.attempt)

    def redeliver(self, due: Due, *, search: bool) -> str:
        return self._word("redeliver", due.job_id, due.attempt + 1, int(search))

    def wake(self, due: Due) -> str:
        return self._word("wake", due.job_id)

    def due(self, pause: float, lease: float, limit: int) -> tuple[bool, list[Due]] | None:
        """Return (whether leases may expire now, what is due), or None where somebody else has just swept."""
        names = [self.keys.agenda, self.keys.sweep, self.keys.job("")]
        reply = self._run("due", names, [milliseconds(pause), milliseconds(lease), limit], until=0.0)
        if not reply:
            return None
        hold, *rest = [value.decode() for value in cast("list[bytes]", reply)]
        triples = zip(rest[::3], rest[1::3], rest[2::3], strict=True)
        return hold == "0", [Due(job_id, status, int(attempt)) for job_id, status, attempt in triples]

    def _word(self, name: str, job_id: str, *arguments: Argument, until: float | None = None) -> str:
        return self._decoded(self._run(name, self.keys.of_job(job_id), list(arguments), until=until))

    def _run(
        self, name: str, names: Sequence[str], arguments: Sequence[Argument], *, until: float | None = None
    ) -> Reply:
        return self.sender.send(lambda client: script(name).call(client, names, arguments), until=until)

    @staticmethod
    def _decoded(reply: Reply) -> str:
        return cast("bytes", reply).decode()
