"""What the chaos runs: a task that leaves a line for every item and every acknowledged save, and a web app."""

from __future__ import annotations

import os
import random
import time
from pathlib import Path

from flask import jsonify
from flask.typing import ResponseReturnValue

from checkpoint_runner import Checkpoint, checkpointed, events
from checkpoint_runner.errors import RedisUnavailable
from checkpoint_runner.interruptions import Reason
from tests.process.web_app import app

FOLDER = "CHAOS_FOLDER"
"""The environment variable that names the folder of the side lists, one file per job."""


def note(job_id: str, *words: object) -> None:
    """Append one line with one write, which survives a SIGKILL of the writer."""
    line = " ".join(map(str, [*words, time.monotonic_ns(), os.getpid()])) + "\n"
    file = os.open(Path(os.environ[FOLDER]) / job_id, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(file, line.encode())
    finally:
        os.close(file)


@checkpointed(queue="chaos", max_crashes=1_000_000)  # here processes die for other reasons than the items
def append(checkpoint: Checkpoint, count: int) -> int:
    pace = random.Random(f"{checkpoint.job_id} {checkpoint.attempt}")
    for item in checkpoint.each(range(count)):
        note(checkpoint.job_id, "item", checkpoint.attempt, item)
        checkpoint.state["items"] = checkpoint.state.get("items", 0) + 1
        time.sleep(pace.uniform(0.005, 0.02))
    return checkpoint.state.get("items", 0)


_lost: set[tuple[str, int]] = set()


def note_what_is_safe(event: events.Event) -> None:
    """Write down how many finished items the server has acknowledged to an attempt that still held its job."""
    if FOLDER not in os.environ or event.task != append.name:
        return
    if isinstance(event, events.StopRequested) and event.reason == Reason.LEASE_LOST:
        _lost.add((event.job_id, event.attempt))
    elif isinstance(event, events.CheckpointSaved) and (event.job_id, event.attempt) not in _lost:
        number = event.position.rpartition(" ")[2]
        if number.isdigit():  # else the loop is done
            note(event.job_id, "saved", event.attempt, number)


events.subscribe(note_what_is_safe)


@app.post("/chaos/<key>/<int:count>")
def start_append(key: str, count: int) -> ResponseReturnValue:
    try:
        job = append.options(key=key).start(count)
    except RedisUnavailable as error:
        return jsonify(error=str(error)), 503
    return jsonify(id=job.id), 202


__all__ = ["app", "append"]
