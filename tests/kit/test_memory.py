"""What a new process would not remember, and what it would find in the world."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

import pytest

from checkpoint_runner import default_runner
from checkpoint_runner.testing.memory import Memory

number = 1
log: list[int] = [1]


@dataclass
class Totals:
    sent: int = 0
    names: list[str] = field(default_factory=list)


totals = Totals()


def bump() -> None:
    global number
    number += 1
    log.append(number)
    totals.sent += 1
    totals.names.append("x")


def calls_bump() -> None:
    bump()


@pytest.mark.parametrize("function", [bump, calls_bump])
def test_globals_are_put_back_also_those_of_helpers(function: Callable[[], None]) -> None:
    """If a helper's count stayed, the mistake of counting there would pass."""
    with Memory(function) as memory:
        function()
        assert memory.changed == ["log", "number", "totals"]
        memory.put_back()
        assert (number, log, totals) == (1, [1], Totals())
        assert memory.changed == []


def test_variables_of_an_enclosing_function_are_put_back() -> None:
    """If they stayed, a task inside a test would keep what a process forgets."""
    count = 0
    kept: deque[int] = deque([0])

    def function() -> None:
        nonlocal count
        count += 1
        kept.append(count)

    with Memory(function):
        function()
    assert (count, list(kept)) == (0, [0])


def test_the_outside_world_stays() -> None:
    """If it were put back too, effects that are done twice would look as if they were done once."""
    with Memory(bump, lambda: (log, totals.sent)) as memory:
        bump()
        memory.put_back()
        assert number == 1
        assert log == [1, 2]
        assert totals.sent == 1
    log[:], totals.sent, totals.names[:] = [1], 0, []


def test_a_method_stands_for_its_object() -> None:
    """If `reset=rows.clear` did not say that `rows` is the world, the shortest way to write it would be wrong."""
    rows: list[int] = []

    def function() -> None:
        rows.append(1)

    with Memory(function, rows.copy, rows.clear):
        function()
    assert rows == [1]


def test_a_world_inside_a_variable_stays_the_same_object() -> None:
    """If a copy took its place, the task would write where no snapshot looks."""
    rows: list[int] = []
    tables: dict[str, Any] = {"rows": rows}

    def function() -> None:
        tables["rows"].append(1)
        tables["more"] = 1

    with Memory(function, lambda: rows):
        function()
    assert tables == {"rows": [1]}
    assert tables["rows"] is rows


def test_what_can_not_be_copied_is_left_alone() -> None:
    """If a generator or a connection made it fail, most real tasks could not be tested."""
    holds: list[Any] = [(one for one in (1, 2)), iter((1, 2))]

    def function() -> None:
        holds.append(1)

    with Memory(function) as memory:
        function()
        assert memory.changed == []
    assert len(holds) == 3


def test_variables_of_a_helper_module_are_put_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """If only the task's own module were looked at, a count in a module of counts would pass."""
    stats = ModuleType("stats_of_this_test")
    vars(stats)["count"] = 0
    monkeypatch.setitem(globals(), "stats", stats)

    def function() -> None:
        globals_stats = stats
        globals_stats.count += 1

    with Memory(function):
        function()
    assert stats.count == 0


def test_the_library_itself_is_left_alone() -> None:
    """If its own variables were put back, the runner of the test would be."""

    def function() -> None:
        default_runner()

    assert Memory(function, None).changed == []
    assert not list(Memory(function).variables)
