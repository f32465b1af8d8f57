"""What the contract tests share: one world of jobs on one server, and the moves that can be made in it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import redis

from checkpoint_runner.clients import Sender
from checkpoint_runner.keys import Keys
from checkpoint_runner.names import new_job_id
from checkpoint_runner.records import EncodedRecord, Progress, Record, encode_record
from checkpoint_runner.scripts import script
from checkpoint_runner.store import Claim, Due, StartRequest, Store

KEYS = Keys("ckpt", "rq")
QUEUE = "imports"
LEASE = 10.0
STATUSES = ("queued", "running", "waiting", "paused", "finished", "failed", "cancelled")
PATIENT = float("inf")
"""A limit for sending again that no test reaches."""

DEADLY = b'{"type":"CrashLoop","message":"row 7"}'
"""What a job says that failed because its processes kept dying."""

ARGUMENTS = b'[["users.csv"],{}]'


def record(seq: int) -> EncodedRecord:
    """A checkpoint as the journal would write it."""
    return encode_record(Record(seq, 1, (), b'{"rows":%d}' % seq, Progress(seq, 100)))


class LosesReplies:
    """A client whose first script is carried out, but whose answer never arrives."""

    def __init__(self, client: redis.Redis, world: World) -> None:
        self._client = client
        self._world = world
        self.after_first: dict[str, Any] | None = None
        self.calls = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    def evalsha(self, *arguments: Any) -> Any:
        reply = self._client.evalsha(*arguments)  # an unknown script raises before anything is counted
        return self._lose(reply)

    def eval(self, *arguments: Any) -> Any:
        return self._lose(self._client.eval(*arguments))

    def _lose(self, reply: Any) -> Any:
        self.calls += 1
        if self.calls == 1:
            self.after_first = self._world.snapshot()
            raise redis.exceptions.ConnectionError("the reply was lost")
        return reply


@dataclass
class Made:
    """A job that a test made: what its scripts need to be told."""

    world: World
    id: str
    attempt: int = 0
    holder: str = ""

    def field(self, name: str) -> str:
        value = self.world.client.hget(KEYS.job(self.id), name)
        return "" if value is None else value.decode()

    @property
    def status(self) -> str:
        return self.field("status")

    @property
    def delivery(self) -> str:
        return self.field("delivery")

    @property
    def revision(self) -> int:
        return int(self.field("revision") or 0)

    @property
    def due(self) -> float | None:
        return self.world.client.zscore(KEYS.agenda, self.id)

    def as_due(self) -> Due:
        return Due(self.id, self.status, int(self.field("attempt") or 0))

    def overdue(self) -> Made:
        """Move the job's entry in the agenda into the past, as if the time had passed."""
        self.world.client.zadd(KEYS.agenda, {self.id: 1.0}, xx=True)
        return self

    def claim(self) -> Made:
        """Take the present delivery from RQ's list, as a worker does, and claim the attempt."""
        self.world.client.lrem(KEYS.queue(self.field("queue")), 0, self.delivery)
        self.attempt = int(self.field("attempt")) + 1
        self.holder = f"{self.delivery}|host|boot|{self.attempt}|1"
        claim = self.world.store.claim(self.id, self.attempt, self.holder, LEASE, 1, until=PATIENT)
        assert isinstance(claim, Claim), claim
        return self

    def claimed(self) -> str:
        """Try to claim the next attempt; return "claimed" or the status that stands against it."""
        attempt = int(self.field("attempt")) + 1
        holder = f"{self.delivery}|host|boot|9|9"
        claim = self.world.store.claim(self.id, attempt, holder, LEASE, 1, until=PATIENT)
        return claim if isinstance(claim, str) else "claimed"

    def save(self, seq: int, *passed: str) -> str:
        return self.world.store.save(self.id, self.attempt, self.holder, record(seq), passed)

    def step(self, path: str, result: bytes = b"1", number: int | None = None) -> str:
        number = int(self.field("kept") or 0) + 1 if number is None else number
        return self.world.store.keep_step(self.id, self.attempt, self.holder, path, result, number)

    def renew(self, lease: float = LEASE) -> str:
        return self.world.store.renew(self.id, self.attempt, self.holder, lease)

    def let_go(self, how: str, *details: str | int, seq: int = 1) -> str:
        return self.world.store.let_go(how, self.id, self.attempt, self.holder, record(seq), *details, until=PATIENT)

    def finish(self, result: str = "7") -> str:
        return self.let_go("finish", result)

    def fail(self) -> str:
        return self.let_go("fail", '{"type":"ValueError","message":"no"}')

    def interrupt(self, reason: str = "shutdown", *, front: bool = True, seq: int = 1) -> str:
        return self.let_go("interrupt", reason, int(front), seq=seq)

    def pause(self, reason: str = "look at row 7") -> str:
        return self.let_go("pause", reason)

    def ask(self, verb: str) -> str:
        return self.world.store.ask(verb, self.id, self.revision, *_details(verb))

    def ask_as(self, verb: str, revision: int, nonce: str) -> str:
        """Send one very request, which may have been sent before."""
        names = KEYS.of_job(self.id)
        reply = script(f"ask_{verb}").call(self.world.client, names, [revision, nonce, *_details(verb)])
        return reply.decode()  # type: ignore[union-attr]

    def decline(self, reason: str = "declined: no worker knows the task") -> str:
        attempt = int(self.field("attempt") or 0) + 1
        return self.world.store.decline(self.id, attempt, self.delivery, reason)

    def crash(self, kind: str = "crash") -> str:
        """Somebody reports the death of the process that had the present delivery, claimed or not."""
        attempt = int(self.field("attempt") or 0) + (self.status != "running")
        return self.world.store.crash(
            self.id, attempt, self.delivery, "killed by signal 9", kind, DEADLY, until=PATIENT
        )

    def expire(self) -> str:
        return self.world.store.expire(self.as_due())

    def redeliver(self, *, search: bool = True) -> str:
        return self.world.store.redeliver(self.as_due(), search=search)

    def wake(self) -> str:
        return self.world.store.wake(self.as_due())

    def remove(self, *, asked: bool = False) -> str:
        return self.world.store.remove(self.id, asked=asked)


