"""From every status every transition: the table of arrows is what the scripts do, no more and no less."""

from __future__ import annotations

import pytest

from checkpoint_runner.statuses import ARROWS, Status
from tests.contract.contract_world import KEYS, MOVES, PATIENT, STATUSES, Made, World, moves

AGAIN = (Status.QUEUED, Status.QUEUED)
"""A delivery whose process died before the claim is replaced; the job stays queued."""

FINAL = ("finished", "failed", "cancelled")


def variants(world: World, status: str) -> list[Made]:
    """Overdue jobs in that status which differ in what the scripts decide by."""
    jobs = [world.made(status), world.made(status, max_crashes=1)]
    if status == "running":
        for verb in ("pause", "cancel"):
            job = world.made(status)
            assert job.ask(verb) == "done"
            jobs.append(job)
    if status == "queued":
        declined = world.made(status)
        world.client.hset(KEYS.job(declined.id), "declined_since", 1)
        jobs.append(declined)
    return [job.overdue() for job in jobs]


def walk(world: World, status: str, name: str) -> set[tuple[Status, Status]]:
    """Make one move from one status in every variant; return the arrows that it took."""
    taken = set()
    for job in variants(world, status):
        history = KEYS.history(job.id)
        revision, length = job.revision, world.client.llen(history)
        outcome = MOVES[name](job)
        if not world.client.exists(KEYS.job(job.id)):
            assert (name, outcome) == ("remove", "removed")
            assert status in FINAL
        elif world.client.llen(history) == length:
            assert job.status == status, f"{name} changed the status without a line in the history"
        else:
            assert world.client.llen(history) == length + 1
            assert job.revision == revision + 1, f"{name} moved the job without a new revision"
            taken.add((Status(status), Status(job.status)))
    return taken


@pytest.mark.parametrize("name", moves())
def test_no_script_takes_an_arrow_that_is_not_in_the_table(world: World, name: str) -> None:
    """If a script made another transition, a job could leave a final status or skip the queue unseen."""
    for status in STATUSES:
        assert walk(world, status, name) <= {*ARROWS, AGAIN}


@pytest.mark.parametrize("status", STATUSES)
def test_every_arrow_of_the_table_is_taken_by_some_script(world: World, status: str) -> None:
    """If an arrow of the documented picture did not exist, users would wait for something that never happens."""
    taken = set().union(*(walk(world, status, name) for name in MOVES if name != "redeliver"))
    assert taken - {AGAIN} == {arrow for arrow in ARROWS if arrow[0] == status} - {AGAIN}


@pytest.mark.parametrize("name", moves(without=("remove",)))
def test_a_job_that_is_gone_stays_gone(world: World, name: str) -> None:
    """If a late script made keys for a deleted job, a ghost without a task would haunt the lists for ever."""
    job = world.made("running")
    delivery, revision, due = job.delivery, job.revision, job.as_due()
    world.client.flushall()
    store = world.store
    match name:
        case "claim":
            outcome = store.claim(job.id, job.attempt + 1, job.holder, 10.0, 1, until=PATIENT)
        case "decline":
            outcome = store.decline(job.id, job.attempt, delivery, "why")
        case "crash":
            outcome = store.crash(job.id, job.attempt, delivery, "why", "crash", b"{}", until=PATIENT)
        case "expire":
            outcome = store.expire(due)
        case "redeliver":
            outcome = store.redeliver(due, search=True)
        case "wake":
            outcome = store.wake(due)
        case _ if name.startswith("ask_"):
            outcome = job.ask_as(name.removeprefix("ask_"), revision, "n1")
        case _:
            outcome = MOVES[name](job)
    assert outcome in ("", "gone", "refused")
    assert world.snapshot() == {}


@pytest.mark.parametrize("status", FINAL)
@pytest.mark.parametrize("name", moves(without=("remove", "ask_retry")))
def test_a_final_job_changes_by_nothing_but_retry(world: World, status: str, name: str) -> None:
    """If anything but retry() moved a final job, a result that a user has seen would be taken back."""
    job = world.made(status)
    before = world.snapshot()
    MOVES[name](job)
    assert world.snapshot() == before


def test_a_finished_job_can_not_be_retried(world: World) -> None:
    """If retry() took a finished job, finished work would be done a second time."""
    job = world.made("finished")
    before = world.snapshot()
    assert job.ask("retry") == "not now"
    assert world.snapshot() == before
