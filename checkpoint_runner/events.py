"""What happens to jobs in this process, as typed events. Logs and metrics subscribe; the core only emits."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened to an attempt of a job."""

    job_id: str
    task: str
    attempt: int


@dataclass(frozen=True, slots=True)
class AttemptBegan(Event):
    """A worker claimed the job. `position` is where it goes on ("" for the beginning)."""

    position: str


@dataclass(frozen=True, slots=True)
class CheckpointSaved(Event):
    """A record was stored. `seconds` is what the save took."""

    position: str
    seconds: float


@dataclass(frozen=True, slots=True)
class CheckpointGrows(Event):
    """The state has come near its limit; told once per attempt. `size` and `limit` are bytes."""

    size: int
    limit: int


@dataclass(frozen=True, slots=True)
class SaveFailed(Event):
    """A record could not be stored for now; the attempt goes on and tries again."""

    error: str


@dataclass(frozen=True, slots=True)
class StopRequested(Event):
    """The attempt was asked to stop at its next safe place."""

    reason: str
    seconds_left: float


@dataclass(frozen=True, slots=True)
class AttemptEnded(Event):
    """The attempt let go of the job. `status` is the job's new one, `reason` why, `position` where it stands."""

    status: str
    reason: str
    position: str
    seconds: float


@dataclass(frozen=True, slots=True)
class InterruptionSwallowed(Event):
    """The task caught the interruption and returned; its return value is ignored."""


@dataclass(frozen=True, slots=True)
class ItemOutlastsGrace(Event):
    """Attempts in a row ended without finishing one item: the item needs a longer grace."""

    position: str
    times: int
    grace: float


_subscribers: list[Callable[[Event], None]] = []


def subscribe(subscriber: Callable[[Event], None]) -> Callable[[], None]:
    """Call `subscriber` with every event from now on; the returned function ends that.

    A subscriber's exception is logged and goes no further.
    """
    _subscribers.append(subscriber)
    return lambda: _subscribers.remove(subscriber) if subscriber in _subscribers else None


def emit(event: Event) -> None:
    """Hand an event to every subscriber."""
    for subscriber in tuple(_subscribers):
        try:
            subscriber(event)
        except Exception:
            log.exception("A subscriber failed on %s", type(event).__name__)
