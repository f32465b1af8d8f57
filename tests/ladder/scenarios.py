"""What is done under faults: one scenario for each transition, the same ones for every enumerating rung."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from checkpoint_runner import Runner, processes, specs
from checkpoint_runner.attempt import Attempt
from checkpoint_runner.delivery import run_delivery
from checkpoint_runner.errors import JobNotFound, NotPossibleNow
from checkpoint_runner.hosts import Host
from checkpoint_runner.interruptions import Interruption, Reason
from checkpoint_runner.jobs import Job
from checkpoint_runner.recovery import recover
from tests.ladder import ladder_tasks as tasks
from tests.ladder.ladder_tasks import MENDED, QUEUE, notebook
from tests.ladder.ladder_world import DAMAGE, KEYS, Holding, World

Ids = list[str]

ELSEWHERE = "elsewhere|boot|1|1"
"""A holder of which this machine knows nothing: only the end of its lease tells."""

DEAD = "{host}|{boot}|{pid}|1"
"""A holder on this machine that is provably gone: no process with this pid began at tick 1."""


@dataclass(frozen=True)
class Scenario:
    """One thing that somebody does, and what must have come of it in the end whatever happened in between.

    `prepare` makes the world before it and returns the jobs in question; `act` is what is disturbed;
    `again` says that whoever got no answer acts again; `release` is what an undisturbed holder of the
    job does next; `mend` is what people do about jobs that came
    to rest; `ends` are the jobs' statuses then, in order of id where there are several, `result` what
    each finished one returned. `pops` says that `act` takes deliveries, which a lost reply loses
    until the sweep makes new ones. `least` is the fewest commands that `act` can do with, so that an
    enumeration that counts nothing is seen. `at_every_item`: at most one item may be done again.
    `cold`: the server does not know the scripts. `damaged`: deliveries are missing from the beginning.
    """

    name: str
    prepare: Callable[[World], Ids]
    act: Callable[[Runner, Ids], Any]
    ends: tuple[str, ...] = ("finished",)
    again: bool = False
    release: Callable[[World, Ids], None] = lambda _world, _ids: None
    mend: Callable[[World, Ids], None] | None = None
    result: int = 3
    pops: bool = False
    least: int = 1
    at_every_item: bool = True
    cold: bool = False
    made_by_act: bool = False
    damaged: bool = False


SCENARIOS: dict[str, Scenario] = {}


def _add(name: str, prepare: Callable[[World], Ids], act: Callable[[Runner, Ids], Any], **rest: Any) -> None:
    for prefix in ("", "cold ") if rest.pop("both", False) else ("",):
        SCENARIOS[prefix + name] = Scenario(prefix + name, prepare, act, cold=bool(prefix), **rest)


def told(job: Job[Any]) -> list[Any]:
    """What a caller sees of a job."""
    return [job.status, job.reason, job.attempts, job.stop_requested, job.created]


# How worlds are prepared.


def nothing(_world: World) -> Ids:
    return []


def queued(task: Any, *arguments: Any, **options: Any) -> Callable[[World], Ids]:
    return lambda world: [task.options(runner=world.runner, **options).start(*arguments).id]


def running(holder: str = "", *, stop: str = "") -> Callable[[World], Ids]:
    """A job that this process holds, or another one; somebody may have asked it to stop."""

    def prepare(world: World) -> Ids:
        (job_id,) = queued(tasks.count)(world)
        world.claim(job_id, holder=_filled(holder))
        if stop:
            getattr(world.runner.job(job_id), stop)()
        return [job_id]

    return prepare


def _filled(holder: str) -> str:
    return holder.format(host=processes.host(), boot=processes.boot(), pid=1)


def after(before: Callable[[World], Ids], *verbs: str) -> Callable[[World], Ids]:
    """The same, and then what people ask for."""

    def prepare(world: World) -> Ids:
        ids = before(world)
        for verb in verbs:
            getattr(world.runner.job(ids[0]), verb)()
        return ids

    return prepare


def worked(before: Callable[[World], Ids]) -> Callable[[World], Ids]:
    """The same, and then a worker ran until nothing was left."""

    def prepare(world: World) -> Ids:
        ids = before(world)
        world.steady()
        world.runner.work(QUEUE)
        return ids

    return prepare


def overdue(before: Callable[[World], Ids]) -> Callable[[World], Ids]:
    """The same, and the agenda wants it looked at."""

    def prepare(world: World) -> Ids:
        ids = before(world)
        for job_id in ids:
            world.overdue(job_id)
        world.steady()
        return ids

    return prepare


def lost_delivery(*, hash_too: bool) -> Callable[[World], Ids]:
    def prepare(world: World) -> Ids:
        (job_id,) = queued(tasks.count)(world)
        delivery = world.field(job_id, "delivery")
        world.client.lrem(KEYS.queue(QUEUE), 0, delivery)
        if hash_too:
            world.client.delete(KEYS.delivery(delivery))
        return [job_id]

    return prepare


def everything_due(world: World) -> Ids:
    """One job for each thing that a sweep can do, all due at once."""
    made = [
        *running(ELSEWHERE)(world),
        *running(ELSEWHERE, stop="cancel")(world),
        *running(ELSEWHERE, stop="pause")(world),
        *queued(tasks.count, delay=3600)(world),
        *worked(queued(tasks.fails))(world),
        *lost_delivery(hash_too=True)(world),
    ]
    for job_id in made:
        world.overdue(job_id)
    world.client.zadd(KEYS.agenda, dict.fromkeys(DAMAGE, 1.0))
    dead = running(DEAD)(world)
    world.steady()
    return [*made, *dead]


# What is disturbed.


def start(runner: Runner, _ids: Ids, **options: Any) -> Any:
    job = tasks.count.options(runner=runner, **options).start()
    notebook.write(f"started {job.id}")
    return told(job)


def ask(verb: str) -> Callable[[Runner, Ids], Any]:
    return lambda runner, ids: told(getattr(runner.job(ids[0]), verb)())


def delete(runner: Runner, ids: Ids) -> None:
    runner.job(ids[0]).delete()


def work(runner: Runner, _ids: Ids) -> Any:
    return runner.work(QUEUE)


def work_interrupted(runner: Runner, _ids: Ids) -> Any:
    """A worker that is asked to stop while the second item runs."""
    backend = runner._for_work()
    delivery = backend.store.pop_delivery(QUEUE)
    if delivery is None:
        return ""

    def attend(attempt: Attempt) -> None:
        original = attempt.journal.save

        def save() -> str | None:
            answer = original()
            attempt.stop(Interruption(Reason.SHUTDOWN, time.monotonic() + 20.0))
            return answer

        attempt.journal.save = save  # type: ignore[method-assign]

    status = run_delivery(Host(backend, on_attempt=[attend]), delivery)
    backend.store.forget_delivery(delivery)
    return status


def decline(runner: Runner, _ids: Ids) -> Any:
    """A worker of an older release, which lacks the task."""
    known = dict(specs._by_name)
    specs._by_name.clear()
    try:
        return runner.work(QUEUE)
    finally:
        specs._by_name.update(known)


def sweep(runner: Runner, _ids: Ids) -> None:
    runner.sweep()


def report_crash(runner: Runner, ids: Ids) -> None:
    """A parent whose horse is dead says so, as far as the job is still that horse's."""
    job_id = ids[0]
    store = runner._for_work().store
    found = store.read(job_id, ("delivery", "attempt", "status"))
    assert found is not None
    delivery, attempt, status = (value.decode() for value in found[2].values())
    if notebook.lines().count("reported") == 0:
        notebook.write("reported")
        number = int(attempt) + (status != "running")
        recover(runner._for_work(), job_id, number, delivery, "killed by signal 9", "crash")


