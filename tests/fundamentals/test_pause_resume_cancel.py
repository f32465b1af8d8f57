"""Pause, resume, cancel and retry: by a person, or asked for by the task."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from checkpoint_runner import Checkpoint, Job, Runner, Status, checkpointed, default_runner
from checkpoint_runner.attempt import Attempt
from checkpoint_runner.errors import JobCancelled, NotPossibleNow
from tests.conftest import Worker, done


@checkpointed
def letters(checkpoint: Checkpoint) -> str:
    for letter in checkpoint.each("abcdef"):
        done.append(letter)
    return "".join(done)


@checkpointed
def asks_a_person(checkpoint: Checkpoint) -> None:
    for letter in checkpoint.each("abcd"):
        if letter == "c" and checkpoint.attempt == 1:
            checkpoint.pause("the third letter looks odd")
        done.append(letter)


@checkpointed
def pauses_itself(checkpoint: Checkpoint) -> None:
    for letter in checkpoint.each("abcd"):
        done.append(letter)
        if letter == "b":
            default_runner().job(checkpoint.job_id).pause("enough for today")


@checkpointed
def asks_oddly(checkpoint: Checkpoint, how: str) -> None:
    checkpoint.pause({"none": None, "number": 5, "surrogate": "caf\udce9", "empty": ""}[how])  # type: ignore[arg-type]


@checkpointed
def fails(checkpoint: Checkpoint, at: str) -> None:
    for letter in checkpoint.each("abcd"):
        if letter == at and checkpoint.attempt == 1:
            raise ValueError(letter)
        done.append(letter)


def asking(job: Job[Any], verb: str) -> Any:
    """Return what asks for `verb` on a running job and lets the attempt know at once."""

    def ask(attempt: Attempt) -> None:
        getattr(job.refresh(), verb)()
        attempt.heed(attempt.lease.renew())

    return ask


def test_a_running_job_pauses_at_its_next_safe_place(worker: Worker) -> None:
    """A person could not stop a job without killing it."""
    job = letters.start()

    def pause(attempt: Attempt) -> None:
        asked = job.refresh().pause("lunch")
        assert (asked.status, asked.stop_requested) == (Status.RUNNING, "pause")
        attempt.heed(attempt.lease.renew())

    assert worker.run_and(pause, after=2) == "paused"
    paused = job.refresh()
    assert (paused.status, paused.reason, paused.stop_requested) == (Status.PAUSED, "lunch", None)
    assert paused.interruptions == 0
    assert worker.run() == ""
    assert paused.resume().status is Status.QUEUED
    assert worker.run() == "finished"
    assert job.refresh().result == "abcdef"


def test_a_task_that_pauses_its_own_job(runner: Runner) -> None:
    """The answer to a save would not carry the request to stop."""
    job = pauses_itself.start()
    runner.work()
    paused = job.refresh()
    if paused.status is not Status.FINISHED:  # whether the renewal came in time is the clock's to say
        assert (paused.status, paused.reason) == (Status.PAUSED, "enough for today")
    assert done[:2] == ["a", "b"]


def test_a_running_job_is_cancelled_at_its_next_safe_place(worker: Worker) -> None:
    """A cancelled job would go on to its end."""
    job = letters.start()
    assert worker.run_and(asking(job, "cancel"), after=2) == "cancelled"
    cancelled = job.refresh()
    assert (cancelled.status, cancelled.reason) == (Status.CANCELLED, "asked for")
    assert cancelled.ended_at is not None
    with pytest.raises(JobCancelled):
        job.wait()


def test_a_cancelled_job_goes_on_where_it_was(worker: Worker) -> None:
    """A cancel by mistake would cost all the work."""
    job = letters.start()
    worker.run_and(asking(job, "cancel"), after=2)
    assert job.refresh().retry().status is Status.QUEUED
    assert job.refresh().ended_at is None
    worker.run()
    assert done == list("abcdef")


def test_a_pause_that_is_withdrawn_in_time_changes_nothing(worker: Worker) -> None:
    """Pause and resume in quick succession would leave the job paused."""
    job = letters.start()

    def pause_and_resume(attempt: Attempt) -> None:
        job.refresh().pause()
        attempt.heed(attempt.lease.renew())
        assert job.refresh().resume().stop_requested is None
        attempt.heed(attempt.lease.renew())

    assert worker.run_and(pause_and_resume, after=2) == "finished"
    assert job.refresh().attempts == 1


def test_a_pause_that_is_withdrawn_too_late_requeues_at_once(worker: Worker) -> None:
    """The job would neither run nor be paused."""
    job = letters.start()

    def pause_and_resume(attempt: Attempt) -> None:
        job.refresh().pause()
        attempt.heed(attempt.lease.renew())
        job.refresh().resume()

    assert worker.run_and(pause_and_resume, after=2) == "queued"
    assert worker.run() == "finished"
    assert done == list("abcdef")


def test_finishing_beats_a_cancel(worker: Worker) -> None:
    """Work that is complete would be thrown away."""
    job = letters.start()
    assert worker.run_and(asking(job, "cancel"), after=6) == "finished"
    assert (job.refresh().status, job.refresh().result) == (Status.FINISHED, "abcdef")


@pytest.mark.parametrize("verb", ["pause", "cancel"])
def test_before_any_worker_had_it(worker: Worker, verb: str) -> None:
    """A job that nobody runs would never reach the status that it was asked for."""
    job = letters.start()
    stopped: Job[str] = getattr(job, verb)()
    assert stopped.status == {"pause": "paused", "cancel": "cancelled"}[verb]
    assert worker.run() in ("", "refused")
    assert done == []


def test_cancel_a_paused_job(runner: Runner) -> None:
    """A paused job could not be got rid of, since nothing runs it."""
    job = letters.start().pause()
    assert job.cancel().status is Status.CANCELLED


def test_the_old_delivery_of_a_cancelled_and_retried_job(worker: Worker, runner: Runner) -> None:
    """The job would run twice: once for each delivery."""
    job = letters.start()
    backend = runner._for_work()
    old = backend.client.lindex(backend.keys.queue("default"), 0)
    job.cancel().retry()
    backend.client.lrem(backend.keys.queue("default"), 1, old)
    backend.client.rpush(backend.keys.queue("default"), old)
    assert sorted(worker.run_until_idle()) == ["finished", "refused"]
    assert done == list("abcdef")


@pytest.mark.parametrize("verb", ["pause", "resume", "cancel", "retry"])
def test_a_double_click_is_one_click(worker: Worker, verb: str) -> None:
    """Two clicks would start two runs, or show an error to a patient person."""
    job: Job[Any] = fails.start("a") if verb == "retry" else letters.start()
    if verb == "retry":
        worker.run()
    if verb == "resume":
        job.pause()
    job = job.refresh()
    first = getattr(job, verb)()
    try:
        second = getattr(job, verb)()
    except NotPossibleNow as refused:
        assert (verb, refused.status) == ("retry", "queued")  # noqa: PT017 - the others are not refused
    else:
        assert second.status == first.status
    backend = worker.backend
    deliveries = backend.client.lrange(backend.keys.queue("default"), 0, -1)
    alive = [delivery for delivery in deliveries if backend.client.exists(backend.keys.delivery(delivery.decode()))]
    assert len(alive) == (0 if verb in ("pause", "cancel") else 1)


def test_the_task_asks_for_a_person(worker: Worker) -> None:
    """A task that meets something odd could only fail."""
    job = asks_a_person.start()
    assert worker.run() == "paused"
    assert job.refresh().reason == "the third letter looks odd"
    job.refresh().resume()
    assert worker.run() == "finished"
    assert done == list("abcd")


@pytest.mark.parametrize("how", ["none", "number", "surrogate", "empty"])
def test_an_odd_reason_to_pause(worker: Worker, how: str) -> None:
    """The job would show as running for ever, since its worker stumbled while it let go."""
    job = asks_oddly.start(how)
    worker.run()
    assert job.refresh().status in (Status.PAUSED, Status.FAILED)


def test_retry_goes_on_from_the_last_checkpoint(worker: Worker) -> None:
    """A retry would begin from zero."""
    job = fails.start("c")
    worker.run()
    retried = job.refresh().retry()
    assert (retried.status, retried.reason, retried.error) == (Status.QUEUED, "retry", None)
    assert worker.run() == "finished"
    assert done == list("abcd")


def _make(status: Status, worker: Worker) -> Job[Any]:
    if status is Status.WAITING:
        return letters.options(delay=1000).start()
    if status is Status.FAILED:
        failed = fails.start("a")
        worker.run()
        return failed.refresh()
    job = letters.start()
    match status:
        case Status.PAUSED:
            return job.pause()
        case Status.CANCELLED:
            return job.cancel()
        case Status.FINISHED:
            worker.run()
            return job.refresh()
    return job


REFUSED = {
    ("pause", Status.FINISHED),
    ("pause", Status.FAILED),
    ("pause", Status.CANCELLED),
    ("resume", Status.FINISHED),
    ("resume", Status.FAILED),
    ("resume", Status.CANCELLED),
    ("cancel", Status.FINISHED),
    ("cancel", Status.FAILED),
    ("retry", Status.QUEUED),
    ("retry", Status.WAITING),
    ("retry", Status.PAUSED),
    ("retry", Status.FINISHED),
}


@pytest.mark.parametrize(
    ("verb", "status"),
    list(itertools.product(["pause", "resume", "cancel", "retry"], [s for s in Status if s is not Status.RUNNING])),
)
def test_what_a_status_does_not_allow(worker: Worker, verb: str, status: Status) -> None:
    """A finished job would come to life again, or a web handler could not answer 409."""
    job = _make(status, worker)
    assert job.status is status
    if (verb, status) in REFUSED:
        with pytest.raises(NotPossibleNow) as caught:
            getattr(job, verb)()
        assert caught.value.status == status
        assert job.id in str(caught.value)
        assert job.refresh() == job or job.created
        assert job.refresh().status is status
    else:
        getattr(job, verb)()
