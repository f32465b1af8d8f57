"""What each transition promises: who beats whom, what is counted, where a delivery goes, what is kept how long."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from checkpoint_runner import processes
from checkpoint_runner.keys import (
    DECLINE_LIMIT,
    DECLINE_PAUSE,
    DELIVERY_CHECK,
    DELIVERY_CHECK_MOST,
    HISTORY_LENGTH,
    RETENTION_NET,
)
from checkpoint_runner.settings import Settings
from checkpoint_runner.store import Due
from checkpoint_runner.sweep import Sweeper
from tests.contract.contract_world import DEADLY, KEYS, LEASE, PATIENT, Made, World, record

BIG = 10_000


def now(world: World) -> int:
    """The server's time in ms: the only clock that counts."""
    seconds, microseconds = world.client.time()
    return seconds * 1000 + microseconds // 1000


# Who beats whom.


@pytest.mark.parametrize(
    ("asked", "how", "status"),
    [
        ("", "finish", "finished"),
        ("pause", "finish", "finished"),
        ("cancel", "finish", "finished"),
        ("", "fail", "failed"),
        ("pause", "fail", "failed"),
        ("cancel", "fail", "cancelled"),
        ("", "pause", "paused"),
        ("pause", "pause", "paused"),
        ("cancel", "pause", "cancelled"),
        ("", "interrupt", "queued"),
        ("pause", "interrupt", "paused"),
        ("cancel", "interrupt", "cancelled"),
    ],
)
def test_finish_beats_cancel_beats_fail_beats_pause_beats_interruption(
    world: World, asked: str, how: str, status: str
) -> None:
    """If the order were another, a result would be thrown away or a cancelled job would run again."""
    job = world.made("running")
    if asked:
        assert job.ask(asked) == "done"
        assert job.save(1) == asked
    assert getattr(job, how)() == status
    assert job.status == status
    assert (job.field("stop"), job.field("stop_reason")) == ("", "")


@pytest.mark.parametrize("how", ["crash", "expire"])
@pytest.mark.parametrize(("asked", "status"), [("", "queued"), ("pause", "paused"), ("cancel", "cancelled")])
def test_a_request_is_honoured_although_the_process_died(world: World, how: str, asked: str, status: str) -> None:
    """If a death forgot the request, a job that a person cancelled would go on by itself."""
    job = world.made("running")
    if asked:
        job.ask(asked)
    assert getattr(job.overdue(), how)() == status


def test_a_crash_loop_beats_a_pause(world: World) -> None:
    """If a pause hid the crash loop, a person who resumes would send the next worker to its death."""
    job = world.made("running", max_crashes=1)
    job.ask("pause")
    assert job.crash() == "failed"


def test_a_withdrawn_pause_requeues_at_once_at_the_front(world: World) -> None:
    """If a pause that was taken back still cost the place in the queue, the job would wait behind everything."""
    job = world.made("running")
    other = world.start()
    assert job.ask("pause") == "done"
    assert job.ask("resume") == "done"
    assert job.interrupt("pause") == "queued"
    assert world.deliveries() == [job.delivery, other.delivery]


def test_resume_withdraws_only_a_pause(world: World) -> None:
    """If resume took a cancel back, a job would go on that somebody has ended."""
    job = world.made("running")
    job.ask("cancel")
    before = world.snapshot()
    assert job.ask("resume") == "not now"
    assert job.ask("pause") == "same"
    assert world.snapshot() == before


def test_cancel_beats_a_pause_that_was_asked_for(world: World) -> None:
    """If the first request won, a person could not cancel a job that is about to pause."""
    job = world.made("running")
    job.ask("pause")
    assert job.ask("cancel") == "done"
    assert job.renew() == "cancel"
    assert job.interrupt("cancel") == "cancelled"
    assert job.field("reason") == "asked for"


@pytest.mark.parametrize("verb", ["pause", "cancel"])
def test_every_word_of_the_server_brings_the_stop_request(world: World, verb: str) -> None:
    """If only one of them told, a long item would hear of a stop late."""
    job = world.made("running")
    assert [job.save(1), job.step("p"), job.renew()] == ["", "", ""]
    job.ask(verb)
    assert [job.save(2), job.step("q"), job.renew()] == [verb] * 3