# What people do about what came to rest.


def mended_and(verb: str) -> Callable[[World, Ids], None]:
    def mend(world: World, ids: Ids) -> None:
        notebook.write(MENDED)
        for job_id in ids or world.ids():
            with contextlib.suppress(NotPossibleNow, JobNotFound):
                getattr(world.runner.job(job_id), verb)()

    return mend


def let_go(how: str, *details: str | int) -> Callable[[World, Ids], None]:
    """The process that had the job all the time reaches its next safe place."""

    def release(world: World, ids: Ids) -> None:
        if world.field(ids[0], "status") == "running":
            holder, attempt = world.field(ids[0], "holder"), int(world.field(ids[0], "attempt"))
            world.let_go(Holding(ids[0], attempt, holder), how, *details)

    return release


STOPPED = let_go("interrupt", "shutdown", 1)

# Starts: without a key nobody can ask again, with one it gives the same job.
_add("start", nothing, start, least=2, made_by_act=True, both=True)
for _label, _options in {
    "key": {"key": "k"},
    "unique": {"unique": "u"},
    "delay": {"delay": 60.0, "key": "k", "unique": "u"},
}.items():
    _add(
        f"start with {_label}",
        nothing,
        lambda runner, ids, options=_options: start(runner, ids, **options),
        least=2,
        again=True,
        made_by_act=True,
        both=True,
    )
