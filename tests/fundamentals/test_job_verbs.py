"""Delete, history, wait, watch, and lists of jobs."""

from __future__ import annotations

import threading

import fakeredis
import pytest

from checkpoint_runner import Checkpoint, Runner, Status, checkpointed
from checkpoint_runner.errors import CheckpointRunnerError, JobNotFound, NotPossibleNow
from tests.conftest import Worker, done


@checkpointed
def quick(checkpoint: Checkpoint, number: int = 0) -> int:
    for _ in checkpoint.each(range(3)):
        done.append(number)
    return number


@checkpointed(queue="other")
def elsewhere(checkpoint: Checkpoint) -> None:
    pass


def test_the_history_tells_each_transition(worker: Worker) -> None:
    """Nobody could find out afterwards what happened to a job."""
    job = quick.start(1)
    job.pause("the | sign\nand a second line").resume()
    worker.run(stop_after=1)
    worker.run()
    lines = [(line.source, line.target, line.attempt, line.reason) for line in job.history()]
    assert lines == [
        ("", "queued", 0, ""),
        ("queued", "paused", 0, "the | sign\nand a second line"),
        ("paused", "queued", 0, ""),
        ("queued", "running", 1, ""),
        ("running", "queued", 1, "shutdown"),
        ("queued", "running", 2, ""),
        ("running", "finished", 2, ""),
    ]
    moments = [line.at for line in job.history()]
    assert moments == sorted(moments)


def test_the_history_is_bounded(runner: Runner) -> None:
    """A job that is paused and resumed by a script for weeks would fill Redis."""
    job = quick.start()
    for _ in range(60):
        job = job.pause().resume()
    assert len(job.history()) == 100


def test_delete_leaves_nothing_behind(worker: Worker, redis_client: fakeredis.FakeRedis) -> None:
    """Deleted jobs would stay in Redis piece by piece."""
    job = quick.options(key="k", unique="u").start()
    worker.run(stop_after=1)
    job.refresh().delete()
    left = {key.decode() for key in redis_client.keys("*")}
    assert left <= {"ckpt:taken", "ckpt:sweep", "rq:queues", "rq:queue:default"}
    with pytest.raises(JobNotFound):
        job.refresh()
    job.delete()  # again: what is gone stays gone
    worker.run_until_idle()
    assert done == [0]


def test_a_running_job_is_not_deleted(worker: Worker) -> None:
    """A job would vanish under its worker."""
    job = quick.start()
    refused: list[NotPossibleNow] = []

    def delete(_: object) -> None:
        with pytest.raises(NotPossibleNow) as caught:
            job.delete()
        refused.append(caught.value)

    worker.run_and(delete, after=1)
    assert refused[0].status == "running"
    assert "Cancel it first" in str(refused[0])


def test_a_job_that_vanished_in_the_middle_stops(worker: Worker, redis_client: fakeredis.FakeRedis) -> None:
    """After a FLUSHALL the job would be made again, half of it, without a word."""
    quick.start()

    def flush(attempt: object) -> None:
        redis_client.flushall()
        attempt.heed(attempt.lease.renew())  # type: ignore[attr-defined]

    assert worker.run_and(flush, after=1) == "lost"
    assert done == [0]
    assert redis_client.keys("ckpt:job:*") == []


def test_wait_returns_the_result(runner: Runner) -> None:
    """A script could not wait for its job."""
    job = quick.start(5)
    runner.work()
    assert job.wait() == 5
    assert job.wait(timeout=0) == 5


def test_wait_gives_up_in_time(runner: Runner) -> None:
    """A script would hang where no worker runs."""
    job = quick.start()
    with pytest.raises(TimeoutError, match="the job goes on"):
        job.wait(timeout=0.01)
    assert job.refresh().status is Status.QUEUED


def test_watch_yields_each_change_until_the_end(runner: Runner, worker: Worker) -> None:
    """An event stream would miss the end, or never end itself."""
    job = quick.start()
    statuses = []
    for snapshot in job.watch(timeout=30):
        statuses.append(str(snapshot.status))
        if len(statuses) == 1:
            job.pause()
        elif len(statuses) == 2:
            job.refresh().resume()
        elif len(statuses) == 3:
            worker.run()
    assert statuses == ["queued", "paused", "queued", "finished"]


def test_watch_ends_when_the_process_is_about_to_stop(runner: Runner) -> None:
    """Open event streams would hold up a web worker's shutdown until it is killed."""
    job = quick.start()
    stream = job.watch()
    next(stream)
    timer = threading.Timer(0.05, runner.drain)
    timer.start()
    assert list(stream) == []
    timer.join()
    with pytest.raises(TimeoutError, match="this process is stopping"):
        job.wait()


def test_lists(worker: Worker, runner: Runner) -> None:
    """A page could not list jobs by status, task or label."""
    first = quick.options(labels={"tenant": "a"}).start(1)
    worker.run()
    second = quick.options(labels={"tenant": "a", "kind": "x"}).start(2)
    third = elsewhere.start()
    assert {job.id for job in runner.jobs()} == {first.id, second.id, third.id}
    assert [job.id for job in runner.jobs(status="finished")] == [first.id]
    assert [job.id for job in runner.jobs(status=Status.QUEUED, task=quick.name)] == [second.id]
    assert {job.id for job in runner.jobs(labels={"tenant": "a"})} == {first.id, second.id}
    assert runner.jobs(labels={"tenant": "a", "kind": "y"}) == []
    assert len(runner.jobs(limit=2)) == 2
    assert runner.jobs(limit=0) == []


def test_lists_go_on_page_by_page(runner: Runner) -> None:
    """Jobs would be missing between two pages."""
    ids = [quick.start(number).id for number in range(12)]
    found: list[str] = []
    page = runner.jobs(status="queued", limit=5)
    while page:
        found += [job.id for job in page]
        page = runner.jobs(status="queued", limit=5, after=page[-1])
    assert sorted(found) == sorted(ids)


def test_jobs_of_one_millisecond_are_all_listed(runner: Runner, redis_client: fakeredis.FakeRedis) -> None:
    """Of the jobs that a loop starts within one millisecond, a page boundary would swallow some."""
    ids = [quick.start(number).id for number in range(6)]
    redis_client.zadd("ckpt:status:queued", dict.fromkeys(ids, 1_700_000_000_000))
    found: list[str] = []
    page = runner.jobs(status="queued", limit=4)
    while page:
        found += [job.id for job in page]
        page = runner.jobs(status="queued", limit=4, after=page[-1])
    assert sorted(found) == sorted(ids)


def test_an_unknown_status_is_told_in_our_words(runner: Runner) -> None:
    """A web handler that passes on `?status=` would answer 500."""
    with pytest.raises(CheckpointRunnerError):
        runner.jobs(status="sleeping")


def test_a_job_of_another_task_is_not_handed_out(runner: Runner) -> None:
    """`import_users.job(id)` would hand out a job of another task with a result of another type."""
    job = elsewhere.start()
    with pytest.raises(JobNotFound):
        quick.job(job.id)


def test_a_waiting_job_is_woken_by_the_sweep(runner: Runner, redis_client: fakeredis.FakeRedis) -> None:
    """A delayed job would wait for ever."""
    job = quick.options(delay=3600).start(4)
    assert job.status is Status.WAITING
    assert runner.work() == 0
    redis_client.zadd("ckpt:agenda", {job.id: 1})
    redis_client.delete("ckpt:sweep")
    assert runner.sweep() == 1
    assert runner.work() == 1
    assert job.refresh().result == 4
