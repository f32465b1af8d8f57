"""Every transition in any order, against a small model: hypothesis looks for the order that breaks a promise.

The rules are what people, workers, sweeps and zombies send, on time, late, doubled or not at all. The model says
what each is answered and how the job stands then; after every rule all of Redis is compared with it. At the end
everything is let run to its end and removed: nothing may be stuck, and no key may be left.

In the normal suite this rung may take 40 s; CHECKPOINT_RUNNER_DEEP=1 tries twenty times as many orders.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, TypeVar, cast
from unittest.mock import patch

import fakeredis
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from checkpoint_runner.backend import Backend
from checkpoint_runner.clients import WORKER, connect
from checkpoint_runner.embedded import EmbeddedValkey
from checkpoint_runner.scripts import script
from checkpoint_runner.store import Claim, Due, StartRequest
from checkpoint_runner.sweep import Sweeper
from tests.contract.contract_world import DEADLY, KEYS, LEASE, PATIENT, QUEUE, STATUSES, World, record

DEEP = os.environ.get("CHECKPOINT_RUNNER_DEEP") == "1"
FINAL = ("finished", "failed", "cancelled")
RETENTION = 3600.0
DECLINE_LIMIT = 600_000
BOOKKEEPING = {b"ckpt:sweep", b"ckpt:taken", b"rq:queues"}
JUMPS = (0.4, 3.0, 7.0, 11.0, 31.0, 701.0, -0.4, -7.0, -701.0)
"""Seconds by which the server's clock is moved: within a lease, past it, past a decline's limit, and back."""


@dataclass
class Model:
    """One job as it must be."""

    id: str
    request: StartRequest
    status: str = ""
    attempt: int = 0
    holder: str = ""
    delivery: str = ""
    revision: int = 0
    seq: int = 0
    kept: int = 0
    steps: dict[str, bytes] = field(default_factory=dict)
    stop: str = ""
    nonces: list[str] = field(default_factory=list)
    crashes: int = 0
    streak: int = 0
    streak_mark: int = 0
    lost: int = 0
    interruptions: int = 0
    declined_since: int | None = None
    result: str = ""

    @property
    def live(self) -> bool:
        return self.status not in FINAL

    def enter(self, status: str) -> None:
        self.status, self.stop = status, ""
        self.revision += 1
        if status == "queued":
            self.deliver()

    def deliver(self) -> None:
        self.delivery = f"{self.id}-{self.attempt + 1}-{self.revision}"

    def guard(self, hold: Hold) -> str:
        if (self.attempt, self.holder) != (hold.attempt, hold.holder):
            return "lost"
        return "mine" if self.status == "running" else "again"

    def keep(self, seq: int, passed: list[str]) -> None:
        if seq > self.seq:
            self.seq = seq
            for path in passed:
                self.steps.pop(path, None)

    def let_go(self, how: str, hold: Hold, seq: int) -> str:
        outcome = self.guard(hold)
        if outcome == "again":
            return self.status
        if outcome == "lost":
            return "lost"
        if how == "finish":
            self.enter("finished")
            self.keep(seq, [])
            self.steps = {}
            self.result = str(seq)
            return self.status
        if self.stop == "cancel":
            self.enter("cancelled")
        elif how == "fail":
            self.enter("failed")
        elif how == "pause" or self.stop == "pause":
            self.enter("paused")
        else:
            self.enter("queued")
            self.interruptions += 1
        self.keep(seq, [])
        return self.status

    def crash(self, attempt: int, delivery: str, kind: str) -> str:
        claimed = self.status == "running" and self.attempt == attempt and self.holder.startswith(f"{delivery}|")
        unclaimed = self.status == "queued" and self.attempt == attempt - 1 and self.delivery == delivery
        if not claimed and not unclaimed:
            return "refused"
        counted = kind == "crash" or (kind == "exit" and claimed)
        mark = self.seq + self.kept
        streak = self.streak
        if counted:
            streak = 1 if mark > self.streak_mark else streak + 1
        if self.stop == "cancel":
            self.enter("cancelled")
        elif counted and streak >= self.request.max_crashes:
            self.enter("failed")
        elif self.stop == "pause":
            self.enter("paused")
        else:
            self.enter("queued")
        self.holder = ""
        if counted:
            self.crashes, self.streak, self.streak_mark = self.crashes + 1, streak, mark
        else:
            self.interruptions += 1
        return self.status

    def expire(self) -> str:
        self.enter({"cancel": "cancelled", "pause": "paused"}.get(self.stop, "queued"))
        self.holder = ""
        self.lost += 1
        return self.status

    def ask(self, verb: str, revision: int, nonce: str, *, taken: bool) -> str:
        if nonce in self.nonces:
            return "done"
        if revision != self.revision:
            return "moved"
        outcome = getattr(self, f"_ask_{verb}")(taken)
        if outcome == "done":
            self.nonces = [nonce, *self.nonces][:8]
        return cast("str", outcome)

    def _request_stop(self, verb: str) -> str:
        self.stop = verb
        self.revision += 1
        return "done"

    def _entered(self, status: str) -> str:
        self.enter(status)
        return "done"

    def _ask_pause(self, _taken: bool) -> str:
        if self.status == "paused" or self.stop:
            return "same"
        if self.status == "running":
            return self._request_stop("pause")
        return self._entered("paused") if self.status in ("queued", "waiting") else "not now"

    def _ask_cancel(self, _taken: bool) -> str:
        if self.status == "cancelled" or self.stop == "cancel":
            return "same"
        if self.status == "running":
            return self._request_stop("cancel")
        return self._entered("cancelled") if self.live else "not now"

    def _ask_resume(self, _taken: bool) -> str:
        if self.status == "paused":
            self.declined_since = None
            return self._entered("queued")
        if self.status == "running" and self.stop == "pause":
            return self._request_stop("")
        return "same" if self.live and not self.stop else "not now"

    def _ask_retry(self, taken: bool) -> str:
        if self.status not in ("failed", "cancelled"):
            return "not now"
        if taken:
            return "taken"
        self.streak = self.streak_mark = 0
        self.declined_since = None
        return self._entered("queued")


@dataclass(frozen=True)
class Hold:
    """What one process believes to hold: perhaps it does, perhaps it is a zombie's."""

    id: str
    attempt: int
    holder: str
    delivery: str


