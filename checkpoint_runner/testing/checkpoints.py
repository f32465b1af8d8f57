"""What the fixture `checkpoints` is: a runner, a clock, and faults on order."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from checkpoint_runner.attempt import Attempt
from checkpoint_runner.errors import WrongUse
from checkpoint_runner.interruptions import Interruption, Reason
from checkpoint_runner.runner import Runner
from checkpoint_runner.testing.bench import Bench
from checkpoint_runner.testing.clock import Clock, RealClock
from checkpoint_runner.testing.orders import Order, Orders
from checkpoint_runner.testing.watch import Watch

MOST_DELIVERIES = 1000
"""Deliveries that one `run()` takes: a task that is interrupted for ever without progress would never end."""


class Checkpoints:
    """Runs jobs in this process, and interrupts them where a test says.

    `runner` is the process's default meanwhile. An order (`interrupt_after` and so on) is for the next
    attempt; more orders are for the ones after it, one each. With `every_attempt` it is for each
    attempt that has no order of its own.
    """

    def __init__(self, bench: Bench) -> None:
        self._bench = bench
        self._orders = Orders()

    @property
    def runner(self) -> Runner:
        """The runner on this test's own server."""
        return self._bench.runner

    @property
    def clock(self) -> Clock | RealClock:
        """The server's clock: `clock.move(20)` is twenty seconds later for leases, delays and retention."""
        return self._bench.clock

    def run(self) -> list[str]:
        """Run what is queued until nothing is left; return the status that each attempt ended with.

        Jobs that wait for a moment run after `clock.move()`. Raises RedisUnavailable in an outage.
        """
        statuses: list[str] = []
        while (delivered := self._bench.deliver(self._attend)) is not None:
            statuses.append(delivered[1])
            if len(statuses) == MOST_DELIVERIES:
                raise AssertionError(f"{MOST_DELIVERIES} attempts were run and there are still more: no progress?")
        return statuses

    def interrupt_after(self, *, items: int, every_attempt: bool = False) -> None:
        """Have a shutdown ask the attempt to stop when it has finished that many items. Raises WrongUse."""
        self._orders.add(Order("interrupt_after", self._shut_down, items, None, every_attempt))

    def interrupt_at(self, *, step: str, every_attempt: bool = False) -> None:
        """Have a shutdown ask the attempt to stop while that step runs."""
        self._orders.add(Order("interrupt_at", self._shut_down, None, step, every_attempt))

    def crash_after(self, *, items: int, every_attempt: bool = False) -> None:
        """Kill the process when the task has done that many items in the attempt. Raises WrongUse.

        What is not saved by then is lost, the last of these items for certain: a task that does not say
        `save_every` loses up to a second of work.
        """
        self._orders.add(Order("crash_after", self._kill, items, None, every_attempt))

    def pause_after(self, *, items: int, every_attempt: bool = False) -> None:
        """Have a person pause the job when the attempt has finished that many items. Raises WrongUse."""
        self._orders.add(Order("pause_after", self._pause, items, None, every_attempt))

    @contextmanager
    def outage(self) -> Iterator[None]:
        """The server is away inside the block. Raises WrongUse on a real server."""
        server = self._bench.server
        if server is None:
            raise WrongUse("outage() was called on a real server, which stays up: run this test on fakeredis only.")
        server.connected = False
        try:
            yield
        finally:
            server.connected = True

    def require_orders_kept(self) -> None:
        """Raise AssertionError where a fault was ordered and never came. The fixture calls it after the test."""
        self._orders.require_kept()

    def _attend(self, attempt: Attempt) -> None:
        watch, order = Watch(time.time), self._orders.take()
        watch.attend(attempt)
        if order is not None:
            order.place(watch, attempt)

    def _shut_down(self, attempt: Attempt) -> None:
        deadline = time.monotonic() + self._bench.backend.settings.grace
        attempt.stop(Interruption(Reason.SHUTDOWN, deadline))

    def _kill(self, attempt: Attempt) -> None:
        self._bench.store.die()

    def _pause(self, attempt: Attempt) -> None:
        self.runner.job(attempt.lease.job_id).pause()
        attempt.heed(attempt.lease.renew())
