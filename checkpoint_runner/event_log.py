"""The events as log lines."""

from __future__ import annotations

import logging

from checkpoint_runner import events
from checkpoint_runner.interruptions import Reason

log = logging.getLogger("checkpoint_runner.jobs")


def write(event: events.Event) -> None:
    """Write one event to the log."""
    job = f"job {event.job_id} ({event.task}, attempt {event.attempt})"
    match event:
        case events.AttemptBegan(position=position):
            log.info("%s begins %s", job, f"after {position}" if position else "from the beginning")
        case events.CheckpointSaved(position=position, seconds=seconds):
            log.debug("%s saved after %s in %.1f ms", job, position, seconds * 1000)
        case events.CheckpointGrows(size=size, limit=limit):
            log.warning(
                "%s has a state of %s bytes, and it fails at %s: keep what grows elsewhere, or raise max_bytes",
                job,
                f"{size:,}",
                f"{limit:,}",
            )
        case events.SaveFailed(error=error):
            log.warning("%s could not be saved, trying again: %s", job, error)
        case events.StopRequested(reason=reason, seconds_left=left):
            log.info("%s stops at its next safe place: %s (%.1f s left)", job, reason, left)
        case events.AttemptEnded(reason=Reason.JOB_LOST):
            log.error(
                "%s is lost: the server no longer has it (flushed, or failed over to a server without its data). "
                "It is not made anew; start it again",
                job,
            )
        case events.AttemptEnded(status=status, reason=reason, position=position, seconds=seconds):
            why = f" ({reason})" if reason else ""
            log.info("%s is %s%s after %s; the attempt took %.2f s", job, status, why, position or "nothing", seconds)
        case events.InterruptionSwallowed():
            log.warning("%s caught the interruption and returned; it is treated as interrupted, not as finished", job)
        case events.ItemOutlastsGrace(position=position, times=times, grace=grace):
            log.warning(
                "%s was interrupted %d times in a row without finishing the item after %s: "
                "the item needs a longer grace than %.1f s, or smaller items",
                job,
                times,
                position or "the beginning",
                grace,
            )


def install() -> None:
    """Write every event of this process to the log, once."""
    if write not in events._subscribers:
        events.subscribe(write)
