"""Faults that a test orders for the attempts to come."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from checkpoint_runner.attempt import Attempt
from checkpoint_runner.errors import WrongUse
from checkpoint_runner.testing.watch import Watch


@dataclass(eq=False, slots=True)
class Order:
    """One fault: `act` is done to an attempt when it has finished so many items, or when a step begins."""

    verb: str
    act: Callable[[Attempt], None]
    items: int | None
    step: str | None
    every_attempt: bool
    came: bool = False

    def __post_init__(self) -> None:
        if self.items is not None and self.items < 1:
            raise WrongUse(f"{self} was called; expected at least 1, the first item of the attempt.")

    def __str__(self) -> str:
        when = f"step={self.step!r}" if self.items is None else f"items={self.items}"
        return f"{self.verb}({when})"

    def place(self, watch: Watch, attempt: Attempt) -> None:
        """Have it happen in this attempt."""
        finished = 0

        def at_item_end() -> None:
            nonlocal finished
            finished += 1
            if finished == self.items:
                self._come(attempt)

        def at_step(name: str) -> None:
            if name == self.step:
                self._come(attempt)

        watch.at_item_end, watch.at_step = at_item_end, at_step

    def _come(self, attempt: Attempt) -> None:
        self.came = True
        self.act(attempt)


class Orders:
    """The orders of one test, in the order in which they were given."""

    def __init__(self) -> None:
        self._once: list[Order] = []
        self._always: list[Order] = []
        self._all: list[Order] = []

    def add(self, order: Order) -> None:
        (self._always if order.every_attempt else self._once).append(order)
        self._all.append(order)

    def take(self) -> Order | None:
        """Return what was ordered for the next attempt."""
        if self._once:
            return self._once.pop(0)
        return self._always[0] if self._always else None

    def require_kept(self) -> None:
        """Raise AssertionError where an order never came: the test has proved less than it says."""
        for order in self._all:
            if not order.came:
                raise AssertionError(
                    f"checkpoints.{order} was ordered and never came: no attempt got that far. "
                    "Order what happens in the attempts that the test runs."
                )
