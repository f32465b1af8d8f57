"""The process that runs deliveries, and what they need of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from checkpoint_runner.attempt import Attempt
from checkpoint_runner.backend import Backend
from checkpoint_runner.pulse import Chore
from checkpoint_runner.shutdown import ShutdownCoordinator


@dataclass(slots=True)
class Host:
    """One process: its connections, its way to stop, and its chores while it runs a job.

    `is_horse` says that the process is there for one delivery, and may be ended with it.
    `on_attempt` is called with each attempt before it begins.
    """

    backend: Backend
    coordinator: ShutdownCoordinator | None = None
    is_horse: bool = False
    chores: tuple[Chore, ...] = ()
    on_attempt: list[Callable[[Attempt], None]] = field(default_factory=list)


_this: list[Host] = []


def set_host(host: Host) -> None:
    """Say what process this is, before RQ calls the delivery."""
    _this[:] = [host]


def this_host() -> Host | None:
    """Return what this process is; None under a stock RQ worker, which says nothing."""
    return _this[0] if _this else None
