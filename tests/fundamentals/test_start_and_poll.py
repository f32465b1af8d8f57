"""Start a job, poll it, read its result."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal

import pytest

from checkpoint_runner import Checkpoint, Job, Runner, Status, checkpointed, default_runner
from checkpoint_runner.errors import JobFailed, JobNotFound
from tests.conftest import done


@checkpointed
def add_up(checkpoint: Checkpoint, numbers: list[int]) -> int:
    total = 0
    for number in numbers:
        total += number
    return total


@checkpointed
def price(checkpoint: Checkpoint, cents: int) -> Decimal:
    return Decimal(cents) / 100


@checkpointed
def nothing(checkpoint: Checkpoint) -> None:
    done.append((checkpoint.job_id, checkpoint.attempt, checkpoint.resumed))


@checkpointed
def broken(checkpoint: Checkpoint) -> None:
    raise ValueError("the file has no header")


@pytest.mark.usefixtures("runner")
def test_start_returns_a_queued_job() -> None:
    """A request handler would have nothing to answer with if start() did not return the job at once."""
    job = add_up.start([1, 2, 3])
    assert (job.status, job.created, job.attempts, job.result) == (Status.QUEUED, True, 0, None)
    assert job.task == add_up.name == "tests.fundamentals.test_start_and_poll.add_up"
    assert job.queue == "default"
    assert job.started_at is None
    assert job.ended_at is None
    assert job.created_at.tzinfo is not None


def test_the_snapshot_of_start_is_what_redis_holds(runner: Runner) -> None:
    """A page would show one thing after start() and another after a reload if the snapshot was made up."""
    job = add_up.options(labels={"who": "anna"}, key="k").start([1])
    stored = job.refresh()
    for field in ("id", "task", "status", "reason", "progress", "queue", "labels", "key", "attempts", "revision"):
        assert getattr(stored, field) == getattr(job, field), field
    assert abs((stored.created_at - job.created_at).total_seconds()) < 5


def test_a_worker_runs_it_and_the_result_can_be_read(runner: Runner) -> None:
    """Nobody would get the job's result if it was not kept."""
    job = add_up.start([1, 2, 3])
    assert runner.work() == 1
    job = job.refresh()
    assert (job.status, job.result, job.attempts, job.error) == (Status.FINISHED, 6, 1, None)
    assert job.final
    assert isinstance(job.started_at, datetime)
    assert isinstance(job.ended_at, datetime)
    assert job.created_at <= job.started_at <= job.ended_at


def test_the_result_comes_back_in_its_annotated_type(runner: Runner) -> None:
    """Callers would get text where the function promises a Decimal."""
    job = price.start(199)
    runner.work()
    assert job.refresh().result == Decimal("1.99")
    assert isinstance(job.refresh().result, Decimal)


def test_a_snapshot_does_not_change(runner: Runner) -> None:
    """A template that reads the status twice would contradict itself if snapshots changed under it."""
    job = add_up.start([1])
    runner.work()
    assert job.status is Status.QUEUED
    with pytest.raises(AttributeError):
        job.status = Status.FAILED  # type: ignore[misc]


def test_a_job_is_found_again_by_its_id(runner: Runner) -> None:
    """A second request could not poll what the first one started."""
    started = add_up.start([4])
    assert runner.job(started.id).id == started.id
    again: Job[int] = add_up.job(started.id)
    assert again.status is Status.QUEUED
    assert default_runner() is runner


@pytest.mark.parametrize(
    "job_id",
    ["0" * 32, "", "../../etc", "a:b", "x" * 10_000, "x\ny", "²", "\x1b[31m"],
    ids=lambda text: repr(text)[:12],
)
def test_an_unknown_id_is_not_found(runner: Runner, job_id: str) -> None:
    """A web handler would answer 500 where 404 is right."""
    with pytest.raises(JobNotFound) as caught:
        runner.job(job_id)
    assert len(str(caught.value)) < 300
    assert "\x1b" not in str(caught.value)


def test_an_exception_fails_the_job_with_its_reason(runner: Runner) -> None:
    """Nobody would find out why a job failed."""
    job = broken.start()
    runner.work()
    job = job.refresh()
    assert job.status is Status.FAILED
    assert job.error is not None
    assert (job.error.type, job.error.message) == ("ValueError", "the file has no header")
    assert "in broken" in job.error.traceback
    with pytest.raises(JobFailed, match="the file has no header"):
        job.wait()


def test_a_task_knows_its_job(runner: Runner) -> None:
    """A task could not name its job in its own logs."""
    job = nothing.start()
    runner.work()
    assert done == [(job.id, 1, False)]
    finished = job.refresh()
    assert finished.status is Status.FINISHED
    assert finished.result is None


def test_a_worker_runs_many_jobs_in_order(runner: Runner) -> None:
    """Jobs that waited longest would be starved."""
    jobs = [nothing.start() for _ in range(5)]
    assert runner.work() == 5
    assert [entry[0] for entry in done] == [job.id for job in jobs]
    assert runner.work() == 0


def test_a_delivery_that_comes_twice_does_nothing(runner: Runner, redis_client: object) -> None:
    """A doubled delivery would run the job twice."""
    client = runner._for_work().client
    queue = runner._for_work().keys.queue("default")
    nothing.start()
    delivery = client.lindex(queue, 0)
    client.rpush(queue, delivery)
    assert runner.work() == 2
    assert len(done) == 1