def test_the_parent_renews_by_the_delivery_and_hears_of_an_unclaimed_one(world: World) -> None:
    """If the worker could not renew for its horse, a regex that holds the GIL would lose the job."""
    job = world.made("queued")
    parent = Made(world, job.id, 1, f"{job.delivery}|")
    before = world.snapshot()
    assert parent.renew() == "unclaimed"
    assert world.snapshot() == before
    job.claim()
    job.overdue()
    assert parent.renew() == ""
    assert job.due is not None
    assert job.due > 1.0
    assert Made(world, job.id, 1, job.delivery[:-1] + "|").renew() == "lost"


# Counting.


def test_counters_tell_interruptions_crashes_and_lost_leases_apart(world: World) -> None:
    """If they were mixed, a deploy would look like a crash to the person on call."""
    job = world.made("running")
    job.interrupt()
    job.claim()
    job.crash()
    job.claim().overdue()
    job.expire()
    job.claim()
    counts = {name: job.field(name) for name in ("attempt", "interruptions", "crashes", "lost")}
    assert counts == {"attempt": "4", "interruptions": "1", "crashes": "1", "lost": "1"}


def test_idle_interruptions_are_counted_until_there_is_progress(world: World) -> None:
    """If they were not, nobody would be told that an item needs more time than the grace has."""
    job = world.made("queued")
    for expected in ("1", "2", "3"):
        job.claim().interrupt(seq=0)
        assert job.field("idle_streak") == expected
    job.claim().interrupt(seq=1)
    assert job.field("idle_streak") == "0"
    job.claim()
    assert job.interrupt(seq=1) == "queued"  # the same record as the last attempt's
    assert job.field("idle_streak") == "1"


@pytest.mark.parametrize("limit", [1, 2, 3])
def test_so_many_deaths_in_a_row_fail_the_job(world: World, limit: int) -> None:
    """If a deadly job were tried for ever, it would take down worker after worker."""
    job = world.made("queued", max_crashes=limit)
    outcomes = [job.claim().crash() for _ in range(limit)]
    assert outcomes == ["queued"] * (limit - 1) + ["failed"]
    assert job.field("reason") == "crash loop"
    assert (job.field("crash"), job.field("error").encode()) == ("killed by signal 9", DEADLY)


def test_deaths_before_the_claim_count_over_deliveries(world: World) -> None:
    """If the count were lost with the delivery, a task whose import kills the horse would be tried for ever."""
    job = world.made("queued")
    assert [job.crash() for _ in range(3)] == ["queued", "queued", "failed"]
    assert job.field("attempt") == "0"


def test_progress_makes_the_count_of_deaths_begin_again(world: World) -> None:
    """If it did not, a job of a week would fail for three unrelated deaths."""
    job = world.made("queued")
    for seq in range(1, 8):
        job.claim().save(seq)
        assert job.crash() == "queued"
        assert job.field("crash_streak") == "1"


def test_progress_counts_although_the_next_death_comes_before_the_claim(world: World) -> None:
    """If an attempt's progress were forgotten, a job that gets on would fail as a crash loop."""
    job = world.made("queued", max_crashes=2)
    assert job.claim().crash() == "queued"
    job.claim().save(50)
    assert job.interrupt(seq=50) == "queued"
    assert job.crash() == "queued"


def test_a_retry_begins_to_count_anew(world: World) -> None:
    """If the deaths before a retry counted, the first mishap after it would fail the job again."""
    job = world.made("running", max_crashes=1)
    job.crash()
    assert job.ask("retry") == "done"
    assert (job.field("crash_streak"), job.field("error"), job.field("ended_at")) == ("", "", "")
    assert job.field("seq") == "0"
    assert job.field("crashes") == "1"


@pytest.mark.parametrize(
    ("claimed", "kind", "counted"), [(True, "exit", "1"), (False, "exit", ""), (True, "shutdown", "")]
)
def test_an_end_by_order_is_no_crash(world: World, claimed: bool, kind: str, counted: str) -> None:
    """If a kill at the end of the grace counted as a crash, three deploys would fail a long job."""
    job = world.made("running" if claimed else "queued")
    assert job.crash(kind) == "queued"
    assert job.field("crashes") == counted


