"""How an attempt ends: what the task returned or raised, as a way to let go of its job."""

from __future__ import annotations

import logging
import traceback
from dataclasses import dataclass

from checkpoint_runner.codec import encode
from checkpoint_runner.errors import InputChanged
from checkpoint_runner.interruptions import Interrupted, Interruption, LeaseLost, PauseWanted, Reason
from checkpoint_runner.names import readable
from checkpoint_runner.scripts import Argument

log = logging.getLogger(__name__)

TRACEBACK_LENGTH = 8000
"""Characters kept of a traceback."""


@dataclass(frozen=True, slots=True)
class Ending:
    """One way to let go.

    `how` is the transition's name, or None where the job is somebody else's by now; `details` is what
    that transition takes beside the record; `reason` is for people; `error` is what the task raised.
    """

    how: str | None
    details: tuple[Argument, ...] = ()
    reason: str = ""
    error: BaseException | None = None


def ending_of(thrown: Interrupted | PauseWanted | None, raised: BaseException | None) -> Ending:
    """Return how an attempt ends that did not finish.

    What was thrown at the task beats what it raised itself while it was unwound: a rollback that fails
    in a shutdown does not fail the job.
    """
    if thrown is not None and raised is not None and raised is not thrown:
        log.warning("A task raised while it was unwound, which is not counted as its failure", exc_info=raised)
    match thrown or raised:
        case LeaseLost(interruption=Interruption(reason=reason)):
            return Ending(None, reason=reason)
        case Interrupted(interruption=Interruption(reason=reason)):
            return Ending("interrupt", (reason, 1), reason)
        case PauseWanted(reason=wanted):
            return Ending("pause", (wanted,), wanted)
        case InputChanged() as error:
            return Ending("pause", (str(error),), str(error), error)
        case KeyboardInterrupt() as error:
            return Ending("interrupt", (Reason.SHUTDOWN, 1), Reason.SHUTDOWN, error)
        case error:
            assert error is not None
            return Ending("fail", (failure(error),), f"{type(error).__name__}: {_message(error)}", error)


def failure(error: BaseException) -> bytes:
    """Return an exception as it is kept in the job: type, message and the end of the traceback."""
    text = "".join(traceback.format_exception(error))
    return encode(
        {
            "type": type(error).__name__,
            "message": readable(_message(error)),
            "traceback": readable(text[-TRACEBACK_LENGTH:], TRACEBACK_LENGTH),
        }
    )


def _message(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:  # noqa: BLE001 - a broken __str__ must not cost the job its last word
        return f"(a {type(error).__name__} that can't be shown)"
