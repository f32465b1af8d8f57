"""What a process has open, and how it is closed: last in first out, each error contained."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from checkpoint_runner.errors import WrongUse

log = logging.getLogger(__name__)

T = TypeVar("T")

_WAYS = ("close", "disconnect", "shutdown", "stop")


@dataclass(frozen=True, slots=True)
class _Resource:
    name: str
    close: Callable[[], Any]


class Resources:
    """A stack of open things."""

    def __init__(self) -> None:
        self._open: list[_Resource] = []

    def add(self, resource: T, close: Callable[[T], Any] | None, name: str | None) -> None:
        """Put a resource on the stack. Raises WrongUse where nothing says how it is closed."""
        kind = type(resource)
        way = partial(close, resource) if close is not None else _own_way(resource)
        if way is None:
            raise WrongUse(
                f"A {kind.__name__} has no close(), disconnect(), shutdown() or stop(); "
                "say how it is closed: manage(resource, close=...)."
            )
        self._open.append(_Resource(name or f"{kind.__module__}.{kind.__qualname__}", way))

    def close(self, level: int) -> tuple[int, int]:
        """Close everything, a log line of that level each; return how many of how many could be closed."""
        opened, self._open = self._open, []
        return sum(_close(resource, level) for resource in reversed(opened)), len(opened)


def flush_logs() -> None:
    """Flush every handler of every logger, errors contained."""
    loggers = [logging.getLogger(), *map(logging.getLogger, tuple(logging.root.manager.loggerDict))]
    for handler in {handler for logger in loggers for handler in logger.handlers}:
        try:
            handler.flush()
        except (OSError, ValueError) as error:
            log.debug("could not flush %r: %s", handler, error)


def _own_way(resource: object) -> Callable[[], Any] | None:
    return next((getattr(resource, way) for way in _WAYS if hasattr(resource, way)), None)


def _close(resource: _Resource, level: int) -> bool:
    began = time.monotonic()
    try:
        resource.close()
    except Exception:
        log.exception("could not close %s; going on", resource.name)
        return False
    log.log(level, "closed %s in %.0f ms", resource.name, (time.monotonic() - began) * 1000)
    return True