def test_the_death_of_another_delivery_is_not_the_jobs(world: World) -> None:
    """If any delivery's death counted, a superseded one would tear a healthy attempt down."""
    job = world.made("running")
    before = world.snapshot()
    store = world.store
    assert store.crash(job.id, 1, f"{job.id}-1-99", "dead", "crash", DEADLY, until=PATIENT) == "refused"
    assert store.crash(job.id, 1, job.delivery[:-1], "dead", "crash", DEADLY, until=PATIENT) == "refused"
    assert store.crash(job.id, 2, job.delivery, "dead", "crash", DEADLY, until=PATIENT) == "refused"
    assert world.snapshot() == before


# Where deliveries go.


def crashes(job: Made) -> None:
    job.claim().crash()


def crashes_twice(job: Made) -> None:
    for _ in range(2):
        job.claim().crash()


def fails_and_retries(job: Made) -> None:
    job.claim().fail()
    job.ask("retry")


def pauses_and_resumes(job: Made) -> None:
    job.ask("pause")
    job.ask("resume")


def is_declined_and_wakes(job: Made) -> None:
    job.decline()
    job.overdue().wake()


@pytest.mark.parametrize(
    ("how", "front"),
    [
        (lambda job: job.claim().interrupt("shutdown"), True),
        (lambda job: job.claim().interrupt("time slice", front=False), False),
        (crashes, True),
        (lambda job: job.claim().overdue().expire(), True),
        (lambda job: job.claim().crash("shutdown"), True),
        (crashes_twice, False),
        (fails_and_retries, False),
        (pauses_and_resumes, False),
        (is_declined_and_wakes, False),
    ],
    ids=["shutdown", "slice", "crash", "expire", "killed", "crash twice", "retry", "resume", "declined"],
)
def test_a_job_goes_to_its_end_of_the_queue(world: World, how: object, front: bool) -> None:
    """If an interrupted job went to the back, each deploy would put it behind everything that is waiting."""
    job = world.start()
    world.client.delete(KEYS.queue("imports"))  # a worker has taken its delivery
    others = [world.start().delivery for _ in range(2)]
    how(job)  # type: ignore[operator]
    new = [delivery for delivery in world.deliveries() if delivery.startswith(job.id)][-1]
    assert new == job.delivery
    queued = [delivery for delivery in world.deliveries() if delivery in (*others, new)]
    assert queued == ([new, *others] if front else [*others, new])


def test_a_shutdown_keeps_the_place_in_the_queue_also_after_two_crashes(world: World) -> None:
    """If earlier deaths cost the place at every deploy, the job would never come to its turn."""
    job = world.start()
    crashes_twice(job)
    other = world.start()
    job.claim()
    world.client.lrem(KEYS.queue("imports"), 0, job.delivery)
    job.crash("shutdown")
    assert world.deliveries()[-2:] == [job.delivery, other.delivery]


def test_deliveries_have_ids_that_were_never_used_before(world: World) -> None:
    """If an id came twice, the end of an old delivery would delete the hash of the new one."""
    job = world.start()
    seen = [job.delivery]
    for move in (crashes, pauses_and_resumes, fails_and_retries, is_declined_and_wakes, crashes) * 2:
        move(job)
        seen.append(job.delivery)
        world.client.delete(KEYS.queue("imports"))
        assert job.overdue().redeliver() == "redelivered"
        seen.append(job.delivery)
    assert len(set(seen)) == len(seen)
    assert all(delivery.split("-")[0] == job.id for delivery in seen)


def test_a_superseded_delivery_is_deleted_by_the_same_script(world: World) -> None:
    """If old deliveries stayed, every pause and crash would leave a key in RQ for ever."""
    job = world.start()
    crashes(job)
    pauses_and_resumes(job)
    crashes(job)
    job.claim().overdue().expire()
    assert [key.decode() for key in world.client.scan_iter(KEYS.delivery("*"))] == [KEYS.delivery(job.delivery)]


def test_the_delivery_carries_the_number_of_its_attempt(world: World) -> None:
    """If the id told another attempt, the claim would be refused and the job would wait for the sweep."""
    job = world.start()
    assert job.delivery.split("-")[1] == "1"
    job.claim().interrupt()
    assert job.delivery.split("-")[1] == "2"


# Expiry and the sweep.


def test_a_lease_expires_by_the_servers_clock_only(world: World) -> None:
    """If a worker's clock counted, a host with a wrong clock would fell the jobs of all others."""
    job = world.made("running")
    before = world.snapshot()
    assert job.expire() == "refused"
    assert world.snapshot() == before
    job.renew(-1.0)  # as if the lease had been renewed so long ago
    assert job.expire() == "queued"
    assert job.field("holder") == ""


