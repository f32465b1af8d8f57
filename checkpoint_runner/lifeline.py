"""A few bytes of memory that a worker shares with its horse: the horse's sign of life."""

from __future__ import annotations

import mmap
import struct
import time

_MOMENT = struct.Struct("d")


class Lifeline:
    """Made by the parent before the fork. Its moments are of `time.monotonic()`, which both share."""

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, _MOMENT.size)
        self.beat()

    def beat(self) -> None:
        """The horse shows that its threads run."""
        _MOMENT.pack_into(self._memory, 0, time.monotonic())

    @property
    def beaten_at(self) -> float:
        """When the horse last showed life."""
        return float(_MOMENT.unpack_from(self._memory)[0])

    def close(self) -> None:
        self._memory.close()