@dataclass(frozen=True)
class Asked:
    """One very request of a person, which may be sent again."""

    id: str
    verb: str
    revision: int
    nonce: str


class Clock:
    """The test double's clock, in seconds."""

    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __getattr__(self, name: str) -> Any:
        return getattr(time, name)

    def time(self) -> float:
        return self.now


WHICH = st.integers(0, 999)
"""Chooses one of what is there: two times in three one that matters now, else any, however old."""


class Transitions(RuleBasedStateMachine):
    """The rules, the model and the invariants."""

    def __init__(self, client: Any, clock: Clock | None) -> None:
        super().__init__()
        self.client = client
        self.clock = clock
        self.world = World(client)
        self.store = self.world.store
        backend = SimpleNamespace(store=self.store, settings=SimpleNamespace(lease=LEASE))
        self.sweeper = Sweeper(cast("Backend", backend))
        self.models: dict[str, Model] = {}
        self.removed: set[str] = set()
        self.used: dict[str, set[str]] = {}
        self.keys: dict[str, str] = {}
        self.unique: dict[str, str] = {}
        self.held: list[Hold] = []
        self.hands: set[str] = set()
        self.hands_ever: list[str] = []
        self.requests: list[StartRequest] = []
        self.asks: list[Asked] = []
        self.frozen: dict[str, Any] = {}
        self.written = 0

    # What the rules share.

    def fresh(self) -> str:
        """Return an id or a nonce that was not there before; the same ones when an order is tried again."""
        self.written += 1
        return f"{self.written:032x}"

    def some_request(self, which: int) -> StartRequest:
        now = [request for request in self.requests if request.job_id in self.models]
        return _choose(which, now, self.requests)

    def some_delivery(self, which: int) -> str:
        running = [model.holder.partition("|")[0] for model in self.models.values() if model.status == "running"]
        queued = {model.delivery for model in self.models.values() if model.status == "queued"}
        return _choose(which, [*running, *sorted(queued & self.hands)], self.hands_ever)

    def some_hold(self, which: int) -> Hold:
        now = {model.holder for model in self.models.values() if model.status == "running"}
        return _choose(which, [hold for hold in self.held if hold.holder in now], self.held)

    def some_asked(self, which: int) -> Asked:
        return _choose(which, self.asks[-2:], self.asks)

    def now(self) -> int:
        seconds, micros = self.client.time()
        return int(seconds) * 1000 + int(micros) // 1000

    def overdue(self, job_id: str) -> bool:
        due = self.client.zscore(KEYS.agenda, job_id)
        return due is not None and due <= self.now()

    def jump(self, seconds: float) -> None:
        """Move the server's clock; a real server's stays, and all moments that it knows are moved instead."""
        if self.clock is not None:
            self.clock.now += seconds
            return
        shift = int(seconds * 1000)
        for job_id, due in self.client.zrange(KEYS.agenda, 0, -1, withscores=True):
            self.client.zadd(KEYS.agenda, {job_id: due - shift})
        for model in self.models.values():
            for name in ("delivered_at", "declined_since"):
                if model.live and self.client.hexists(KEYS.job(model.id), name):
                    self.client.hincrby(KEYS.job(model.id), name, -shift)
            if model.declined_since is not None:
                model.declined_since -= shift
        for name in ("swept_at", "hold_until"):
            if self.client.hexists(KEYS.sweep, name):
                self.client.hincrby(KEYS.sweep, name, -shift)

    def settled(self, model: Model) -> None:
        """Tell the names about a job that perhaps ended."""
        unique = model.request.unique
        if unique and not model.live and self.unique.get(unique) == model.id:
            del self.unique[unique]

    def send_start(self, request: StartRequest) -> None:
        expected = self.expected_start(request)
        assert self.store.start(request) == expected

    def expected_start(self, request: StartRequest) -> tuple[str, str]:
        if request.job_id in self.models:
            return "created", request.job_id
        namesake = self.keys.get(request.key or "")
        if namesake:
            same = self.models[namesake].request.digest == request.digest
            return "existing" if same else "conflict", namesake
        rival = self.unique.get(request.unique or "")
        if rival:
            return "existing", rival
        model = self.models[request.job_id] = Model(request.job_id, request)
        self.used[model.id] = set()
        model.enter("waiting" if request.delay else "queued")
        if request.key:
            self.keys[request.key] = model.id
        if request.unique:
            self.unique[request.unique] = model.id
        return "created", model.id

    # People.

    @initialize()
    def one_runs(self) -> None:
        self.start(None, "u", 0.0, "d1", 3)
        self.claim_next(1)

    @precondition(lambda self: len(self.models) < 4)
    @rule(
        key=st.sampled_from([None, None, "k"]),
        unique=st.sampled_from([None, None, "u"]),
        delay=st.sampled_from([0.0, 0.0, 20.0]),
        digest=st.sampled_from(["d1", "d1", "d2"]),
        max_crashes=st.sampled_from([1, 3]),
    )
    def start(self, key: str | None, unique: str | None, delay: float, digest: str, max_crashes: int) -> None:
        request = self.world.request(
            job_id=self.fresh(),
            key=key,
            unique=unique,
            delay=delay,
            digest=digest,
            max_crashes=max_crashes,
            retention=RETENTION,
        )
        self.requests.append(request)
        self.send_start(request)

    @precondition(lambda self: self.requests)
    @rule(which=WHICH)
    def start_again(self, which: int) -> None:
        request = self.some_request(which)
        if request.job_id not in self.removed:
            self.send_start(request)

    @precondition(lambda self: self.requests)
    @rule(which=WHICH, verb=st.sampled_from(["pause", "resume", "cancel", "retry"]), late=st.booleans())
    def ask(self, which: int, verb: str, late: bool) -> None:
        request = self.some_request(which)
        model = self.models.get(request.job_id)
        revision = 0 if model is None else model.revision - late
        asked = Asked(request.job_id, verb, revision, self.fresh())
        self.asks.append(asked)
        self.send_asked(asked)

    @precondition(lambda self: self.asks)
    @rule(which=WHICH)
    def ask_again(self, which: int) -> None:
        asked = self.some_asked(which)
        self.send_asked(asked)

    def send_asked(self, asked: Asked) -> None:
        details = ["asked for"] if asked.verb in ("pause", "cancel") else []
        reply = script(f"ask_{asked.verb}").call(
            self.client, KEYS.of_job(asked.id), [asked.revision, asked.nonce, *details]
        )
        model = self.models.get(asked.id)
        if model is None:
            assert reply == b"gone"
            return
        unique = model.request.unique
        taken = unique is not None and self.unique.get(unique, model.id) != model.id
        retried = model.status
        expected = model.ask(asked.verb, asked.revision, asked.nonce, taken=taken)
        if asked.verb == "retry" and retried != model.status:
            self.frozen.pop(model.id, None)
            if unique:
                self.unique[unique] = model.id
        self.settled(model)
        assert cast("bytes", reply).decode() == expected

    @precondition(lambda self: len(self.models) > 2)
    @rule(which=WHICH)
    def remove(self, which: int) -> None:
        request = self.some_request(which)
        job_id = request.job_id
        model = self.models.get(job_id)
        if model is None:
            assert self.store.remove(job_id, asked=True) == "gone"
        elif model.status == "running":
            assert self.store.remove(job_id, asked=True) == "running"
        else:
            assert self.store.remove(job_id, asked=True) == "removed"
            self.forget(model)

    def forget(self, model: Model) -> None:
        del self.models[model.id]
        self.removed.add(model.id)
        self.frozen.pop(model.id, None)
        for names, name in ((self.keys, model.request.key), (self.unique, model.request.unique)):
            if name and names.get(name) == model.id:
                del names[name]

    # Deliveries and workers.

    @precondition(lambda self: self.world.deliveries())
    @rule(last=st.booleans())
    def pop(self, last: bool) -> None:
        """A worker takes a delivery; RQ drops those that have no hash any more."""
        popped = self.client.rpop(KEYS.queue(QUEUE)) if last else self.client.lpop(KEYS.queue(QUEUE))
        if popped is None or not self.client.exists(KEYS.delivery(popped.decode())):
            return
        self.hands.add(popped.decode())
        self.hands_ever.append(popped.decode())

    @precondition(lambda self: self.world.deliveries())
    @rule(with_hash=st.booleans())
    def lose_delivery(self, with_hash: bool) -> None:
        """A worker dies between RQ's list and its first command, or RQ's keys are cleared away."""
        popped = self.client.lpop(KEYS.queue(QUEUE))
        if popped is not None:
            if with_hash:
                self.client.delete(KEYS.delivery(popped.decode()))
            else:
                self.hands.add(popped.decode())

    @precondition(lambda self: self.hands_ever)
    @rule(which=WHICH)
    def delivery_is_done(self, which: int) -> None:
        """RQ removes what a worker was through with, which may be late."""
        delivery = self.some_delivery(which)
        job_id, attempt, _ = delivery.split("-")
        model = self.models.get(job_id)
        if model is None or model.status != "queued" or model.attempt != int(attempt) - 1:
            self.store.forget_delivery(delivery)

    @precondition(lambda self: self.world.deliveries())
    @rule(process=st.integers(1, 2))
    def claim_next(self, process: int) -> None:
        """All is well: a worker takes the next delivery and claims."""
        self.pop(last=False)
        if self.hands_ever:
            self.send_claim(self.hands_ever[-1], process)

    @precondition(lambda self: self.hands_ever)
    @rule(which=WHICH, process=st.integers(1, 2))
    def claim(self, which: int, process: int) -> None:
        """A worker claims: for the first time, again as its reply was lost, late, or as a doubled delivery."""
        self.send_claim(self.some_delivery(which), process)

    def send_claim(self, delivery: str, process: int) -> Hold | None:
        job_id, number, _ = delivery.split("-")
        attempt = int(number)
        hold = Hold(job_id, attempt, f"{delivery}|host|boot|{process}|1", delivery)
        claim = self.store.claim(job_id, attempt, hold.holder, LEASE, 1, until=PATIENT)
        model = self.models.get(job_id)
        if model is None:
            assert claim == ""
            return None
        if model.status == "running" and (model.attempt, model.holder) == (attempt, hold.holder):
            assert isinstance(claim, Claim)
        elif model.status == "queued" and model.attempt == attempt - 1:
            assert isinstance(claim, Claim)
            model.enter("running")
            model.attempt, model.holder, model.declined_since = attempt, hold.holder, None
            self.held.append(hold)
        else:
            assert claim == model.status
            return None
        assert claim.record == (record(model.seq) if model.seq else None)
        assert claim.step_results == len(model.steps)
        return hold

    @precondition(lambda self: self.hands_ever)
    @rule(which=WHICH)
    def decline(self, which: int) -> None:
        delivery = self.some_delivery(which)
        job_id, attempt, _ = delivery.split("-")
        model, now = self.models.get(job_id), self.now()
        outcome = self.store.decline(job_id, int(attempt), delivery, "declined: no worker knows the task")
        if model is None or model.status != "queued" or model.delivery != delivery:
            assert outcome == "refused"
            return
        since = now if model.declined_since is None else model.declined_since
        over = now - since >= DECLINE_LIMIT
        model.enter("paused" if over else "waiting")
        model.declined_since = None if over else since
        assert outcome == model.status

    @precondition(lambda self: self.hands_ever)
    @rule(which=WHICH, kind=st.sampled_from(["crash", "exit", "shutdown"]))
    def crash(self, which: int, kind: str) -> None:
        """Somebody reports a death, before or after the claim; perhaps of a process that is long superseded."""
        delivery = self.some_delivery(which)
        job_id, attempt, _ = delivery.split("-")
        outcome = self.store.crash(job_id, int(attempt), delivery, "signal 9", kind, DEADLY, until=PATIENT)
        model = self.models.get(job_id)
        assert outcome == ("refused" if model is None else model.crash(int(attempt), delivery, kind))
        if model is not None:
            self.settled(model)

    # Holders and zombies: who sends is not asked, only whether it holds.

    @precondition(lambda self: self.held)
    @rule(which=WHICH, ahead=st.integers(-1, 2), passed=st.lists(st.sampled_from("ab"), max_size=2))
    def save(self, which: int, ahead: int, passed: list[str]) -> None:
        hold = self.some_hold(which)
        model = self.models.get(hold.id)
        seq = max(0, (model.seq if model else 1) + ahead)
        outcome = self.store.save(hold.id, hold.attempt, hold.holder, record(seq), passed)
        if self.answered(hold, model, outcome) and model is not None:
            model.keep(seq, passed)

    @precondition(lambda self: self.held)
    @rule(which=WHICH, path=st.sampled_from("abc"))
    def step(self, which: int, path: str) -> None:
        hold = self.some_hold(which)
        model = self.models.get(hold.id)
        self.written += 1
        result = str(self.written).encode()
        number = 1 if model is None else model.kept + 1
        outcome = self.store.keep_step(hold.id, hold.attempt, hold.holder, path, result, number)
        if self.answered(hold, model, outcome) and model is not None and path not in model.steps:
            model.steps[path] = result
            model.kept += 1

    def answered(self, hold: Hold, model: Model | None, outcome: str) -> bool:
        """Check the answer to a write in the middle of an attempt; return whether it is accepted."""
        if model is None:
            assert outcome == "gone"
            return False
        mine = model.guard(hold) == "mine"
        assert outcome == (model.stop if mine else "lost")
        return mine

    @precondition(lambda self: self.held)
    @rule(which=WHICH, as_parent=st.booleans())
    def renew(self, which: int, as_parent: bool) -> None:
        hold = self.some_hold(which)
        holder = f"{hold.delivery}|" if as_parent else hold.holder
        outcome = self.store.renew(hold.id, hold.attempt, holder, LEASE)
        model = self.models.get(hold.id)
        if model is None:
            assert outcome == "gone"
        elif model.status == "queued" and model.attempt == hold.attempt - 1:
            assert outcome == "unclaimed"
        elif model.status == "running" and model.attempt == hold.attempt and model.holder.startswith(holder):
            assert outcome == model.stop
            assert not self.overdue(hold.id)
        else:
            assert outcome == "lost"

    @precondition(lambda self: self.held)
    @rule(which=WHICH, how=st.sampled_from(["finish", "fail", "interrupt", "pause"]), ahead=st.integers(-1, 2))
    def let_go(self, which: int, how: str, ahead: int) -> None:
        self.send_let_go(self.some_hold(which), how, ahead)

    def send_let_go(self, hold: Hold, how: str, ahead: int) -> None:
        model = self.models.get(hold.id)
        seq = max(0, (model.seq if model else 1) + ahead)
        details = {
            "finish": [str(seq)],
            "fail": ['{"type":"ValueError","message":"no"}'],
            "interrupt": ["shutdown", 1],
            "pause": ["look at it"],
        }[how]
        outcome = self.store.let_go(how, hold.id, hold.attempt, hold.holder, record(seq), *details, until=PATIENT)
        assert outcome == ("gone" if model is None else model.let_go(how, hold, seq))
        if model is not None:
            self.settled(model)

    # Time and sweeps.

    @rule(seconds=st.sampled_from(JUMPS))
    def clock_jumps(self, seconds: float) -> None:
        self.jump(seconds)

    @precondition(lambda self: self.requests)
    @rule(which=WHICH)
    def lease_runs_out(self, which: int) -> None:
        """A sweep that looked a while ago says that a lease ran out; perhaps it did not, or is long renewed."""
        request = self.some_request(which)
        job_id = request.job_id
        model = self.models.get(job_id)
        overdue = self.overdue(job_id)
        outcome = self.store.expire(Due(job_id, "running", model.attempt if model else 1))
        accepted = model is not None and model.status == "running" and overdue
        assert outcome == (model.expire() if accepted and model is not None else "refused")
        if model is not None:
            self.settled(model)

    @rule()
    def time_passes(self) -> None:
        """Long enough for a lost delivery to be missed."""
        self.jump(11.0)
        self.sweep()

    @precondition(lambda self: any(model.status in ("failed", "cancelled") for model in self.models.values()))
    @rule(which=WHICH)
    def retry_one(self, which: int) -> None:
        ended = [model for model in self.models.values() if model.status in ("failed", "cancelled")]
        model = ended[which % len(ended)]
        self.send_asked(Asked(model.id, "retry", model.revision, self.fresh()))

    @precondition(lambda self: any(model.status == "running" for model in self.models.values()))
    @rule(which=WHICH, verb=st.sampled_from(["pause", "cancel"]))
    def ask_a_running_one(self, which: int, verb: str) -> None:
        running = [model for model in self.models.values() if model.status == "running"]
        model = running[which % len(running)]
        self.asks.append(Asked(model.id, verb, model.revision, self.fresh()))
        self.send_asked(self.asks[-1])

    @rule()
    def sweep(self) -> None:
        """What is due is looked at; whatever a sweep changes is one of the changes that it may make."""
        due = {job_id for job_id in self.models if self.overdue(job_id)}
        self.sweeper.sweep()
        for job_id in due:
            self.swept(self.models[job_id])

    def swept(self, model: Model) -> None:
        if not self.client.exists(KEYS.job(model.id)):
            assert not model.live, f"a sweep removed a job that was {model.status}"
            self.forget(model)
            return
        fields = self.client.hmget(KEYS.job(model.id), "status", "revision")
        status, revision = fields[0].decode(), int(fields[1])
        if revision == model.revision:
            return
        if model.status == "running":
            model.expire()
        elif model.status == "waiting":
            model.enter("queued")
        else:
            assert model.status == status == "queued", f"a sweep made a job {status} that was {model.status}"
            model.revision += 1
            model.deliver()
        self.settled(model)

    # What must hold after every rule.

    @invariant()
    def redis_is_as_the_model_says(self) -> None:
        agenda = {job_id.decode() for job_id in self.client.zrange(KEYS.agenda, 0, -1)}
        assert agenda == {model.id for model in self.models.values() if model.status != "paused"}
        for status in STATUSES:
            members = {job_id.decode() for job_id in self.client.zrange(KEYS.status(status), 0, -1)}
            assert members == {model.id for model in self.models.values() if model.status == status}, status
        for model in self.models.values():
            self.check_job(model)
        self.check_names()

    def check_job(self, model: Model) -> None:
        key = KEYS.job(model.id)
        found = {name.decode(): value.decode() for name, value in self.client.hgetall(key).items()}
        expected = {
            "status": model.status,
            "attempt": model.attempt,
            "seq": model.seq,
            "revision": model.revision,
            "kept": model.kept,
            "stop": model.stop,
            "holder": model.holder,
            "delivery": model.delivery,
            "crashes": model.crashes,
            "lost": model.lost,
            "interruptions": model.interruptions,
            "result": model.result,
        }
        numbers = ("kept", "crashes", "lost", "interruptions")
        assert {name: found.get(name, "0" if name in numbers else "") for name in expected} == {
            name: str(value) for name, value in expected.items()
        }
        assert self.client.hgetall(KEYS.steps(model.id)) == {k.encode(): v for k, v in model.steps.items()}
        for name in (key, KEYS.history(model.id)):
            assert (self.client.ttl(name) > 0) == (not model.live), f"{name} of a job that is {model.status}"
        if model.status == "queued":
            self.check_delivery(model)
        if model.status == "finished":
            assert self.frozen.setdefault(model.id, found) == found, "a finished job changed"

    def check_delivery(self, model: Model) -> None:
        """A queued job can be taken, or its delivery is missed soon; and no id is used twice."""
        if model.delivery not in self.used[model.id]:
            assert all(int(old.split("-")[2]) < model.revision for old in self.used[model.id])
            self.used[model.id].add(model.delivery)
            assert model.delivery in self.world.deliveries()
            assert self.client.exists(KEYS.delivery(model.delivery))
        assert self.client.zscore(KEYS.agenda, model.id) is not None

    def check_names(self) -> None:
        for kind, names in (("key", self.keys), ("unique", self.unique)):
            found = {
                key.decode().rpartition("/")[2]: self.client.get(key).decode()
                for key in self.client.scan_iter(f"ckpt:{kind}:*")
            }
            assert found == names

    @invariant()
    def nobody_but_the_holder_is_heard(self) -> None:
        heard: dict[str, list[str]] = {}
        for hold in self.held:
            if self.store.save(hold.id, hold.attempt, hold.holder, record(0), ()) not in ("lost", "gone"):
                heard.setdefault(hold.id, []).append(hold.holder)
        running = {model.id: [model.holder] for model in self.models.values() if model.status == "running"}
        assert heard == running

    @invariant()
    def nothing_is_left_of_removed_jobs(self) -> None:
        live = {key.decode() for key in self.client.scan_iter("ckpt:job:*")}
        assert {key.split(":")[2] for key in live} <= set(self.models)
        current = {model.delivery for model in self.models.values()}
        known = {*self.world.deliveries(), *self.hands, *current}
        hashes = {
            key.decode().removeprefix(KEYS.delivery(""))
            for key in self.client.scan_iter("rq:job:*")
            if self.client.ttl(key) < 0
        }
        assert hashes <= known, "a delivery's hash that nobody will ever take away"

    # The end.

    def teardown(self) -> None:
        """Everything is let run to its end and removed: nothing is stuck, nothing stays."""
        try:
            self.run_to_the_end()
        finally:
            self.client.flushall()

    def run_to_the_end(self) -> None:
        for turn in range(60):
            if not self.models:
                break
            for model in list(self.models.values()):
                if model.status == "paused":
                    self.send_asked(Asked(model.id, "resume", model.revision, self.fresh()))
            while (popped := self.client.lpop(KEYS.queue(QUEUE))) is not None:
                self.work_off(popped.decode())
            # Where the clock went back, or a delivery was found again and again, the next look is far away.
            self.jump(1000.0 if turn % 12 == 11 else LEASE / 4)
            self.sweep()
            if all(not model.live for model in self.models.values()):
                self.jump(RETENTION + 1.0)
                self.sweep()
            self.redis_is_as_the_model_says()
        assert not self.models, f"stuck: {[(model.status, model.id) for model in self.models.values()]}"
        for delivery in [*self.hands, *self.world.deliveries()]:
            self.store.forget_delivery(delivery)
        self.client.delete(KEYS.queue(QUEUE))  # ids of removed jobs, which a worker's next pop drops
        left = {key for key in self.client.scan_iter("*") if key not in BOOKKEEPING and self.client.ttl(key) < 0}
        assert not left, left

    def work_off(self, delivery: str) -> None:
        self.hands.discard(delivery)
        if self.client.exists(KEYS.delivery(delivery)):
            hold = self.send_claim(delivery, 3)
            if hold is not None:
                self.send_let_go(hold, "finish", 1)
            self.store.forget_delivery(delivery)


