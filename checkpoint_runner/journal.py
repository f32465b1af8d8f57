"""The newest record of an attempt, and its way to the lease.

The main thread publishes: one assignment of one small immutable tuple per item. Whoever saves (the
main thread at a safe place, the pulse when a long item holds up a shutdown) stores what was
published last, never live objects, so that position, state and progress are of one moment.
"""

from __future__ import annotations

import threading
import time
from typing import Any

import msgspec
from msgspec.structs import replace

from checkpoint_runner.lease import Lease
from checkpoint_runner.records import EncodedRecord, Level, Position, Progress, Record, encode_record
from checkpoint_runner.scripts import Argument


class Place(msgspec.Struct, frozen=True):
    """Where in the code a record is taken; immutable, so that any thread may read it.

    `outer` are the levels around, with the cursors that stand still meanwhile; `level` is the innermost
    one, whose own cursor and count are given with each position. `total` is how many items the
    outermost loop has.
    """

    outer: Position
    level: Level
    total: int | None

    def position(self, count: int, cursor: Any) -> Position:
        """Return the whole position, given that of the open loop."""
        return (*self.outer, replace(self.level, count=count, cursor=cursor))


class Extras(msgspec.Struct, frozen=True):
    """What is kept beside the position: the encoded state, and progress where the task set it by hand."""

    state: bytes | None
    done: int | None = None
    total: int | None = None
    message: str | None = None


Published = tuple[Place, int, Any, Extras]
"""(place, finished items of the open loop, its cursor, extras)"""


class Journal:
    """Keeps the newest record and saves it."""

    def __init__(self, lease: Lease, version: int, start: Record | None) -> None:
        self._lease = lease
        self._version = version
        self._lock = threading.Lock()
        self._seq = start.seq if start else 0
        self._progress = start.progress if start else Progress()
        self._passed: list[str] = []
        levels = start.position if start and start.position else (Level(),)
        outer, last = levels[:-1], levels[-1]
        extras = Extras(start.state if start else None)
        if start and not any(level.loop is not None or level.done for level in levels):
            # No loop counts here: the progress is what the task set by hand.
            extras = Extras(start.state, start.progress.done, start.progress.total, start.progress.message)
        place = Place(outer, last, self._progress.total)
        self.newest: Published = (place, last.count, last.cursor, extras)
        self._saved: Published = self.newest
        self.saves = 0
        self._encoded: tuple[Published, EncodedRecord] | None = None
        self.saved_at = time.monotonic()

    @property
    def dirty(self) -> bool:
        """Whether there is something newer than what was saved."""
        return self.newest is not self._saved

    def pass_steps(self, paths: list[str]) -> None:
        """The item that these steps belong to is finished and published: the next save drops their results."""
        self._passed += paths

    def save(self) -> str | None:
        """Store the newest record, if it is not stored yet; return the lease's answer, or None.

        Raises RedisUnavailable or RedisRefused; the record then stays the newest unsaved one.
        """
        with self._lock:
            passed = tuple(self._passed)  # read before `newest`: all of these are published by now
            newest = self.newest
            if newest is self._saved:
                return None
            answer = self._lease.save(self._encode(newest), passed)
            self._saved = newest
            self.saves += 1
            self.saved_at = time.monotonic()
            del self._passed[: len(passed)]
            return answer

    def let_go(self, how: str, *details: Argument, until: float) -> str:
        """End the attempt in the way of that name, with the newest record; return the job's new status."""
        with self._lock:
            passed = () if how == "finish" else tuple(self._passed)
            return self._lease.let_go(how, self._encode(self.newest), *details, *passed, until=until)

    def position(self) -> str:
        """Return the newest position for people."""
        place, count, cursor, _ = self.newest
        return describe(place.position(count, cursor))

    def progress(self) -> Progress:
        """Return how far the newest record is."""
        return self._progress_at(self.newest)

    def _progress_at(self, newest: Published) -> Progress:
        place, count, _, extras = newest
        done = place.outer[0].count if place.outer else count
        total = place.total
        return Progress(
            done=extras.done if extras.done is not None else done,
            total=extras.total if extras.total is not None else total,
            message=extras.message if extras.message is not None else self._progress.message,
        )

    def _encode(self, newest: Published) -> EncodedRecord:
        """Return the record of what was published; the same bytes and number when it is sent again."""
        if self._encoded is not None and self._encoded[0] is newest:
            return self._encoded[1]
        if newest is not self._saved:
            self._seq += 1
        place, count, cursor, extras = newest
        position = place.position(count, cursor)
        encoded = encode_record(Record(self._seq, self._version, position, extras.state, self._progress_at(newest)))
        self._encoded = (newest, encoded)
        return encoded


def describe(position: Position) -> str:
    """Return a position for people, such as "files 12 > lines 400"; "" for the beginning."""
    return " > ".join(_describe_level(level) for level in position if level.count or level.done)


def _describe_level(level: Level) -> str:
    if level.loop is None:
        return f"loop {level.done[-1]}" if level.done and level.done[-1] else "the loop"
    return f"{level.loop or 'item'} {level.count}"
