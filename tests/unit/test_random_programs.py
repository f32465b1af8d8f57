"""Random programs of nested loops, interrupted at random items: each item exactly once."""

from __future__ import annotations

from typing import Any

import fakeredis
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from checkpoint_runner import Checkpoint, Runner, Task, checkpointed
from tests.conftest import Worker, done

Program = list[Any]
"""Loops that follow each other: [items, kind of source, every which item has loops inside, those loops]"""


def source(kind: str, length: int) -> Any:
    match kind:
        case "range":
            return range(length)
        case "list":
            return list(range(length))
        case "generator":
            return (number for number in range(length))
    return lambda: iter(range(length))


def walk(checkpoint: Checkpoint, program: Program, path: tuple[int, ...], *, counts: bool) -> None:
    for index, (length, kind, sparse, inner) in enumerate(program):
        for number in checkpoint.each(source(kind, length), name=f"{index}"):
            here = (*path, index, number)
            if inner and (sparse is None or number % sparse == 0):
                walk(checkpoint, inner, here, counts=counts)
            else:
                done.append(here)
                if counts:
                    checkpoint.state["items"] = checkpoint.state.get("items", 0) + 1


@checkpointed
def interpret(checkpoint: Checkpoint, program: list[Any]) -> None:
    walk(checkpoint, program, (), counts=False)


@checkpointed
def interpret_and_count(checkpoint: Checkpoint, program: list[Any]) -> int:
    walk(checkpoint, program, (), counts=True)
    return int(checkpoint.state.get("items", 0))


def expected(program: Program, path: tuple[int, ...] = ()) -> list[tuple[int, ...]]:
    items: list[tuple[int, ...]] = []
    for index, (length, _, sparse, inner) in enumerate(program):
        for number in range(length):
            here = (*path, index, number)
            if inner and (sparse is None or number % sparse == 0):
                items += expected(inner, here)
            else:
                items.append(here)
    return items


kinds = st.sampled_from(["range", "list", "generator", "factory"])
sparse = st.none() | st.integers(1, 3)
leaves = st.tuples(st.integers(0, 4), kinds, st.none(), st.just([])).map(list)
loops = st.recursive(
    leaves,
    lambda inner: st.tuples(st.integers(0, 3), kinds, sparse, st.lists(inner, max_size=2)).map(list),
    max_leaves=5,
)
programs = st.lists(loops, max_size=3)
stops = st.lists(st.integers(0, 6), max_size=8)


@pytest.mark.parametrize("task", [interpret, interpret_and_count], ids=["without state", "with state"])
@settings(
    max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(program=programs, stops=stops)
@example(program=[[4, "range", 2, [[2, "list", None, []]]]], stops=[2, 2, 1])
@example(program=[[3, "factory", None, [[2, "generator", None, [[2, "range", None, []]]]]]], stops=[3, 0, 0, 4])
def test_each_item_exactly_once(task: Task[..., object], program: Program, stops: list[int]) -> None:
    """Some shape of loops would lose or repeat items at a deploy."""
    done.reset()
    runner = Runner(fakeredis.FakeRedis(server=fakeredis.FakeServer()))
    try:
        worker = Worker(runner)
        job = task.options(runner=runner).start(program)
        statuses = [worker.run(stop_after=stop) for stop in stops]
        statuses.append(worker.run())
        assert "finished" in statuses
        assert list(done) == expected(program)
        if task is interpret_and_count:
            assert runner.job(job.id).result == len(done)
    finally:
        runner.close()
