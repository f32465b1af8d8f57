"""The statuses of a job and every arrow between them."""

from __future__ import annotations

from enum import StrEnum


class Status(StrEnum):
    """Where a job stands."""

    QUEUED = "queued"
    RUNNING = "running"
    WAITING = "waiting"
    PAUSED = "paused"
    FINISHED = "finished"
    FAILED = "failed"
    CANCELLED = "cancelled"


FINAL = frozenset({Status.FINISHED, Status.FAILED, Status.CANCELLED})
LIVE = frozenset(Status) - FINAL

_S = Status
ARROWS: dict[tuple[Status, Status], str] = {
    # A worker claimed it.
    (_S.QUEUED, _S.RUNNING): "claim",
    # A person asked for it before any worker had it.
    (_S.QUEUED, _S.PAUSED): "pause()",
    (_S.QUEUED, _S.CANCELLED): "cancel()",
    # The worker that took the delivery lacks the task, or its code is too old.
    (_S.QUEUED, _S.WAITING): "declined",
    # Workers kept dying with it before they could claim it.
    (_S.QUEUED, _S.FAILED): "crash loop",
    # The function returned.
    (_S.RUNNING, _S.FINISHED): "finish",
    # The function raised, or its process died too often without progress.
    (_S.RUNNING, _S.FAILED): "fail",
    # A person's request, honoured at a safe place.
    (_S.RUNNING, _S.CANCELLED): "cancel()",
    # A person's request, the task's own, or a reason that needs a person.
    (_S.RUNNING, _S.PAUSED): "pause",
    # Shutdown, crash, lost lease: it goes on by itself.
    (_S.RUNNING, _S.QUEUED): "interrupted",
    # The delay is over, or a worker that has the task may be there by now.
    (_S.WAITING, _S.QUEUED): "due",
    (_S.WAITING, _S.PAUSED): "pause()",
    (_S.WAITING, _S.CANCELLED): "cancel()",
    # A person lets it go on.
    (_S.PAUSED, _S.QUEUED): "resume()",
    (_S.PAUSED, _S.CANCELLED): "cancel()",
    # A person lets it try again, from its last checkpoint.
    (_S.FAILED, _S.QUEUED): "retry()",
    (_S.CANCELLED, _S.QUEUED): "retry()",
}


def picture() -> str:
    """Return the arrows as a Mermaid state diagram; the documentation shows this text."""
    lines = ["stateDiagram-v2", "    [*] --> queued: start()", "    [*] --> waiting: start(), with a delay"]
    lines += [f"    {source} --> {target}: {label}" for (source, target), label in ARROWS.items()]
    lines += [f"    {status} --> [*]: retention" for status in Status if status in FINAL]
    return "\n".join(lines) + "\n"
