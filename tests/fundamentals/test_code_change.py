"""Code and input that change between two attempts: gone on with, left to others, or paused."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import fakeredis
import pytest

from checkpoint_runner import Checkpoint, Runner, checkpointed, specs
from checkpoint_runner.errors import WrongDeclaration
from checkpoint_runner.sources import lines
from tests.conftest import Worker, done

VARIANT: list[str] = []


@pytest.fixture(autouse=True)
def _first_variant() -> Any:
    VARIANT.clear()
    yield
    VARIANT.clear()


@checkpointed
def counts(checkpoint: Checkpoint, size: int) -> Any:
    for number in checkpoint.each(range(size)):
        checkpoint.state["count"] = checkpoint.state.get("count", 0) + 1
        done.append(number)
    return checkpoint.state


@checkpointed
def walks(checkpoint: Checkpoint) -> None:
    for item in checkpoint.each(list(VARIANT) or ["a", "b", "c"]):
        done.append(item)


@checkpointed
def reads(checkpoint: Checkpoint, path: str) -> None:
    for line in checkpoint.each(lines(path)):
        done.append(line)


@checkpointed
def in_steps(checkpoint: Checkpoint) -> None:
    if "new first step" in VARIANT:
        checkpoint.step("look around", done.append, "look around")
    checkpoint.step("download", done.append, "download")
    if "new second step" in VARIANT:
        checkpoint.step("unpack", done.append, "unpack")
    for number in checkpoint.each(range(3)):
        done.append(number)


@checkpointed
def in_loops(checkpoint: Checkpoint) -> None:
    if "new first loop" in VARIANT:
        for number in checkpoint.each(range(2), name="zero"):
            done.append(f"zero {number}")
    for number in checkpoint.each(range(2), name="one"):
        done.append(f"one {number}")
    for number in checkpoint.each(range(2), name="two"):
        done.append(f"two {number}")


def released(registry: dict[str, specs.TaskSpec], name: str, version: int, **migrations: Any) -> specs.TaskSpec:
    """Put another version of a task into the register, as a deploy does."""
    numbered = {int(step[1:]): migration for step, migration in migrations.items()}
    spec = dataclasses.replace(specs.require(name), version=version, migrations=numbered)
    registry[name] = spec
    return spec


def test_a_migration_takes_the_state_along(worker: Worker, registry: dict[str, specs.TaskSpec]) -> None:
    """A release that stores its state otherwise would have to cancel every running job."""
    job = counts.start(4)
    worker.run(stop_after=2)
    released(
        registry, counts.name, 3, v1=lambda state: {"n": state["count"]}, v2=lambda state: {"count": state["n"] * 10}
    )
    assert worker.run() == "finished"
    assert job.refresh().result == {"count": 22}
    assert done == [0, 1, 2, 3]


def test_a_migration_that_fails_pauses_the_job(worker: Worker, registry: dict[str, specs.TaskSpec]) -> None:
    """A mistake in a migration would fail every job of the task, or lose their state."""
    job = counts.start(4)
    worker.run(stop_after=2)
    spec = released(registry, counts.name, 2, v1=lambda state: state["no such key"])
    assert worker.run() == "paused"
    reason = job.refresh().reason
    assert "version 1" in reason
    assert "version 2" in reason
    assert "KeyError" in reason
    spec.migrations[1] = lambda state: state
    job.refresh().resume()
    assert worker.run() == "finished"
    assert done == [0, 1, 2, 3]


def test_without_a_migration_an_older_worker_may_go_on(
    worker: Worker, runner: Runner, registry: dict[str, specs.TaskSpec]
) -> None:
    """During a deploy the new release would take jobs that only the old one can end."""
    job = counts.start(4)
    worker.run(stop_after=2)
    released(registry, counts.name, 2)
    assert worker.run() == "waiting"
    reason = job.refresh().reason
    assert "version 1" in reason
    assert "version 2" in reason
    assert job.refresh().attempts == 1, "no attempt was used"
    released(registry, counts.name, 1)
    worker.backend.client.zadd("ckpt:agenda", {job.id: 0})
    worker.backend.client.delete("ckpt:sweep")
    assert runner.sweep() == 1
    assert worker.run() == "finished"


def test_after_ten_minutes_without_a_worker_the_job_is_paused(
    worker: Worker, runner: Runner, registry: dict[str, specs.TaskSpec], redis_client: fakeredis.FakeRedis
) -> None:
    """A job that nobody can run would go round for ever, unseen."""
    job = counts.start(4)
    worker.run(stop_after=2)
    released(registry, counts.name, 2)
    worker.run()
    redis_client.hincrby(f"ckpt:job:{job.id}", "declined_since", -600_000)
    redis_client.zadd("ckpt:agenda", {job.id: 0})
    redis_client.delete("ckpt:sweep")
    runner.sweep()
    assert worker.run() == "paused"
    assert "version 1" in job.refresh().reason


def test_a_newer_format_is_left_to_a_newer_release(worker: Worker, redis_client: fakeredis.FakeRedis) -> None:
    """An older release of this library would go back to the beginning, or stumble."""
    job = counts.start(4)
    worker.run(stop_after=2)
    redis_client.hset(f"ckpt:job:{job.id}", "format", "99")
    assert worker.run() == "waiting"
    assert "format 99" in job.refresh().reason


@pytest.mark.parametrize("wrong", [0, 1, 5, True, "1"])
def test_a_migration_that_makes_no_sense(wrong: Any) -> None:
    """A typing mistake in a version would show only when a job is resumed."""
    with pytest.raises(WrongDeclaration):
        counts.migrate(wrong)


def test_a_list_of_another_length_pauses_the_job(worker: Worker) -> None:
    """A position that is a count would skip or repeat items in another list."""
    job = walks.start()
    worker.run(stop_after=2)
    VARIANT.extend("abcd")
    assert worker.run() == "paused"
    assert "3 items and is 4 items" in job.refresh().reason
    VARIANT[:] = "abc"
    job.refresh().resume()
    assert worker.run() == "finished"
    assert done == ["a", "b", "c"]


def test_another_file_of_the_name_pauses_the_job(worker: Worker, tmp_path: Path) -> None:
    """A job would go on in the middle of another file."""
    path = tmp_path / "rows"
    path.write_text("one\ntwo\nthree\n")
    job = reads.start(str(path))
    worker.run(stop_after=1)
    path.write_text("uno\ndos\ntres\n")
    assert worker.run() == "paused"
    assert "has changed" in job.refresh().reason


def test_a_file_may_grow(worker: Worker, tmp_path: Path) -> None:
    """A log that is still written could not be read with pauses."""
    path = tmp_path / "rows"
    path.write_text("one\ntwo\n")
    reads.start(str(path))
    worker.run(stop_after=1)
    with path.open("a") as file:
        file.write("three\n")
    assert worker.run() == "finished"
    assert done == ["one", "two", "three"]


@pytest.mark.parametrize("variant", ["new first step", "new second step"])
def test_a_new_step_before_what_is_done(variant: str, worker: Worker) -> None:
    """A release that puts a step before finished ones would run it out of its order."""
    job = in_steps.start()
    worker.run(stop_after=2)
    VARIANT.append(variant)
    expected = "paused" if variant == "new first step" else "finished"
    assert worker.run() == expected
    if expected == "paused":
        assert "'download'" in job.refresh().reason
        assert "'look around'" in job.refresh().reason
        assert done == ["download", 0]


def test_a_new_loop_before_a_finished_one(worker: Worker) -> None:
    """A release that puts a loop before finished ones would run it out of its order."""
    job = in_loops.start()
    worker.run(stop_after=3)
    VARIANT.append("new first loop")
    assert worker.run() == "paused"
    assert "their order in the code has changed" in job.refresh().reason
    VARIANT.clear()
    job.refresh().resume()
    assert worker.run() == "finished"
    assert done == ["one 0", "one 1", "two 0", "two 1"]
