"""A small web app that starts jobs from request handlers."""

from __future__ import annotations

import time
from collections.abc import Iterator

from flask import Flask, Response, jsonify
from flask.typing import ResponseReturnValue

from tests.process import process_tasks as tasks

app = Flask(__name__)


@app.post("/start/<int:count>")
def start(count: int) -> ResponseReturnValue:
    import os

    job = tasks.items.start(os.environ["ITEMS_FILE"], count)
    return jsonify(id=job.id), 202


@app.get("/jobs/<job_id>")
def show(job_id: str) -> ResponseReturnValue:
    job = tasks.items.job(job_id)
    return jsonify(status=job.status, done=job.progress.done)


@app.get("/watch/<job_id>")
def watch(job_id: str) -> ResponseReturnValue:
    def events() -> Iterator[str]:
        for job in tasks.items.job(job_id).watch():
            yield f"data: {job.progress.done}\n\n"
        yield "data: end\n\n"

    return Response(events(), mimetype="text/event-stream")


@app.get("/slow")
def slow() -> ResponseReturnValue:
    time.sleep(1.0)
    return jsonify(done=True)