T = TypeVar("T")


def _choose(which: int, now: list[T], ever: list[T]) -> T:
    among = now if now and which % 3 else ever
    return among[which // 3 % len(among)]


def search(client: Any, clock: Clock | None, examples: int) -> None:
    """Let hypothesis look for an order of rules that breaks something."""
    run_state_machine_as_test(
        lambda: Transitions(client, clock),
        settings=settings(
            max_examples=examples * (20 if DEEP else 1),
            stateful_step_count=40,
            deadline=None,
            database=None,
            derandomize=not DEEP,
            suppress_health_check=list(HealthCheck),
        ),
    )


@pytest.fixture
def double() -> Iterator[tuple[Any, Clock]]:
    """fakeredis, on a clock of the test's own."""
    clock = Clock()
    client = fakeredis.FakeRedis(server=fakeredis.FakeServer())
    with (
        patch("fakeredis._helpers.time", clock),
        patch("fakeredis.commands_mixins.server_mixin.time", clock),
    ):
        yield connect(client, WORKER, "ckpt"), clock


@pytest.fixture
def real(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A real server."""
    server = EmbeddedValkey(tmp_path_factory.mktemp("v"))
    client = connect(server.start(), WORKER, "ckpt")
    try:
        yield client
    finally:
        client.connection_pool.disconnect()
        server.stop()


@pytest.mark.timeout(1800 if DEEP else 240)
def test_no_order_of_events_breaks_a_promise(double: tuple[Any, Clock]) -> None:
    """If this fails, some order of late, doubled and lost messages loses a job, runs it twice or leaves it stuck."""
    search(*double, examples=70)


@pytest.mark.timeout(1800 if DEEP else 240)
def test_no_order_of_events_breaks_a_promise_on_a_real_server(real: Any) -> None:
    """If this fails, the scripts keep their promises on the test double only."""
    search(real, None, examples=100)