def _details(verb: str) -> tuple[str, ...]:
    return ("asked for",) if verb in ("pause", "cancel") else ()


class World:
    """A server, a store for it, and an eye on everything that stands in it."""

    def __init__(self, client: redis.Redis) -> None:
        self.client = client
        self.store = Store(Sender(client, 0.0), KEYS)

    def losing_replies(self) -> LosesReplies:
        """From here on the first script's answer is lost; the sender sends it again."""
        losing = LosesReplies(self.client, self)
        self.store = Store(Sender(losing, 5.0), KEYS)  # type: ignore[arg-type]
        return losing

    def request(self, **changes: Any) -> StartRequest:
        plain = StartRequest(
            job_id=new_job_id(),
            task="shop.import_users",
            version=1,
            arguments=ARGUMENTS,
            digest="d1",
            queue=QUEUE,
            delay=0.0,
            retention=3600.0,
            max_crashes=3,
            labels=b"{}",
            key=None,
            unique=None,
        )
        return replace(plain, **changes)

    def start(self, **changes: Any) -> Made:
        outcome, job_id = self.store.start(self.request(**changes))
        assert outcome == "created"
        return Made(self, job_id)

    def made(self, status: str, **changes: Any) -> Made:
        """Return a job in that status."""
        job = self.start(delay=60.0 if status == "waiting" else 0.0, **changes)
        match status:
            case "running":
                job.claim()
            case "paused":
                job.ask("pause")
            case "finished":
                job.claim().finish()
            case "failed":
                job.claim().fail()
            case "cancelled":
                job.ask("cancel")
        assert job.status == status
        return job

    def deliveries(self, queue: str = QUEUE) -> list[str]:
        """The ids in RQ's list, the next one first."""
        return [entry.decode() for entry in self.client.lrange(KEYS.queue(queue), 0, -1)]

    def snapshot(self) -> dict[str, Any]:
        """All keys and what is in them; of a lifetime only whether there is one."""
        found: dict[str, Any] = {}
        for key in sorted(self.client.scan_iter("*")):
            kind = self.client.type(key).decode()
            match kind:
                case "hash":
                    value: Any = self.client.hgetall(key)
                case "list":
                    value = self.client.lrange(key, 0, -1)
                case "zset":
                    value = self.client.zrange(key, 0, -1, withscores=True)
                case "set":
                    value = sorted(self.client.smembers(key))
                case _:
                    value = self.client.get(key)
            found[key.decode()] = (kind, self.client.ttl(key) > 0, value)
        return found

    def check(self) -> None:
        """Be sure of what must hold for every job at every moment."""
        for key in self.client.scan_iter(KEYS.job("*")):
            job_id = key.decode().removeprefix(KEYS.job(""))
            if ":" in job_id:
                continue
            job = Made(self, job_id)
            sets = [status for status in STATUSES if self.client.zscore(KEYS.status(status), job_id) is not None]
            assert sets == [job.status], f"{job_id} is {job.status} and listed as {sets}"
            assert (job.due is None) == (job.status == "paused"), f"{job_id} is {job.status} and due at {job.due}"
            final = job.status in ("finished", "failed", "cancelled")
            assert (self.client.ttl(key) > 0) == final, f"{job_id} is {job.status}"
            if job.status == "queued":
                assert self.client.exists(KEYS.delivery(job.delivery)), f"{job_id} has no delivery"


Call = Callable[[Made], str]

MOVES: dict[str, Call] = {
    "claim": lambda job: job.claimed(),
    "save": lambda job: job.save(5),
    "step": lambda job: job.step('["step"]'),
    "finish": lambda job: job.finish(),
    "fail": lambda job: job.fail(),
    "interrupt": lambda job: job.interrupt(),
    "pause": lambda job: job.pause(),
    "decline": lambda job: job.decline(),
    "crash": lambda job: job.crash(),
    "expire": lambda job: job.expire(),
    "redeliver": lambda job: job.redeliver(),
    "wake": lambda job: job.wake(),
    "remove": lambda job: job.remove(),
    "ask_pause": lambda job: job.ask("pause"),
    "ask_resume": lambda job: job.ask("resume"),
    "ask_cancel": lambda job: job.ask("cancel"),
    "ask_retry": lambda job: job.ask("retry"),
}
"""Every transition, called with the right attempt, holder, delivery and revision."""


def moves(*, without: tuple[str, ...] = ()) -> list[str]:
    """The names of all moves, for parametrize."""
    return [name for name in MOVES if name not in without]