def test_an_expiry_of_another_attempt_is_refused(world: World) -> None:
    """If the sweep of an old list could act, it would end the attempt that has just begun."""
    job = world.made("running").overdue()
    assert world.store.expire(Due(job.id, "running", 2)) == "refused"
    assert job.status == "running"


def test_a_lease_holds_exactly_as_long_as_it_was_given(world: World) -> None:
    """If the expiry were another, a dead worker's job would wait longer than the setting says."""
    job = world.made("running")
    found = world.store.read(job.id, ("status",))
    assert found is not None
    moment, due, fields = found
    assert due is not None
    assert 0 <= moment + LEASE * 1000 - due < 5000
    assert fields == {"status": b"running"}


def test_one_sweep_of_many_is_elected(world: World) -> None:
    """If all swept, a hundred workers would ask the server for the same list each second."""
    found = [world.store.due(1.0, LEASE, 10) for _ in range(3)]
    assert [sweep is not None for sweep in found] == [True, False, False]


def test_nothing_expires_after_a_gap_in_the_sweeps(world: World) -> None:
    """If it did, an outage of five seconds would fell every live job."""
    first = world.store.due(0.0, LEASE, 10)
    assert first is not None
    assert first[0] is False  # nobody had looked before
    world.client.hdel(KEYS.sweep, "hold_until")
    second = world.store.due(0.0, LEASE, 10)
    assert second is not None
    assert second[0] is True
    moment = now(world)
    world.client.hset(KEYS.sweep, "swept_at", int(moment - LEASE * 600))
    third = world.store.due(0.0, LEASE, 10)
    assert third is not None
    assert third[0] is False
    hold = float(world.client.hget(KEYS.sweep, "hold_until") or 0)
    assert 0 <= hold - moment - LEASE * 1000 < 5000


def test_nothing_expires_after_the_clock_was_set_back(world: World) -> None:
    """If the clock's jump were not seen, sweeps would stop until it has caught up, or fell every job."""
    world.store.due(0.0, LEASE, 10)
    world.client.hset(KEYS.sweep, mapping={"swept_at": int(now(world) + 3_600_000), "hold_until": 10**15})
    found = world.store.due(1.0, LEASE, 10)
    assert found is not None
    assert found[0] is False
    assert float(world.client.hget(KEYS.sweep, "hold_until") or 0) <= now(world) + LEASE * 1000


def test_the_sweep_is_told_what_is_due_and_nothing_else(world: World) -> None:
    """If it were told more, each sweep would look at every job there is."""
    due = {world.made(status).overdue().id: status for status in ("queued", "running", "waiting", "finished")}
    for status in ("queued", "running", "waiting", "paused", "failed"):
        world.made(status)
    ghost = "f" * 32
    world.client.zadd(KEYS.agenda, {ghost: 1.0})
    found = world.store.due(0.0, LEASE, 100)
    assert found is not None
    assert {entry.job_id: entry.status for entry in found[1]} == {**due, ghost: ""}
    assert {entry.attempt for entry in found[1]} == {0, 1}


def test_the_sweep_takes_no_more_than_it_asked_for(world: World) -> None:
    """If it did, the first sweep after an outage would hold the server up."""
    for _ in range(5):
        world.made("waiting").overdue()
    found = world.store.due(0.0, LEASE, 3)
    assert found is not None
    assert len(found[1]) == 3


def test_a_waiting_job_wakes_when_it_is_due_and_not_before(world: World) -> None:
    """If a delay were not kept, a retry would hammer the API that has just refused."""
    job = world.made("waiting")
    before = world.snapshot()
    assert job.wake() == "refused"
    assert world.snapshot() == before
    assert job.overdue().wake() == "queued"
    assert world.deliveries() == [job.delivery]


@pytest.mark.parametrize(
    "superseded",
    [
        False,
        True,
    ],
)
def test_a_holder_that_is_proved_dead_is_buried_at_once(
    world: World, monkeypatch: pytest.MonkeyPatch, superseded: bool
) -> None:
    """If a proved death were overlooked, the job would wait for its lease although a worker is free."""
    job = world.start()
    first = job.delivery
    if superseded:  # a second delivery was made while the first was on its way; the first one claims
        pauses_and_resumes(job)
    assert not isinstance(world.store.claim(job.id, 1, f"{first}|h|b|1|1", LEASE, 1, until=PATIENT), str)
    monkeypatch.setattr(processes, "proved_dead", lambda holder: holder.startswith(first))
    backend = SimpleNamespace(store=world.store, settings=Settings())
    assert Sweeper(backend).sweep() == 1  # type: ignore[arg-type]
    assert (job.status, job.field("crashes")) == ("queued", "1")


