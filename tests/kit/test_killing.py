"""crash_everywhere with processes that are really killed, on a real server."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from checkpoint_runner import Task
from checkpoint_runner.testing import Kind, Report, Rule, crash_everywhere
from tests.kit.kit_tasks import count_in_a_global, walk_a_set, write_by_name


def kill(task: Task[[str], int], folder: Path, **options: Any) -> Report:
    """Kill the task at every save."""

    def reset() -> None:
        for path in folder.iterdir():
            path.unlink()

    def snapshot() -> list[str]:
        return sorted(path.name for path in folder.iterdir())

    return crash_everywhere(task, str(folder), snapshot=snapshot, reset=reset, subprocess=True, **options)


def test_a_right_task_survives_sigkill_at_every_save(tmp_path: Path) -> None:
    """If it were blamed, or not really killed, the form in earnest would prove nothing."""
    report = kill(write_by_name, tmp_path)
    report.check()
    assert report.result == 3
    assert report.runs == 2 * report.saves


def test_a_count_in_a_global_is_caught(tmp_path: Path) -> None:
    """If the processes shared their memory, the count would survive and the mistake too."""
    with pytest.raises(AssertionError) as raised:
        kill(count_in_a_global, tmp_path, kinds={Kind.DEATH_AFTER_SAVE}).check()
    assert Rule.STATE.value in str(raised.value)


def test_an_order_by_hash_is_caught(tmp_path: Path) -> None:
    """If all processes had one hash seed, a list made of a set would seem to have an order."""
    with pytest.raises(AssertionError) as raised:
        kill(walk_a_set, tmp_path, most_points=1).check()
    assert Rule.ORDER.value in str(raised.value)
