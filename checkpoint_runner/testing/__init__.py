"""Prove that your own task is resumable: crash it everywhere and compare. See docs/testing.md."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from checkpoint_runner.testing.checkpoints import Checkpoints as Checkpoints
    from checkpoint_runner.testing.crash import check_task as check_task
    from checkpoint_runner.testing.crash import crash_everywhere as crash_everywhere
    from checkpoint_runner.testing.faults import Kind as Kind
    from checkpoint_runner.testing.report import Difference as Difference
    from checkpoint_runner.testing.report import Report as Report
    from checkpoint_runner.testing.rules import Finding as Finding
    from checkpoint_runner.testing.rules import Rule as Rule

_HOMES = {
    # One task, every fault
    "crash_everywhere": "crash",
    "check_task": "crash",
    "Kind": "faults",
    # What comes out
    "Report": "report",
    "Difference": "report",
    "Finding": "rules",
    "Rule": "rules",
    # What the fixture `checkpoints` is
    "Checkpoints": "checkpoints",
}

__all__ = list(_HOMES)


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'checkpoint_runner.testing' has no attribute {name!r}")
    return getattr(import_module(f"checkpoint_runner.testing.{home}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
