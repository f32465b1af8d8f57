"""What a look at a task's code finds."""

from __future__ import annotations

import itertools
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from checkpoint_runner import Checkpoint, testing
from checkpoint_runner.testing.checks import check_source_code

ROOT = Path(__file__).parents[2]


def zipped(checkpoint: Checkpoint) -> None:
    for _ in zip("ab", checkpoint.each("cd"), strict=True):
        pass


def batched(checkpoint: Checkpoint) -> None:
    for _ in itertools.batched(checkpoint.each("cd"), 2):  # type: ignore[attr-defined]
        pass


def listed(checkpoint: Checkpoint) -> None:
    items = checkpoint.each("cd")
    print(list(items))


def pooled(checkpoint: Checkpoint) -> None:
    with ThreadPoolExecutor() as pool:
        list(pool.map(str, checkpoint.each("cd")))


def looped(checkpoint: Checkpoint) -> None:
    for _ in checkpoint.each(list("cd")):
        pass


def numbered(checkpoint: Checkpoint) -> None:
    for _ in enumerate(map(str, checkpoint.each("cd"))):
        pass


@pytest.mark.parametrize(
    ("function", "name"),
    [(zipped, "zip"), (batched, "itertools.batched"), (listed, "list"), (pooled, "pool.map")],
)
def test_what_takes_items_ahead_is_found(function: Callable[..., Any], name: str) -> None:
    """If it were not, items would be lost silently at a stop."""
    (finding,) = check_source_code(function)
    assert finding.seen == f"each() is given to {name}()"
    line = int(finding.where.removeprefix("line "))
    first = function.__code__.co_firstlineno
    assert first < line <= first + 2


@pytest.mark.parametrize("function", [looped, numbered, eval("lambda checkpoint: 1")])
def test_what_takes_one_item_at_a_time_is_not(function: Callable[..., Any]) -> None:
    """If it were, users would have to argue with the kit."""
    assert check_source_code(function) == []


@pytest.mark.parametrize("name", testing.__all__)
def test_every_public_name_is_there(name: str) -> None:
    """If a name in __all__ did not resolve, the page's imports would fail."""
    assert getattr(testing, name).__name__ == name
    assert name in dir(testing)


def test_a_name_that_is_not_there_is_an_attribute_error() -> None:
    """If it were another error, hasattr() and editors would stumble over the package."""
    assert not hasattr(testing, "no_such_name")


def test_a_missing_extra_is_named() -> None:
    """If it were not, a user without fakeredis would not know what to install."""
    code = "import sys; sys.modules['fakeredis'] = None; import checkpoint_runner.testing.bench"
    ended = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False, timeout=60
    )
    assert 'pip install "checkpoint-runner[testing]"' in ended.stderr
