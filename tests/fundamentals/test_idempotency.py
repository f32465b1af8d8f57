"""Idempotency keys: the same in every attempt at an item, different for everything else."""

from __future__ import annotations

import re

import pytest

from checkpoint_runner import Checkpoint, checkpointed
from tests.conftest import Worker, done


@checkpointed
def charge(checkpoint: Checkpoint, fail_at: int = -1) -> None:
    done.append(("top", checkpoint.idempotency_key("charge")))
    for number in checkpoint.each(range(3)):
        done.append((number, checkpoint.idempotency_key("charge")))
        done.append((number, "mail", checkpoint.idempotency_key("mail")))
        if number == fail_at and checkpoint.attempt == 1:
            raise ConnectionError("outcome unknown")


@checkpointed
def charge_in_two_loops(checkpoint: Checkpoint) -> None:
    for number in checkpoint.each(range(2)):
        done.append(("first", number, checkpoint.idempotency_key("charge")))
    for number in checkpoint.each(range(2), name="second"):
        done.append(("second", number, checkpoint.idempotency_key("charge")))


@checkpointed
def charge_in_nested_loops(checkpoint: Checkpoint) -> None:
    for row in checkpoint.each(range(3)):
        done.append((row, checkpoint.idempotency_key("charge")))
        for column in checkpoint.each(range(2), name="columns"):
            done.append((row, column, checkpoint.idempotency_key("charge")))


def keys() -> dict[tuple[object, ...], set[str]]:
    found: dict[tuple[object, ...], set[str]] = {}
    for *where, key in done:
        found.setdefault(tuple(where), set()).add(key)
    return found


def all_different(found: dict[tuple[object, ...], set[str]]) -> bool:
    return all(len(each) == 1 for each in found.values()) and len(set.union(*found.values())) == len(found)


@pytest.mark.parametrize("task", [charge, charge_in_two_loops, charge_in_nested_loops])
def test_different_for_each_item_and_purpose(worker: Worker, task: object) -> None:
    """The payment API would take the second customer's charge for a repetition of the first."""
    task.start()  # type: ignore[operator]
    worker.run()
    assert all_different(keys())
    assert all(re.fullmatch("[0-9a-f]{32}", key) for each in keys().values() for key in each)


@pytest.mark.parametrize("task", [charge, charge_in_two_loops, charge_in_nested_loops])
@pytest.mark.parametrize("stop_after", [2, 3, 4])
def test_the_same_in_every_attempt(worker: Worker, task: object, stop_after: int) -> None:
    """The payment API would charge again after a deploy."""
    task.start()  # type: ignore[operator]
    worker.run()
    uninterrupted = set(keys())
    done.clear()
    task.start()  # type: ignore[operator]
    worker.run_until_idle(stop_after=stop_after)
    assert set(keys()) == uninterrupted
    assert all_different(keys())


def test_the_same_after_an_exception(worker: Worker) -> None:
    """A charge whose outcome was unknown would be made twice by the retry."""
    job = charge.start(fail_at=1)
    worker.run()
    job.retry()
    worker.run()
    assert all_different(keys())
    assert len([entry for entry in done if entry[0] == 1]) == 4


def test_different_for_each_job(worker: Worker) -> None:
    """The second order of the day would be taken for the first."""
    charge.start()
    charge.start()
    worker.run_until_idle()
    assert len({entry[-1] for entry in done}) == len(done)


def test_different_for_each_direct_call() -> None:
    """A script that is run again tomorrow would charge nobody, since the API knows its keys already."""
    charge()
    charge()
    assert len({entry[-1] for entry in done}) == len(done)
