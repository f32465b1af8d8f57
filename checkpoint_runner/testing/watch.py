"""Watches what a task does in one job, over all its attempts: items, steps, keys, state."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Sized
from dataclasses import dataclass, field
from typing import Any, TypeVar

from checkpoint_runner.attempt import Attempt
from checkpoint_runner.checkpoint import Checkpoint
from checkpoint_runner.sources import is_factory
from checkpoint_runner.testing.rules import Finding, Rule
from checkpoint_runner.typing_of import return_type

T = TypeVar("T")

Key = tuple[str, ...]
"""Where something was done: the items around it and itself, outermost first."""


@dataclass
class Watch:
    """What was seen of one job. `now` tells the time in seconds."""

    now: Callable[[], float]
    begun: Counter[Key] = field(default_factory=Counter)
    order: list[Key] = field(default_factory=list)
    outer: set[Key] = field(default_factory=set)
    findings: list[Finding] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)
    longest: tuple[float, str] = (0.0, "")
    iterators: list[tuple[int, Iterator[Any]]] = field(default_factory=list)
    at_item_end: Callable[[], None] = lambda: None
    at_step: Callable[[str], None] = lambda _: None

    def attend(self, attempt: Attempt) -> None:
        """Watch an attempt that is about to begin."""
        attempt.checkpoint = Watched(attempt, self)

    def begin(self, key: Key) -> None:
        self.order.append(key)
        self.begun[key] += 1
        self.outer.add(key[:-1])

    def find(self, rule: Rule, where: str, seen: str) -> None:
        finding = Finding(rule, where, seen)
        if finding not in self.findings:
            self.findings.append(finding)

    @property
    def last(self) -> str:
        """The item or step that was begun last."""
        return " > ".join(self.order[-1]) if self.order else "the beginning"


class Watched(Checkpoint[Any]):
    """A checkpoint that tells a watch what is done with it."""

    def __init__(self, attempt: Attempt, watch: Watch) -> None:
        vars(self).update(vars(attempt.checkpoint))  # it is that very checkpoint, looked at
        self._attempt = attempt
        self._watch = watch
        self._path: list[str] = []
        self._purposes: set[str] = set()

    def each(self, source: Any, *, name: str | None = None) -> Iterator[Any]:
        self._look_at_source(source, name)
        return self._walk(super().each(source, name=name), source, name)

    def step(self, name: str, function: Callable[..., T], /, *args: Any) -> T:
        def noticed(*given: Any) -> T:
            self._watch.begin((*self._path, f"step {name!r}"))
            self._watch.at_step(name)
            return function(*given)

        noticed.__annotations__ = {"return": return_type(function)}
        return super().step(name, noticed, *args)

    def idempotency_key(self, purpose: str) -> str:
        key = super().idempotency_key(purpose)
        if key in self._purposes:
            where = " > ".join(self._path) or "the task's own body"
            self._watch.find(
                Rule.ONE_PURPOSE,
                where,
                f"idempotency_key({purpose!r}) was asked for twice, and two calls with one key count as one",
            )
        self._purposes.add(key)
        return key

    def _walk(self, items: Iterator[Any], source: Any, name: str | None) -> Iterator[Any]:
        watch, loop = self._watch, name or "item"
        length = len(source) if isinstance(source, Sized) else None
        depth = len(self._path)
        try:
            for item in items:
                self._path[depth:] = [f"{loop} {text_of(item)}"]
                key = tuple(self._path)
                watch.begin(key)
                began = watch.now()
                yield item
                where = " > ".join(key)
                watch.longest = max(watch.longest, (watch.now() - began, where))
                if length is not None and len(source) != length:
                    seen = f"the {type(source).__name__} had {length} items when the loop began and has {len(source)}"
                    watch.find(Rule.STILL, where, seen)
                    length = len(source)
                self._look_at_state(where)
                watch.at_item_end()
        finally:
            self._path[depth:] = []
            items.close()  # type: ignore[attr-defined] # each() returns a generator

    def _look_at_source(self, source: Any, name: str | None) -> None:
        if not isinstance(source, Iterator) or is_factory(source):
            return
        if any(attempt != self.attempt and seen is source for attempt, seen in self._watch.iterators):
            where = f"the loop {name!r}" if name else "the loop"
            self._watch.find(Rule.MADE_ANEW, where, f"two attempts were given one {type(source).__name__}")
        self._watch.iterators.append((self.attempt, source))

    def _look_at_state(self, where: str) -> None:
        state = self._attempt.course.state
        if not state.read:
            return
        self._watch.sizes.append(len(state.encode() or b""))
        shared = _shared(state.value, "state", {})
        if shared is not None:
            self._watch.find(Rule.ROUND_TRIP, where, f"{shared[0]} and {shared[1]} are one object")


def text_of(item: Any) -> str:
    """Return an item as a report shows it, the same in every process."""
    text = re.sub(r" at 0x[0-9a-f]+", "", repr(item))
    return text if len(text) <= 60 else text[:57] + "..."


def _shared(value: Any, path: str, seen: dict[int, str]) -> tuple[str, str] | None:
    """Return two paths that lead to one list or dict, or None."""
    if not isinstance(value, list | dict):
        return None
    if id(value) in seen:
        return seen[id(value)], path
    seen[id(value)] = path
    parts = value.items() if isinstance(value, dict) else enumerate(value)
    found = (_shared(part, f"{path}[{name!r}]", seen) for name, part in parts)
    return next(filter(None, found), None)