# Lost deliveries.


@pytest.mark.parametrize("lost", ["list", "hash"])
def test_a_lost_delivery_is_made_again(world: World, lost: str) -> None:
    """If it were not, a worker that died between RQ's list and the claim would take the job with it."""
    job = world.start()
    old = job.delivery
    assert job.redeliver() == "refused"  # not due yet
    world.client.delete(KEYS.queue("imports") if lost == "list" else KEYS.delivery(old))
    job.overdue()
    assert job.redeliver() == "redelivered"
    assert job.delivery != old
    assert world.deliveries()[-1] == job.delivery
    assert not world.client.exists(KEYS.delivery(old))
    assert job.due is not None
    assert job.due > now(world) + DELIVERY_CHECK * 900


def test_a_delivery_that_is_there_is_looked_for_less_and_less_often(world: World) -> None:
    """If the pauses did not grow, a long queue would be asked about for every job each ten seconds."""
    job = world.start()
    pauses = []
    for _ in range(9):
        assert job.overdue().redeliver() == "there"
        assert job.due is not None
        pauses.append(round((job.due - now(world)) / 1000))
    assert pauses[:3] == [2 * DELIVERY_CHECK, 4 * DELIVERY_CHECK, 8 * DELIVERY_CHECK]
    assert pauses[-1] == DELIVERY_CHECK_MOST
    assert world.deliveries() == [job.delivery]


def test_a_delivery_is_not_looked_for_before_it_is_due(world: World) -> None:
    """If it were, every sweep would ask for every queued job."""
    job = world.start()
    before = world.snapshot()
    assert job.redeliver() == "refused"
    assert world.snapshot() == before


def test_a_list_is_searched_only_where_a_later_delivery_was_taken_a_while_ago(world: World) -> None:
    """If every look were a search, a queue of 100,000 would block the server again and again."""
    job, later, last = world.start(), world.start(), world.start()
    world.client.lrem(KEYS.queue("imports"), 0, job.delivery)
    assert job.overdue().redeliver() == "there"  # nothing speaks for a loss yet
    world.client.hincrby(KEYS.job(later.id), "delivered_at", 1)
    later.claim()
    world.client.lrem(KEYS.queue("imports"), 0, later.delivery)
    assert job.overdue().redeliver() == "there"  # taken just now: ours may be in a worker's hands
    delivered_at = int(later.field("delivered_at"))
    world.client.hset(KEYS.taken, "imports", f"{delivered_at} {int(now(world)) - BIG - 1}")
    assert job.overdue().redeliver(search=False) == "there"  # this sweep has searched enough
    assert job.overdue().redeliver() == "redelivered"
    assert world.client.hget(KEYS.taken, "imports") is not None
    world.client.hset(KEYS.taken, "imports", f"{delivered_at + BIG} {int(now(world)) - BIG - 1}")
    assert last.overdue().redeliver() == "searched"


def test_a_lost_delivery_is_found_in_a_queue_that_is_never_quiet(world: World) -> None:
    """If constant traffic hid a loss, the job would stay queued for as long as the application is busy."""
    job = world.start()
    world.client.lrem(KEYS.queue("imports"), 0, job.delivery)
    moment = int(now(world))
    world.client.hset(KEYS.job(job.id), "delivered_at", moment - 3_600_000)  # an hour ago
    for _ in range(5):  # since then deliveries that were made later have been taken all the time
        other = world.start()
        other.claim()
        world.client.lrem(KEYS.queue("imports"), 0, other.delivery)
    world.start()  # and there is always one more
    assert job.overdue().redeliver() == "redelivered"


# Declining.


def test_a_declined_job_is_offered_again_without_costing_an_attempt(world: World) -> None:
    """If it cost one, an old worker could use a job's tries up during a deploy."""
    job = world.start()
    assert job.decline() == "waiting"
    assert job.field("attempt") == "0"
    assert job.due is not None
    assert 0 <= now(world) + DECLINE_PAUSE * 1000 - job.due < 5000
    assert job.overdue().wake() == "queued"
    assert job.decline() == "waiting"


