"""The clock of a server in memory, which a test moves instead of sleeping."""

from __future__ import annotations

import importlib
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from checkpoint_runner.durations import Duration, seconds
from checkpoint_runner.errors import WrongUse
from checkpoint_runner.sweep import Sweeper

_READERS = ("fakeredis._helpers", "fakeredis._socket._base", "fakeredis.commands_mixins.server_mixin")
"""The modules in which fakeredis asks for the time."""


class Clock:
    """Moves the server's time; leases, delays, redeliveries and retention follow it."""

    def __init__(self, sweeper: Sweeper, lease: float) -> None:
        self._sweeper = sweeper
        self._lease = lease
        self._ahead = 0.0

    def time(self) -> float:
        """Return the server's time, in seconds since 1970."""
        return time.time() + self._ahead

    def move(self, by: Duration) -> None:
        """Move the time on by float seconds or a timedelta, and do what falls due, as a deployment would.

        Raises WrongSetting for a negative duration.
        """
        far = seconds(by, "by")
        # A sweep that finds that nobody swept for long lets no lease expire for one lease: so the last lease is
        # walked through in steps, as if somebody had been there all the time.
        last = min(far, self._lease)
        self._step(far - last)
        for _ in range(4):
            self._step(last / 4)

    def _step(self, by: float) -> None:
        self._ahead += by
        self._sweeper.sweep()

    @contextmanager
    def running(self) -> Iterator[None]:
        """Have fakeredis go by this clock inside the block."""
        modules = [importlib.import_module(name) for name in _READERS]
        before = [vars(module)["time"] for module in modules]
        for module in modules:
            vars(module)["time"] = self
        try:
            self._sweeper.sweep()
            yield
        finally:
            for module, its_time in zip(modules, before, strict=True):
                vars(module)["time"] = its_time

    def __getattr__(self, name: str) -> Any:
        return getattr(time, name)  # what else fakeredis asks of the module that this stands for


class RealClock:
    """Stands where the server is a real one, whose clock nobody can move."""

    def time(self) -> float:
        """Return this machine's time, in seconds since 1970."""
        return time.time()

    def move(self, by: Duration) -> None:
        """Raises WrongUse: there is nothing to move."""
        raise WrongUse(
            "clock.move() was called on a real server, whose clock can't be moved. Leases are short there "
            "(a second): give delays that are short too, or run this test on fakeredis only."
        )
