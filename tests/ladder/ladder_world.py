"""One server with its jobs, seen from outside: what must hold at every moment, and what makes time pass."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import redis

from checkpoint_runner import Runner, names, processes
from checkpoint_runner.jobs import Job
from checkpoint_runner.keys import Keys
from checkpoint_runner.records import EncodedRecord, Progress, Record, decode_record, encode_record
from checkpoint_runner.store import Claim
from tests.ladder.ladder_tasks import QUEUE, notebook

KEYS = Keys("ckpt", "rq")
STATUSES = ("queued", "running", "waiting", "paused", "finished", "failed", "cancelled")
FINAL = ("finished", "failed", "cancelled")
LASTING = {KEYS.sweep, KEYS.taken, f"{KEYS.rq}:queues"}
"""Keys that belong to the application and not to a job."""

DAMAGE = {"nobody"}
"""What a test may have put into the agenda without a job."""

LEASE = 10.0
"""So long that the pulse of an attempt, which takes milliseconds here, sends nothing: the count stays the same."""

STEADY_MS = 2000
"""Since the last sweep: more than the pause between two, and less than the gap after which nothing expires."""

MOST_ROUNDS = 10
"""Rounds of sweeping and working in which everything must have come to rest."""

_MOMENT = re.compile(r"\b1[0-9]{12}\b|\d{4}-\d\d-\d\dT[\d:.]+Z")


@dataclass(frozen=True)
class Holding:
    """The right to advance a job, as a process has it that lives somewhere."""

    job_id: str
    attempt: int
    holder: str


class World:
    """A real server. Nothing here sleeps: time passes by moving entries of the agenda into the past."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.client = redis.Redis.from_url(url)
        self.runner = Runner(url, namespace=KEYS.namespace, lease=LEASE)
        self.store = self.runner._for_work().store

    def close(self) -> None:
        self.runner.close()
        self.client.close()

    def reset(self, *, cold: bool) -> None:
        """Empty the server; `cold` makes it forget the scripts too, as a restart does."""
        self.client.flushall()
        if cold:
            self.client.script_flush()
        notebook.path.unlink(missing_ok=True)

    # What can happen to a job while nobody looks.

    def steady(self) -> None:
        """As if somebody had swept all the time, and last a moment ago."""
        self.client.hset(KEYS.sweep, mapping={"swept_at": self.now() - STEADY_MS, "hold_until": 0})

    def now(self) -> int:
        """The server's time in milliseconds."""
        seconds, microseconds = self.client.time()
        return int(seconds) * 1000 + int(microseconds) // 1000

    def overdue(self, job_id: str) -> None:
        """Move the job's entry in the agenda into the past, as if the time had passed."""
        self.client.zadd(KEYS.agenda, {job_id: 1.0}, xx=True)

    def field(self, job_id: str, name: str) -> str:
        return (self.client.hget(KEYS.job(job_id), name) or b"").decode()

    def claim(self, job_id: str, *, holder: str = "") -> Holding:
        """Take the job's delivery and claim it, for this process or another one."""
        delivery = self.field(job_id, "delivery")
        self.client.lrem(KEYS.queue(QUEUE), 0, delivery)
        self.client.delete(KEYS.delivery(delivery))
        holding = Holding(job_id, int(self.field(job_id, "attempt")) + 1, processes.holder(delivery))
        if holder:
            holding = Holding(job_id, holding.attempt, f"{delivery}|{holder}")
        claim = self.store.claim(job_id, holding.attempt, holding.holder, LEASE, 1, until=float("inf"))
        assert isinstance(claim, Claim), claim
        return holding

    def let_go(self, holding: Holding, how: str, *details: str | int) -> str:
        seq = int(self.field(holding.job_id, "seq")) + 1
        record = encode_record(Record(seq, 1, (), None, Progress()))
        return self.store.let_go(
            how, holding.job_id, holding.attempt, holding.holder, record, *details, until=float("inf")
        )

    # What there is.

    def ids(self) -> list[str]:
        found = (key.decode().removeprefix(KEYS.job("")) for key in self.client.scan_iter(KEYS.job("*"), count=1000))
        return sorted(job_id for job_id in found if ":" not in job_id)

    def jobs(self) -> list[Job[Any]]:
        return [self.runner.job(job_id) for job_id in self.ids()]

    def finished_items(self, job_id: str) -> int:
        """How many items the stored checkpoint says are finished. A broken record raises BrokenCheckpoint."""
        seq, *rest = self.client.hmget(KEYS.job(job_id), "seq", "record", "progress", "checksum")
        if not int(seq or 0):
            return 0
        body, progress, checksum = rest
        position = decode_record(EncodedRecord(int(seq), body, progress, checksum.decode())).position
        return position[0].count if position else 0

    def mark(self, job_id: str) -> tuple[int, int]:
        """How far the job is: checkpoints stored, step results kept."""
        return int(self.field(job_id, "seq") or 0), int(self.field(job_id, "kept") or 0)

    def check(self, *, damaged: bool = False) -> None:
        """Be sure of what must hold for every job at every moment, also between a kill and the recovery.

        `damaged`: a test took deliveries away, and no sweep has made them good yet.
        """
        keys = [KEYS.agenda, *map(KEYS.status, STATUSES)]
        ids = self.ids()
        pipe = self.client.pipeline(transaction=False)
        for key in keys:
            pipe.zrange(key, 0, -1)
        pipe.lrange(KEYS.queue(QUEUE), 0, -1)
        for job_id in ids:
            pipe.hmget(KEYS.job(job_id), "status", "delivery")
            pipe.ttl(KEYS.job(job_id))
            pipe.lrange(KEYS.history(job_id), 0, -1)
        pipe.keys(KEYS.delivery("*"))
        replies = iter(pipe.execute())
        agenda, *listed = ({member.decode() for member in next(replies)} for _ in keys)
        entries = [entry.decode() for entry in next(replies)]
        jobs = [(job_id, *next(replies), next(replies), next(replies)) for job_id in ids]
        hashes = {key.decode().removeprefix(KEYS.delivery("")) for key in next(replies)}
        assert len(entries) == len(set(entries)), f"a delivery stands twice in the queue: {entries}"
        for job_id, raw_status, raw_delivery, ttl, history in jobs:
            status, delivery = raw_status.decode(), (raw_delivery or b"").decode()
            assert [name for name, members in zip(STATUSES, listed, strict=True) if job_id in members] == [status]
            assert (job_id in agenda) == (status != "paused"), f"{status}, and in the agenda: {job_id in agenda}"
            assert (ttl > 0) == (status in FINAL), f"{status}, to be dropped after {ttl} s"
            if status == "queued":
                assert damaged or delivery in hashes, "a queued job has no delivery"
                live = {entry for entry in entries if entry.startswith(f"{job_id}-") and entry in hashes}
                assert live <= {delivery}, f"old deliveries would run: {live}"
            for line in history:
                _, source, target, *_ = line.decode().split("|")
                assert source != "finished", "a finished job was changed"
                assert source not in FINAL or target == "queued", f"{source} became {target}"
        for members in (agenda - DAMAGE if damaged else agenda, *listed):
            assert members <= set(ids), "an index names a job that is not there"

    def _members(self, key: str) -> set[str]:
        return {member.decode() for member in self.client.zrange(key, 0, -1)}

    def snapshot(self) -> dict[str, Any]:
        """All keys and what is in them; of moments only that they are ones, of due times how far away they are."""
        now = self.now()
        found: dict[str, Any] = {}
        for raw in sorted(self.client.scan_iter("*", count=1000)):
            key = raw.decode()
            if key == KEYS.sweep:
                continue  # when somebody swept: no effect on any job
            match self.client.type(raw):
                case b"hash":
                    value: Any = {name.decode(): _plain(data) for name, data in self.client.hgetall(raw).items()}
                    if "nonces" in value:
                        value["nonces"] = len(value["nonces"].split())
                case b"list":
                    value = [_plain(entry) for entry in self.client.lrange(raw, 0, -1)]
                case b"zset":
                    value = {
                        member.decode(): _distance(score - now) if key == KEYS.agenda else ""
                        for member, score in self.client.zrange(raw, 0, -1, withscores=True)
                    }
                case b"set":
                    value = sorted(_plain(member) for member in self.client.smembers(raw))
                case _:
                    value = _plain(self.client.get(raw))
            found[key] = (self.client.ttl(raw) > 0, value)
        return found

    # What happens by itself, and in the end.

    def pass_time(self, *, leases: bool) -> None:
        """Everything that waits for its time is due; leases have run out only where `leases` says so."""
        self.steady()
        for status in ("queued", "waiting", *(("running",) if leases else ())):
            for job_id in self._members(KEYS.status(status)):
                self.overdue(job_id)

    def settle(self, *, leases: bool) -> None:
        """Sweep and work until nothing goes on by itself any more."""
        for _ in range(MOST_ROUNDS):
            self.pass_time(leases=leases)
            self.runner.sweep()
            self.steady()
            self.runner.work(QUEUE)
            if not any(self.client.zcard(KEYS.status(status)) for status in ("queued", "waiting", "running")):
                return
        raise AssertionError(f"not at rest: {[(job.status, job.reason) for job in self.jobs()]}")

    def remove_all(self) -> set[str]:
        """Remove every job, a final one by the end of its retention; return the keys that will stay for ever."""
        for job in self.jobs():
            if job.final:
                self.overdue(job.id)
            else:
                job.delete()
        self.steady()
        self.runner.sweep()
        left = {key.decode() for key in self.client.scan_iter("*", count=1000)} - LASTING
        return {key for key in left if self.client.ttl(key) == -1}


@contextmanager
def numbered_ids() -> Iterator[None]:
    """Jobs are numbered from 1, so that two worlds with the same past are equal."""
    original, numbers = names.new_job_id, iter(range(1, 1000))
    names.new_job_id = lambda: f"j{next(numbers)}"
    try:
        yield
    finally:
        names.new_job_id = original


def _plain(data: bytes) -> str:
    return _MOMENT.sub("<time>", data.decode("utf-8", "replace"))


def _distance(milliseconds: float) -> int | str:
    """How far away a due time is, in units of five seconds; what happens within one test does not count."""
    return "past" if milliseconds < -60_000 else round(milliseconds / 5000)