def test_a_job_that_nobody_accepts_for_ten_minutes_is_paused_with_the_reason(world: World) -> None:
    """If it went round for ever, nobody would learn that no worker has the task."""
    job = world.start()
    job.decline()
    job.overdue().wake()
    world.client.hset(KEYS.job(job.id), "declined_since", int(now(world) - DECLINE_LIMIT * 1000 + BIG))
    assert job.decline() == "waiting"
    job.overdue().wake()
    world.client.hset(KEYS.job(job.id), "declined_since", int(now(world) - DECLINE_LIMIT * 1000))
    assert job.decline("declined: no worker knows the task shop.x") == "paused"
    assert job.field("reason") == "declined: no worker knows the task shop.x"
    assert job.ask("resume") == "done"
    assert job.decline() == "waiting"  # ten minutes more


def test_a_claim_ends_the_ten_minutes(world: World) -> None:
    """If it did not, a job that ran for days would be paused by the first old worker it meets."""
    job = world.start()
    job.decline()
    job.overdue().wake()
    job.claim().interrupt()
    assert job.field("declined_since") == ""


@pytest.mark.parametrize("verbs", [("pause", "resume"), ("cancel", "retry")])
def test_the_ten_minutes_begin_anew_when_a_person_lets_the_job_go_on(world: World, verbs: tuple[str, str]) -> None:
    """If time spent paused counted, one old worker would pause the job again at once."""
    job = world.start()
    job.decline()
    assert job.ask(verbs[0]) == "done"
    world.client.hset(KEYS.job(job.id), "declined_since", int(now(world) - 2 * DECLINE_LIMIT * 1000))
    assert job.ask(verbs[1]) == "done"
    assert job.decline() == "waiting"


def test_a_superseded_delivery_can_not_decline(world: World) -> None:
    """If it could, an old worker would take a job away from the new one."""
    job = world.start()
    old = job.delivery
    pauses_and_resumes(job)
    before = world.snapshot()
    assert world.store.decline(job.id, 1, old, "why") == "refused"
    job.claim()
    before = world.snapshot()
    assert world.store.decline(job.id, 1, job.delivery, "why") == "refused"
    assert world.snapshot() == before


# Keys and unique names.


def test_the_same_key_again_gives_the_same_job(world: World) -> None:
    """If it did not, a request that a browser repeats would be carried out twice."""
    job = world.start(key="order 1")
    before = world.snapshot()
    assert world.store.start(world.request(key="order 1")) == ("existing", job.id)
    assert world.store.start(world.request(key="order 1", digest="d2")) == ("conflict", job.id)
    assert world.snapshot() == before
    assert world.store.start(world.request(key="order 1", task="shop.other"))[0] == "created"
    assert world.store.start(world.request(key="order 2"))[0] == "created"
    job.claim().finish()
    assert world.store.start(world.request(key="order 1")) == ("existing", job.id)
    assert job.overdue().remove() == "removed"
    assert world.store.start(world.request(key="order 1"))[0] == "created"


@pytest.mark.parametrize("end", ["finish", "fail", "cancel", "crash"])
def test_a_unique_name_is_free_again_at_the_end(world: World, end: str) -> None:
    """If it were not, a nightly import would run once and never again."""
    job = world.start(unique="nightly", max_crashes=1)
    assert world.store.start(world.request(unique="nightly", digest="other")) == ("existing", job.id)
    if end == "cancel":
        job.ask("cancel")
    else:
        getattr(job.claim(), end)()
    successor = world.start(unique="nightly")
    assert successor.id != job.id


def test_paused_counts_as_live_for_a_unique_name(world: World) -> None:
    """If it did not, resuming would make two live jobs of one name."""
    job = world.made("paused", unique="nightly")
    assert world.store.start(world.request(unique="nightly")) == ("existing", job.id)


def test_a_retry_takes_its_unique_name_back_or_is_refused(world: World) -> None:
    """If retry ignored the name, two imports of one name would run side by side."""
    job = world.made("failed", unique="nightly")
    rival = world.start(unique="nightly")
    before = world.snapshot()
    assert job.ask("retry") == "taken"
    assert world.snapshot() == before
    rival.ask("cancel")
    assert job.ask("retry") == "done"
    assert world.store.start(world.request(unique="nightly")) == ("existing", job.id)
    assert rival.ask("retry") == "taken"