_add(
    "start a known key",
    queued(tasks.count, key="k"),
    lambda runner, ids: start(runner, ids, key="k"),
    least=3,
    again=True,
)

# What people ask for.
_add("pause queued", queued(tasks.count), ask("pause"), ends=("paused",), again=True, least=3, both=True)
_add("pause waiting", queued(tasks.count, delay=60), ask("pause"), ends=("paused",), again=True, least=3)
_add("pause running", running(), ask("pause"), ends=("paused",), again=True, least=3, release=STOPPED)
_add("resume", after(queued(tasks.count), "pause"), ask("resume"), again=True, least=3, both=True)
_add("withdraw a pause", running(stop="pause"), ask("resume"), again=True, least=3, release=STOPPED)
_add("cancel queued", queued(tasks.count), ask("cancel"), ends=("cancelled",), again=True, least=3, both=True)
_add("cancel waiting", queued(tasks.count, delay=60), ask("cancel"), ends=("cancelled",), again=True, least=3)
_add("cancel paused", after(queued(tasks.count), "pause"), ask("cancel"), ends=("cancelled",), again=True, least=3)
_add("cancel running", running(), ask("cancel"), ends=("cancelled",), again=True, least=3, release=STOPPED)
_add("retry cancelled", after(queued(tasks.count), "cancel"), ask("retry"), again=True, least=3, both=True)
_add(
    "retry failed",
    worked(queued(tasks.fails)),
    ask("retry"),
    ends=("finished",),
    again=True,
    least=3,
    mend=mended_and("retry"),
)
_add("delete queued", queued(tasks.count, key="k", unique="u"), delete, ends=(), again=True, least=2, both=True)
_add("delete finished", worked(queued(tasks.count, key="k")), delete, ends=(), again=True, least=2)
_add("delete paused", after(queued(tasks.count), "pause"), delete, ends=(), again=True, least=2)

# The life of an attempt: sweep, pop, read, claim, save, step, and each way to let go.
_add("work", queued(tasks.count), work, pops=True, least=9, both=True)
_add("work, saving at the end", queued(tasks.lazy), work, pops=True, least=6, at_every_item=False)
_add("work with steps", queued(tasks.steps), work, pops=True, least=12, result=113, both=True)
_add(
    "work that fails",
    queued(tasks.fails),
    work,
    pops=True,
    least=6,
    mend=mended_and("retry"),
    both=True,
)
_add("work that asks for a person", queued(tasks.asks), work, pops=True, least=6, mend=mended_and("resume"), both=True)
_add("work that is paused", queued(tasks.stops_itself, "pause"), work, pops=True, least=9, mend=mended_and("resume"))
_add("work that is cancelled", queued(tasks.stops_itself, "cancel"), work, pops=True, least=9, mend=mended_and("retry"))
_add("work that is interrupted", queued(tasks.count), work_interrupted, pops=True, least=5, both=True)
_add("decline", queued(tasks.count), decline, pops=True, least=4, both=True)

# The sweep, one thing at a time and all at once; and what is done for the dead.
_add("expire", overdue(running(ELSEWHERE)), sweep, again=True, least=3, both=True)
_add("expire, cancelled", overdue(running(ELSEWHERE, stop="cancel")), sweep, again=True, least=3, ends=("cancelled",))
_add("expire, paused", overdue(running(ELSEWHERE, stop="pause")), sweep, again=True, least=3, ends=("paused",))
_add("redeliver", overdue(lost_delivery(hash_too=True)), sweep, again=True, least=3, damaged=True, both=True)
_add("redeliver from a worker's hands", overdue(lost_delivery(hash_too=False)), sweep, again=True, least=3)
_add("look at a delivery", overdue(queued(tasks.count)), sweep, again=True, least=3)
_add("wake", overdue(queued(tasks.count, delay=3600)), sweep, again=True, least=3, both=True)
_add("remove", overdue(worked(queued(tasks.count, key="k"))), sweep, again=True, least=3, ends=(), both=True)
_add("bury the dead", running(DEAD), sweep, again=True, least=5, both=True)
_add(
    "sweep everything",
    everything_due,
    sweep,
    again=True,
    damaged=True,
    least=10,
    ends=("finished", "cancelled", "paused", "finished", "finished", "finished"),
    both=True,
)
_add("crash", running(DEAD), report_crash, again=True, least=3, both=True)
_add("crash before the claim", queued(tasks.count), report_crash, least=3)
