"""A timeout is an unknown outcome: every script may be sent again, and a doubled or late one changes nothing."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from checkpoint_runner.store import Claim
from tests.contract.contract_world import KEYS, LEASE, MOVES, PATIENT, Made, World, moves, record

FROM = {
    "claim": "queued",
    "decline": "queued",
    "redeliver": "queued",
    "wake": "waiting",
    "remove": "finished",
    "ask_pause": "queued",
    "ask_resume": "paused",
    "ask_cancel": "waiting",
    "ask_retry": "failed",
}
"""The status in which a move does something; running for the rest."""


@pytest.mark.parametrize("name", moves())
def test_a_lost_reply_is_sent_again_and_applied_once(world: World, name: str) -> None:
    """If a write counted twice after a lost reply, a network hiccup would double deliveries or counters."""
    job = world.made(FROM.get(name, "running")).overdue()
    if name == "redeliver":
        world.client.delete(KEYS.queue("imports"))
    MOVES[name](world.made(FROM.get(name, "running")).overdue())  # the server knows the script
    before = world.snapshot()
    losing = world.losing_replies()
    MOVES[name](job)
    assert losing.calls == 2
    assert losing.after_first != before, "the first call did nothing"
    assert world.snapshot() == losing.after_first


@pytest.mark.parametrize(
    ("verb", "status"),
    [("pause", "running"), ("cancel", "running"), ("resume", "running")],
)
def test_a_request_to_a_running_job_is_applied_once(world: World, verb: str, status: str) -> None:
    """If a doubled request counted twice, a double click could undo what another person asked meanwhile."""
    job = world.made(status)
    if verb == "resume":
        job.ask("pause")
    losing = world.losing_replies()
    assert job.ask(verb) == "done"
    assert losing.calls == 2
    assert world.snapshot() == losing.after_first


def test_a_lost_reply_of_start_makes_one_job(world: World) -> None:
    """If a resent start made a second job, one request of a user would be carried out twice."""
    world.start()
    losing = world.losing_replies()
    request = world.request(key="k", unique="u")
    assert world.store.start(request) == ("created", request.job_id)
    assert losing.calls == 2
    assert world.snapshot() == losing.after_first
    assert len(world.deliveries()) == 2


def test_a_resent_claim_gives_the_same_right_with_the_same_checkpoint(world: World) -> None:
    """If the answer to a resent claim were a refusal, a lost reply would cost the whole lease."""
    job = world.made("running")
    job.save(3)
    job.interrupt()
    holder = f"{job.delivery}|host|boot|1|1"
    first = world.store.claim(job.id, 2, holder, LEASE, 1, until=PATIENT)
    after = world.snapshot()
    assert isinstance(first, Claim)
    assert first.record == record(3)
    assert world.store.claim(job.id, 2, holder, LEASE, 1, until=PATIENT) == first
    assert world.snapshot() == after


@pytest.mark.parametrize("verb", ["pause", "resume", "cancel", "retry"])
def test_a_late_request_does_not_act_on_a_later_state(world: World, verb: str) -> None:
    """If a delayed duplicate took effect later, a job that a person resumed would be paused again by a ghost."""
    status = {"pause": "queued", "resume": "paused", "cancel": "waiting", "retry": "cancelled"}[verb]
    job = world.made(status)
    revision = job.revision
    assert job.ask_as(verb, revision, "nonce") == "done"
    others = {
        "pause": ("resume",),
        "resume": ("pause",),
        "cancel": ("retry",),
        "retry": ("cancel",),
    }[verb]
    for other in others:
        assert job.ask(other) == "done"
    before = world.snapshot()
    assert job.ask_as(verb, revision, "nonce") == "done"  # what the caller learns is still true of its request
    assert world.snapshot() == before
    for _ in range(5):
        for other in (verb, *others):
            job.ask(other)
    before = world.snapshot()
    assert job.ask_as(verb, revision, "nonce") == "moved"  # forgotten, but made for a state that is over
    assert world.snapshot() == before


def test_a_request_for_an_older_revision_is_told_to_look_again(world: World) -> None:
    """If a request made for an older state were carried out, a click on a stale page would do something else."""
    job = world.made("queued")
    stale = job.revision
    job.claim()
    before = world.snapshot()
    for verb in ("pause", "resume", "cancel", "retry"):
        assert job.ask_as(verb, stale, "n") == "moved"
    assert world.snapshot() == before


def test_a_doubled_pause_that_found_nothing_to_do_does_nothing_later(world: World) -> None:
    """If the duplicate of a needless pause worked after a resume, a job would stop that everybody wants to run."""
    job = world.made("running")
    assert job.ask("pause") == "done"
    revision = job.revision
    assert job.ask_as("pause", revision, "needless") == "same"
    assert job.ask("resume") == "done"
    before = world.snapshot()
    job.ask_as("pause", revision, "needless")  # the network delivers it once more
    assert world.snapshot() == before


def test_a_late_request_is_stale_however_many_came_after_it(world: World) -> None:
    """If only the last requests were known, many toggles would let an old pause through."""
    job = world.made("running")
    revision = job.revision
    job.ask_as("pause", revision, "old")
    for _ in range(5):
        job.ask("resume")
        job.ask("pause")
    job.ask("resume")
    before = world.snapshot()
    job.ask_as("pause", revision, "old")
    assert world.snapshot() == before


def saves(job: Made) -> str:
    return job.save(9)


def steps(job: Made) -> str:
    return job.step('["x"]', number=1)


LATE: dict[str, Callable[[Made], str]] = {
    "save": saves,
    "step": steps,
    "renew": lambda job: job.renew(),
    "finish": lambda job: job.finish(),
    "fail": lambda job: job.fail(),
    "interrupt": lambda job: job.interrupt(seq=9),
    "pause": lambda job: job.pause(),
}


@pytest.mark.parametrize("name", LATE)
@pytest.mark.parametrize("how", ["finish", "fail", "interrupt", "pause"])
def test_what_a_holder_sends_after_it_let_go_changes_nothing(world: World, name: str, how: str) -> None:
    """If a write that was held up in the network landed after the end, the next attempt would begin wrongly."""
    job = world.made("running")
    status = MOVES[how](job)
    before = world.snapshot()
    answer = LATE[name](job)
    assert answer == (status if name in ("finish", "fail", "interrupt", "pause") else "lost")
    assert world.snapshot() == before


@pytest.mark.parametrize("name", LATE)
@pytest.mark.parametrize("how", ["expire", "crash"])
@pytest.mark.parametrize("claimed", [False, True], ids=["unclaimed", "claimed"])
def test_a_stale_holder_can_change_nothing(world: World, name: str, how: str, claimed: bool) -> None:
    """If a frozen process could write when it wakes up, it would overwrite the work of its successor."""
    zombie = world.made("running")
    zombie.save(1)
    MOVES[how](zombie.overdue())
    if claimed:
        Made(world, zombie.id).claim()
    before = world.snapshot()
    assert LATE[name](zombie) == "lost"
    assert world.snapshot() == before


@pytest.mark.parametrize("name", LATE)
def test_a_holder_of_the_same_attempt_but_another_name_is_refused(world: World, name: str) -> None:
    """If the number of the attempt alone were enough, a restored server could have two writers."""
    job = world.made("running")
    other = Made(world, job.id, job.attempt, f"{job.delivery}x|host|boot|2|2")
    before = world.snapshot()
    assert LATE[name](other) == "lost"
    other.holder = ""
    if name != "renew":
        assert LATE[name](other) == "lost"
    assert world.snapshot() == before


def test_two_holders_one_claim(world: World) -> None:
    """If two workers got one job, every item would be done twice."""
    job = world.made("queued")
    claims = [
        world.store.claim(job.id, 1, holder, LEASE, 1, until=PATIENT)
        for holder in (f"{job.delivery}|a|b|1|1", f"{job.delivery}|a|b|2|2")
    ]
    assert [type(claim) for claim in claims] == [Claim, str]
    assert claims[1] == "running"


@pytest.mark.parametrize("attempt", [0, 2, 3])
def test_a_claim_for_another_attempt_is_refused(world: World, attempt: int) -> None:
    """If an old delivery could claim, the fencing number would go backwards."""
    job = world.made("queued")
    before = world.snapshot()
    assert world.store.claim(job.id, attempt, "d|h|b|1|1", LEASE, 1, until=PATIENT) == "queued"
    assert world.snapshot() == before


def test_a_record_that_is_not_newer_is_ignored(world: World) -> None:
    """If a late save replaced a newer checkpoint, finished items would be done again."""
    job = world.made("running")
    assert job.save(5) == ""
    before = world.snapshot()
    assert job.save(5) == ""
    assert job.save(4) == ""
    assert world.snapshot() == before
    assert job.interrupt(seq=3) == "queued"
    assert job.field("seq") == "5"
    assert job.field("record").encode() == record(5).record


def test_a_step_result_is_kept_once(world: World) -> None:
    """If a step's second result replaced the first, a resumed task would see another value than it acted on."""
    job = world.made("running")
    job.step("p", b'"first"', 1)
    before = world.snapshot()
    job.step("p", b'"second"')
    job.step("p", b'"second"', 1)
    assert world.snapshot() == before
    assert world.store.step_result(job.id, "p") == b'"first"'
    assert job.save(1, "p") == ""
    assert world.store.step_result(job.id, "p") is None
    job.step("p", b'"first"', 1)
    assert world.store.step_result(job.id, "p") is None, "a late one changes nothing"


def test_a_resent_renewal_only_moves_the_expiry(world: World) -> None:
    """If a renewal did more than renew, the pulse of a job would change it."""
    job = world.made("running")
    before = world.snapshot()
    for _ in range(2):
        assert job.renew(60.0) == ""
    after = world.snapshot()
    assert {key for key in before if before[key] != after[key]} == {KEYS.agenda}


def test_a_resent_redelivery_makes_one_delivery(world: World) -> None:
    """If each look for a lost delivery made another one, a busy queue would fill with copies (2^24 have been seen)."""
    job = world.made("queued").overdue()
    world.client.delete(KEYS.queue("imports"))
    due = job.as_due()
    assert [world.store.redeliver(due, search=True) for _ in range(3)] == ["redelivered", "refused", "refused"]
    assert world.deliveries() == [job.delivery]
