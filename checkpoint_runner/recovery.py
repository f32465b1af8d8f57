"""What is done for a process that is known to be dead: its job goes on at once, with the cause told."""

from __future__ import annotations

import logging

from checkpoint_runner.backend import Backend
from checkpoint_runner.codec import encode
from checkpoint_runner.errors import BrokenCheckpoint
from checkpoint_runner.journal import describe
from checkpoint_runner.records import EncodedRecord, decode_record

log = logging.getLogger(__name__)

_RECORD = ("seq", "record", "progress", "checksum")


def recover(
    backend: Backend, job_id: str, attempt: int, delivery: str, cause: str, kind: str, *, until: float | None = None
) -> str:
    """Take the job from a dead process; return its new status, or "refused" where it was not that process's any more.

    `cause` is what ended the process; `kind` is "crash", "exit" (it ended by itself) or the reason of an
    interruption that was enforced, which counts as no crash. Raises RedisUnavailable or RedisRefused.
    """
    message = f"{cause}, {_in_flight(backend, job_id)}" if cause else ""
    error = encode({"type": "ProcessDied", "message": message})
    outcome = backend.store.crash(job_id, attempt, delivery, message, kind, error, until=until)
    if outcome != "refused":
        log.warning("The process of job %s is gone (%s); the job is %s", job_id, message or kind, outcome)
    return outcome


def _in_flight(backend: Backend, job_id: str) -> str:
    """Return where the job was, as far as its last checkpoint tells."""
    found = backend.store.read(job_id, _RECORD)
    if found is None or not found[2]["record"]:
        return "before its first checkpoint"
    seq, record, progress, checksum = found[2].values()
    try:
        position = describe(decode_record(EncodedRecord(int(seq), record, progress, checksum.decode())).position)
    except BrokenCheckpoint:
        return "with a checkpoint that can't be read"
    return f"in what comes after {position}" if position else "before its first finished item"
