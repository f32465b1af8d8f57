"""The chaos in a short and bounded form, and proof that its history check sees what it is there to see.

This rung may take 30 s: twelve seconds of faults, and then until everything has ended. `make chaos SECONDS=600`
runs it in full.
"""

from __future__ import annotations

import secrets
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import fakeredis
import pytest
from rq import Queue

from checkpoint_runner import Checkpoint, Job, Runner, Status, checkpointed, events
from checkpoint_runner.leftovers import clear_leftovers
from tests.conftest import Worker
from tests.contract.contract_world import KEYS, QUEUE
from tests.ladder.chaos import Account, Chaos, Line


@pytest.mark.timeout(300)
def test_nothing_is_lost_and_little_repeated_whatever_is_killed(
    tmp_path_factory: pytest.TempPathFactory, capsys: pytest.CaptureFixture[str]
) -> None:
    """If this fails, kills, freezes and restarts of real processes lose items, repeat many, or leave something over."""
    chaos = Chaos(12.0, secrets.randbelow(1_000_000), tmp_path_factory.mktemp("c"))
    chaos.run()
    # What dead horses leave in RQ's keys is looked at below, one case at a time.
    assert chaos.wrong == [], capsys.readouterr().out


# The check itself.

COUNT = 6


def account_of(lines: list[Line], *, lost: int = 0, outages: tuple[tuple[float, float], ...] = ()) -> Account:
    """Return what the check says of one finished job with these lines."""
    account = Account()
    job = SimpleNamespace(id="j", status=Status.FINISHED, result=COUNT, lost=lost)
    account.add(cast("Job[Any]", job), COUNT, lines, list(outages))
    return account


def items(attempt: int, numbers: range, *, at: float, every: float = 0.01) -> list[Line]:
    return [Line("item", attempt, number, at + i * every, attempt) for i, number in enumerate(numbers)]


def test_the_check_is_content_with_a_crash_that_repeats_a_second() -> None:
    """If this fails, the chaos would report bugs that are none."""
    account = account_of([*items(1, range(4), at=0.0), *items(2, range(2, 6), at=1.0)])
    assert (account.wrong, account.repeats, account.items) == ([], 2, 6)


def test_the_check_sees_a_missing_item() -> None:
    """If this fails, a lost item would go unnoticed."""
    account = account_of([*items(1, range(2), at=0.0), *items(2, range(3, 6), at=1.0)])
    assert account.missing == 1
    assert account.wrong


def test_the_check_sees_a_save_that_went_back() -> None:
    """If this fails, an acknowledged checkpoint could go back unnoticed."""
    saved = Line("saved", 1, 4, 0.05, 1)
    account = account_of([*items(1, range(4), at=0.0), saved, *items(2, range(3, 6), at=1.0)])
    assert account.beyond == 1
    assert account.wrong


def test_the_check_sees_too_old_an_item_done_again_unless_nothing_could_be_saved() -> None:
    """If this fails, a job that never saves would pass as one that saves each second."""
    lines = [*items(1, range(4), at=0.0, every=1.0), *items(2, range(6), at=5.0)]
    assert account_of(lines).beyond == 4
    assert account_of(lines, outages=((0.5, 2.9),)).beyond == 0


def test_the_check_sees_two_writers() -> None:
    """If this fails, two processes could work on one job unnoticed."""
    old, new = items(1, range(4), at=0.0), items(2, range(1, 6), at=0.5)
    mixed = [*old[:2], *new, *old[2:]]
    assert account_of(mixed, lost=1).wrong, "two items after the newer attempt are one too many"
    one = [*old[:2], *new, old[2]]
    assert account_of(one, lost=0).wrong, "without a lost lease not one"
    assert account_of(one, lost=1).wrong == []
    assert account_of([*items(1, range(5), at=0.0), replace(old[0], number=5, pid=7)]).wrong, "one attempt, two pids"


# What the chaos has found.


@checkpointed(name="ladder.saves_in_vain", save_every=0.0)
def saves_in_vain(checkpoint: Checkpoint) -> None:
    for _ in checkpoint.each(range(2)):
        IN_ITEM[0]()


IN_ITEM = [lambda: None]


def test_a_save_that_was_refused_is_not_announced_as_saved(
    runner: Runner, worker: Worker, redis_client: fakeredis.FakeRedis, seen: list[events.Event]
) -> None:
    """If this fails, logs and metrics say that a position is safe which the server has refused."""
    job = saves_in_vain.start()

    def lose_the_lease() -> None:
        redis_client.hset(f"ckpt:job:{job.id}", "holder", "another")

    IN_ITEM[0] = lose_the_lease
    assert worker.run() == "lost"
    saved = [event.position for event in seen if isinstance(event, events.CheckpointSaved)]
    assert saved == [""], "the open loop, before the lease was lost, and nothing after it"


def dead_horse_left(client: fakeredis.FakeRedis, registry: str, delivery: str) -> None:
    client.zadd(registry, {delivery: 1.0})
    clear_leftovers(client, KEYS, [Queue(QUEUE, connection=client)])


def test_a_failed_delivery_is_cleared_from_rqs_registry(redis_client: fakeredis.FakeRedis) -> None:
    """If this fails, each lease that a living horse lost leaves an entry in RQ's failed registry for ever."""
    dead_horse_left(redis_client, KEYS.failed(QUEUE), "0a1b-1-1")
    assert redis_client.zcard(KEYS.failed(QUEUE)) == 0


def test_a_delivery_that_died_behind_its_last_word_is_cleared(redis_client: fakeredis.FakeRedis) -> None:
    """If this fails, a worker killed between the end of its job and RQ's cleaning up leaves a hash for ever."""
    redis_client.hset(KEYS.delivery("0a1b-1-1"), "status", "started")
    dead_horse_left(redis_client, KEYS.started(QUEUE), "0a1b-1-1:execution")
    assert redis_client.exists(KEYS.delivery("0a1b-1-1")) == 0
