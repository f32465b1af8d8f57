"""Attempts: versions, crashes, odd errors, and what a stale holder may not do."""

from __future__ import annotations

import dataclasses
from typing import Any

import fakeredis
import pytest

from checkpoint_runner import Checkpoint, checkpointed, processes, specs
from checkpoint_runner.delivery import Delivery, Host, run_delivery
from checkpoint_runner.errors import RedisUnavailable
from checkpoint_runner.recovery import recover
from checkpoint_runner.signatures import Signature
from tests.conftest import Worker, done


@checkpointed
def letters(checkpoint: Checkpoint) -> None:
    for letter in checkpoint.each("abcdef"):
        done.append(letter)


class Mute(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")


ERRORS: dict[str, Any] = {
    "undecodable file name": lambda: ValueError("cannot read caf\udce9.txt"),
    "no text": Mute,
    "huge": lambda: ValueError("x" * 5_000_000),
    "group": lambda: ExceptionGroup("several", [ValueError("a"), KeyError("b")]),
}


@checkpointed
def raises(checkpoint: Checkpoint, kind: str) -> None:
    raise ERRORS[kind]()


@checkpointed
def one_step_an_attempt(checkpoint: Checkpoint) -> None:
    for number in range(6):
        checkpoint.step(f"step {number}", done.append, number)


@checkpointed
def outage_in_a_step(checkpoint: Checkpoint) -> None:
    checkpoint.step("charge", done.append, "charge")
    done.append("behind")


class TestSurvival:
    """What an attempt must survive."""

    @pytest.mark.parametrize("kind", ERRORS)
    def test_any_exception_ends_in_a_failed_job(self, worker: Worker, kind: str) -> None:
        """The worker would stumble over the error itself, and the job would be run again and again."""
        job = raises.start(kind)
        try:
            status = worker.run()
        except Exception as stumbled:
            status = ascii(stumbled)  # its traceback may be as odd as the error
        assert status == "failed"
        error = job.refresh().error
        assert error is not None
        assert error.type

    def test_a_huge_error_is_cut(self, worker: Worker) -> None:
        """An exception that quotes its whole input would fill Redis and every page that shows it."""
        job = raises.start("huge")
        worker.run()
        error = job.refresh().error
        assert error is not None
        assert len(error.message) + len(error.traceback) < 100_000

    def test_an_outage_while_a_step_is_kept(self, worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
        """A short outage of the server would fail the job, and its retry would charge again."""
        outage_in_a_step.start()
        store = worker.backend.store
        real = store.keep_step
        calls: list[int] = []

        def keep_step(*arguments: Any) -> str:
            calls.append(1)
            if len(calls) == 1:
                raise RedisUnavailable
            return real(*arguments)

        monkeypatch.setattr(type(store), "keep_step", lambda _, *arguments: keep_step(*arguments))
        assert worker.run() == "finished"
        assert done == ["charge", "behind"]


def kill(worker: Worker, job_id: str, after: int) -> str:
    """Have the process die after some more things are done: it writes nothing more."""

    class Killed(BaseException):
        pass

    def die(attempt: Any) -> None:
        attempt.journal.save()
        attempt.journal.let_go = lambda *_, **__: (_ for _ in ()).throw(Killed())
        raise Killed

    delivery: list[str] = []
    take = worker._next
    worker._next = lambda: delivery.append(take() or "") or delivery[-1]  # type: ignore[method-assign,func-returns-value]
    with pytest.raises(Killed):
        worker.run_and(die, after=after)
    worker._next = take  # type: ignore[method-assign]
    attempt = worker.attempts[-1].lease.attempt
    return recover(worker.backend, job_id, attempt, delivery[-1], "killed", "crash")


def test_a_crash_goes_on_from_the_last_save(worker: Worker) -> None:
    """A killed worker would cost more than the items since the last save."""
    job = letters.start()
    assert kill(worker, job.id, 3) == "queued"
    assert worker.run() == "finished"
    assert done == ["a", "b", "c", "c", "d", "e", "f"]
    assert job.refresh().crashes == 1


def test_a_crash_loop_ends(worker: Worker) -> None:
    """One deadly item would take down worker after worker."""
    job = letters.start()
    statuses = []
    while not statuses or statuses[-1] == "queued":
        statuses.append(kill(worker, job.id, 1))
        assert len(statuses) < 10
    assert statuses[-1] == "failed"
    failed = job.refresh()
    assert failed.reason == "crash loop"
    assert failed.error is not None
    assert failed.error.type != "Unreadable"


def test_crashes_between_which_steps_are_finished_are_no_crash_loop(worker: Worker) -> None:
    """A job that gets on by a step each time would be given up."""
    job = one_step_an_attempt.start()
    for _ in range(4):
        assert kill(worker, job.id, 2 if done else 1) == "queued"
    assert worker.run() == "finished"


def test_a_stale_holder_changes_nothing(worker: Worker, redis_client: fakeredis.FakeRedis) -> None:
    """A worker that was frozen would overwrite what its successor has done."""
    job = letters.start()

    def take_over(attempt: Any) -> None:
        key = f"ckpt:job:{job.id}"
        redis_client.hset(key, "attempt", 2)
        redis_client.hset(key, "holder", "another")
        before.append(redis_client.hgetall(key))
        attempt.control.raised = True

    before: list[dict[bytes, bytes]] = []
    assert worker.run_and(take_over, after=2) == "lost"
    assert redis_client.hgetall(f"ckpt:job:{job.id}") == before[0]
    assert done == ["a", "b"]


def _with_version(registry: dict[str, specs.TaskSpec], version: int) -> None:
    registry[letters.name] = dataclasses.replace(specs.require(letters.name), version=version)


def test_older_code_declines_a_newer_checkpoint(worker: Worker, registry: dict[str, specs.TaskSpec]) -> None:
    """In a deploy the old release would go on from a checkpoint that it can't understand."""
    job = letters.start()
    _with_version(registry, 2)
    worker.run(stop_after=2)
    _with_version(registry, 1)
    assert worker.run() == "waiting"
    assert done == ["a", "b"]
    assert "version" in job.refresh().reason


def test_newer_code_does_not_go_on_from_an_older_checkpoint(
    worker: Worker, registry: dict[str, specs.TaskSpec]
) -> None:
    """`version`, raised because the code can't go on from older checkpoints, would mean nothing."""
    job = letters.start()
    worker.run(stop_after=2)
    _with_version(registry, 2)
    assert worker.run() == "waiting", "a worker with the older code may still be there"
    assert "version 1" in job.refresh().reason
    assert "version 2" in job.refresh().reason
    assert done == ["a", "b"]


@pytest.mark.parametrize(
    ("rq_id", "parsed"),
    [
        ("a1-2-3", ("a1", 2)),
        ("", None),
        ("a1", None),
        ("a1-2", None),
        ("a1-x-3", None),
        ("a1-2-3-4", None),
        ("a:1-2-3", None),
        ("-2-3", None),
        ("a1-²-3", None),
        ("a1--2-3", None),
    ],
)
def test_ids_of_deliveries(rq_id: str, parsed: tuple[str, int] | None) -> None:
    """An ordinary RQ job would be taken for a delivery, or break the worker."""
    delivery = Delivery.parse(rq_id)
    assert (None if delivery is None else (delivery.job_id, delivery.attempt)) == parsed


def test_a_foreign_delivery_is_left_alone(worker: Worker) -> None:
    """Somebody else's RQ job would be run, or lost."""
    host = Host(worker.backend)
    assert run_delivery(host, "some-ordinary-uuid") == "foreign"
    assert run_delivery(host, f"{'0' * 32}-1-1") == "gone"


def test_arguments_that_no_longer_fit_pause_the_job(worker: Worker, redis_client: fakeredis.FakeRedis) -> None:
    """After a release with another signature the job would fail for good."""
    job = raises.start("no text")
    redis_client.hset(f"ckpt:job:{job.id}", "arguments", b"[[1, 2, 3], {}]")
    assert worker.run() == "paused"
    assert "The arguments do not fit" in job.refresh().reason


def test_one_unknown_name_does_not_hide_the_other_annotations() -> None:
    """A name that is imported for the type checker only would make all annotations of a task void."""
    namespace: dict[str, Any] = {}
    exec(
        "from __future__ import annotations\n"
        "import datetime\n"
        "def task(checkpoint: OnlyForTheTypeChecker, day: datetime.date) -> None: ...\n",
        namespace,
    )
    from datetime import date

    signature = Signature(namespace["task"], "task")
    day = date(2024, 2, 29)
    assert signature.decode(signature.encode((day,), {})) == ((day,), {})


def test_this_process_is_the_holder(worker: Worker, redis_client: fakeredis.FakeRedis) -> None:
    """A sweep could not prove a death."""
    job = letters.start()
    holders: list[str] = []
    worker.run_and(lambda _: holders.append(redis_client.hget(f"ckpt:job:{job.id}", "holder").decode()), after=1)
    delivery, *rest = holders[0].split("|")
    assert delivery.startswith(job.id)
    assert rest == processes.holder("x").split("|")[1:]