# What is kept, and for how long.


@pytest.mark.parametrize("status", ["queued", "waiting", "paused", "finished", "failed", "cancelled"])
def test_a_removed_job_leaves_no_key(world: World, status: str) -> None:
    """If something stayed, the server would fill with the remains of finished work."""
    job = world.start(key="k", unique="u", delay=0.0)
    job.claim().step("p")
    world.client.delete(KEYS.delivery(job.delivery))  # RQ deletes the hash of a delivery that ended
    job.interrupt()
    match status:
        case "waiting":
            job.decline()
        case "paused":
            job.ask("pause")
        case "cancelled":
            job.ask("cancel")
        case "finished" | "failed":
            getattr(job.claim(), status.removesuffix("ed"))()
    assert job.status == status
    assert job.remove(asked=True) == "removed"
    assert job.remove(asked=True) == "gone"
    world.client.delete(KEYS.queue("imports"), "rq:queues", KEYS.taken)  # RQ's list is the workers' to empty
    assert world.snapshot() == {}


def test_a_running_job_can_not_be_removed(world: World) -> None:
    """If it could, its process would go on and nobody could stop it."""
    job = world.made("running")
    before = world.snapshot()
    assert job.remove(asked=True) == "running"
    assert job.remove() == "running"
    assert world.snapshot() == before


@pytest.mark.parametrize("status", ["finished", "failed", "cancelled"])
def test_a_final_job_stays_until_its_retention_is_over(world: World, status: str) -> None:
    """If it went earlier, a client that polls would get a 404 for a finished job."""
    job = world.made(status, retention=100.0)
    assert job.due is not None
    assert 0 <= now(world) + 100_000 - job.due < 5000
    assert job.remove() == status
    net = world.client.ttl(KEYS.job(job.id))
    assert RETENTION_NET <= net <= RETENTION_NET + 100
    assert world.client.ttl(KEYS.history(job.id)) >= RETENTION_NET
    assert job.overdue().remove() == "removed"
    assert job.due is None


def test_the_net_catches_the_key_too(world: World) -> None:
    """If the key had no lifetime, a system that was off for a while would keep it for ever."""
    job = world.made("finished", key="order 1")
    assert world.client.ttl(KEYS.key("shop.import_users", "order 1")) > 0
    assert job.field("key") == "order 1"


def test_a_retried_job_lives_without_a_lifetime(world: World) -> None:
    """If the lifetime stayed, a job that was retried would vanish in the middle of its work."""
    job = world.made("queued")
    job.claim().step("p")
    job.fail()
    assert job.ask("retry") == "done"
    for key in (KEYS.job(job.id), KEYS.steps(job.id), KEYS.history(job.id)):
        assert world.client.ttl(key) == -1
    assert world.store.step_result(job.id, "p") == b"1"


def test_the_history_is_bounded(world: World) -> None:
    """If it were not, a job that is interrupted for years would fill the server."""
    job = world.start()
    for _ in range(HISTORY_LENGTH):
        job.ask("pause")
        job.ask("resume")
    history = world.store.history(job.id)
    assert len(history) == HISTORY_LENGTH
    assert history[-1].split("|", 4)[1:] == ["paused", "queued", "0", ""]


def test_the_checkpoint_of_the_end_is_kept(world: World) -> None:
    """If the last record were dropped, a failed job would be retried from an older place."""
    for how in ("finish", "fail", "interrupt", "pause"):
        job = world.made("running")
        job.save(1)
        args = {"finish": ("7",), "fail": ('{"type":"E"}',), "interrupt": ("shutdown", 1), "pause": ("why",)}[how]
        job.let_go(how, *args, seq=4)
        assert job.field("seq") == "4"
        assert job.field("checksum") == record(4).checksum


def test_a_page_of_a_list_ends_without_losing_its_neighbours(world: World) -> None:
    """If jobs of one millisecond were skipped, a burst of starts would be missing from the lists."""
    jobs = {world.start().id for _ in range(6)}
    world.client.zadd(KEYS.status("queued"), dict.fromkeys(jobs, 1_700_000_000_000.0))
    found: list[str] = []
    after = None
    while page := world.store.ids("queued", limit=4, after=after):
        found += [entry.job_id for entry in page]
        after = page[-1]
    assert len(found) == len(jobs)
    assert set(found) == jobs
