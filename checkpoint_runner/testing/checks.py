"""Checks of a task: what its code shows, and what one run of it shows."""

from __future__ import annotations

import ast
import inspect
import itertools
import textwrap
from collections.abc import Callable, Iterator
from typing import Any

from checkpoint_runner.durations import Duration, seconds
from checkpoint_runner.keys import GRACE
from checkpoint_runner.specs import TaskSpec
from checkpoint_runner.testing.rules import Finding, Rule
from checkpoint_runner.testing.watch import Watch

TAKES_AHEAD = frozenset({"zip", "zip_longest", "batched", "list", "tuple", "sorted", "set", "deque", "tee"})
"""Functions that take items before the task has done the one before, or that pair them anew after a resume."""

POOLS = frozenset({"map", "imap", "imap_unordered", "starmap", "map_async"})
"""Methods of executors and pools that do."""

FEWEST_SAVES = 5
"""Items that it takes to say that the state grows."""

GROWTH = 2.0
"""Bytes per item at which it does: a number grows too, by a digit now and then."""


def check_source_code(function: Callable[..., Any]) -> list[Finding]:
    """Return where a task's function gives `each` to something that takes items ahead."""
    try:
        lines, first = inspect.getsourcelines(inspect.unwrap(function))
        tree = ast.parse(textwrap.dedent("".join(lines)))
    except (OSError, TypeError, SyntaxError):
        return []  # made by exec, or in a console: there is no code to look at
    checkpoint = next(iter(inspect.signature(function).parameters))
    loops = {target for node in ast.walk(tree) for target in _names_given(node, checkpoint)}
    return [
        Finding(Rule.ONE_FOR, f"line {first + node.lineno - 1}", f"each() is given to {ast.unparse(node.func)}()")
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and _takes_ahead(node.func)
        and any(_is_each(argument, checkpoint, loops) for argument in node.args)
    ]


def check_watch(watch: Watch, spec: TaskSpec, grace: Duration | None) -> list[Finding]:
    """Return what was seen in a run without faults."""
    return [*watch.findings, *_growth(watch, spec), *_too_long(watch, grace)]


def _growth(watch: Watch, spec: TaskSpec) -> Iterator[Finding]:
    sizes = watch.sizes
    if len(sizes) < FEWEST_SAVES:
        return
    grown = [after > before for before, after in itertools.pairwise(sizes)]
    per_item = (sizes[-1] - sizes[0]) / len(grown)
    if per_item >= GROWTH and sum(grown) >= 0.8 * len(grown):
        seen = (
            f"the state grew from {sizes[0]:,} to {sizes[-1]:,} bytes in {len(sizes)} items; "
            f"it is too large after {int(spec.max_bytes / per_item):,} (max_bytes is {spec.max_bytes:,})"
        )
        yield Finding(Rule.BOUNDED, "checkpoint.state", seen)


def _too_long(watch: Watch, grace: Duration | None) -> Iterator[Finding]:
    most = GRACE if grace is None else seconds(grace, "grace")
    took, where = watch.longest
    if took > most:
        yield Finding(Rule.GRACE, where, f"it took {took:.1f} s, and the grace is {most:.1f} s")


def _names_given(node: ast.AST, checkpoint: str) -> Iterator[str]:
    """Yield the names that a statement gives to a loop of the checkpoint."""
    if isinstance(node, ast.Assign) and _is_each(node.value, checkpoint, set()):
        yield from (target.id for target in node.targets if isinstance(target, ast.Name))


def _is_each(node: ast.AST, checkpoint: str, loops: set[str]) -> bool:
    if isinstance(node, ast.Name):
        return node.id in loops
    return (
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr == "each"
        and isinstance(node.func.value, ast.Name)
        and node.func.value.id == checkpoint
    )


def _takes_ahead(function: ast.expr) -> bool:
    if isinstance(function, ast.Attribute):
        return function.attr in TAKES_AHEAD | POOLS
    return isinstance(function, ast.Name) and function.id in TAKES_AHEAD
