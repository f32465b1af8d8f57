"""The sample web app: request handlers that start long jobs, and show and steer them.

    gunicorn -c python:checkpoint_runner.gunicorn_conf workers.web:app

It has no login. Serve it on loopback, or behind one of your own.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from functools import partial
from http import HTTPStatus
from typing import Any

import msgspec
from flask import Flask, Response, request, url_for
from werkzeug.exceptions import BadRequest, HTTPException, UnprocessableEntity, UnsupportedMediaType

from checkpoint_runner import Job, Runner, Status, Task, default_runner, errors
from workers.data_folder import CSV, DATABASE, data_file
from workers.tasks import import_csv, index_stdlib

log = logging.getLogger(__name__)

TASKS: dict[str, Task[..., Any]] = {
    name: task for task in (index_stdlib, import_csv) for name in (task.name, task.name.rpartition(".")[2])
}
"""What clients may start, by full and by short name; being registered is not enough."""

FILES = {"database": DATABASE, "csv_path": CSV}
"""Arguments that name files, and their endings."""

LONGEST_BODY = 64 * 1024
"""Bytes of a request's body."""

LONGEST_LIST = 100
"""Jobs in one list."""

LONGEST_STREAM = 30.0
"""Seconds after which an event stream ends and the client comes again: one that went away holds no thread for long."""

RETRY_AFTER = 5
"""Seconds after which a client may try again where the server of the jobs is away."""

_ERRORS: dict[type[errors.CheckpointRunnerError], HTTPStatus] = {
    errors.JobNotFound: HTTPStatus.NOT_FOUND,
    errors.UnknownTask: HTTPStatus.NOT_FOUND,
    errors.NotPossibleNow: HTTPStatus.CONFLICT,
    errors.KeyConflict: HTTPStatus.CONFLICT,
    errors.WrongArguments: HTTPStatus.UNPROCESSABLE_ENTITY,
    errors.UnstorableValue: HTTPStatus.UNPROCESSABLE_ENTITY,
    errors.WrongName: HTTPStatus.UNPROCESSABLE_ENTITY,
    errors.RedisTrouble: HTTPStatus.SERVICE_UNAVAILABLE,
}


def create_app(runner: Runner | None = None) -> Flask:
    """Return the app. `runner` takes the place of the process's default, which is made at the first request."""
    app = Flask(__name__, static_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = LONGEST_BODY

    def jobs() -> Runner:
        return default_runner() if runner is None else runner

    @app.post("/jobs/<task>")
    def start(task: str) -> Response:
        if task not in TASKS:
            raise errors.UnknownTask(f"No task is named {task[:200]!r}; expected one of {', '.join(sorted(TASKS))}.")
        arguments = _arguments()
        starter = TASKS[task].options(key=request.headers.get("Idempotency-Key"), runner=jobs())
        job = starter.start(**arguments)
        response = _json(_shown(job), HTTPStatus.ACCEPTED)
        response.headers["Location"] = url_for("show", job_id=job.id)
        return response

    @app.get("/jobs")
    def listed() -> Response:
        found = jobs().jobs(status=_status(), limit=_limit())
        return _json({"jobs": [_shown(job) for job in found]})

    @app.get("/jobs/<job_id>")
    def show(job_id: str) -> Response:
        return _json(_shown(jobs().job(job_id)))

    @app.post("/jobs/<job_id>/<any(pause, resume, cancel, retry):verb>")
    def steer(job_id: str, verb: str) -> Response:
        job = jobs().job(job_id)
        verbs = {"pause": job.pause, "resume": job.resume, "cancel": job.cancel, "retry": job.retry}
        return _json(_shown(verbs[verb]()))

    @app.get("/jobs/<job_id>/events")
    def events(job_id: str) -> Response:
        job = jobs().job(job_id)  # before the first byte, so that an unknown job is a 404
        links = _links(job)  # while there is a request
        response = Response(_stream(job, links), mimetype="text/event-stream")
        response.headers["X-Accel-Buffering"] = "no"  # nginx would keep the events back
        return response

    @app.get("/health/live")
    def live() -> Response:
        return _json({"status": "live"})

    @app.get("/health/ready")
    def ready() -> Response:
        if jobs().draining:
            return _problem(HTTPStatus.SERVICE_UNAVAILABLE, "This process is stopping.")
        jobs().jobs(status=Status.RUNNING, limit=1)  # answers 503 where Redis is away
        return _json({"status": "ready"})

    @app.after_request
    def harden(response: Response) -> Response:
        response.headers["X-Content-Type-Options"] = "nosniff"
        response.headers["Cache-Control"] = "no-store"
        return response

    for kind, status in _ERRORS.items():
        app.register_error_handler(kind, partial(_explain, status))
    app.register_error_handler(HTTPException, _explain_http)
    return app


def _arguments() -> dict[str, Any]:
    """Return the keyword arguments of the request's body.

    JSON is demanded by its content type, which a form of a foreign page can't send without asking first.
    """
    if not request.is_json:
        raise UnsupportedMediaType(f"The body is {request.mimetype or 'of no type'}; expected application/json.")
    try:
        arguments = msgspec.json.decode(request.get_data(cache=False), type=dict[str, Any])
    except (msgspec.DecodeError, RecursionError) as error:
        raise BadRequest(f"The body is not a JSON object with the task's arguments by name: {error}.") from None
    for name, endings in FILES.items():
        if name in arguments:
            data_file(arguments[name], endings)  # the task looks too, but then the client is gone
    return arguments


def _status() -> Status | None:
    text = request.args.get("status")
    if text is None or text in set(Status):
        return None if text is None else Status(text)
    raise UnprocessableEntity(f"status is {text[:50]!r}; expected one of {', '.join(Status)}.")


def _limit() -> int:
    text = request.args.get("limit", str(LONGEST_LIST))
    if text.isascii() and text.isdigit() and 1 <= int(text[:10]) <= LONGEST_LIST:
        return int(text)
    raise UnprocessableEntity(f"limit is {text[:50]!r}; expected a whole number from 1 to {LONGEST_LIST}.")


def _shown(job: Job[Any]) -> dict[str, Any]:
    """Return what clients see of a job: neither its arguments nor a traceback, which may hold secrets."""
    return _snapshot(job) | {"links": _links(job)}


def _snapshot(job: Job[Any]) -> dict[str, Any]:
    return {
        "id": job.id,
        "task": job.task,
        "status": job.status,
        "reason": job.reason,
        "progress": {"done": job.progress.done, "total": job.progress.total, "message": job.progress.message},
        "attempts": job.attempts,
        "interruptions": job.interruptions,
        "crashes": job.crashes,
        "lost": job.lost,
        "stop_requested": job.stop_requested,
        "result": _result(job),
        "error": {"type": job.error.type, "message": job.error.message} if job.error else None,
        "created_at": job.created_at,
        "started_at": job.started_at,
        "ended_at": job.ended_at,
    }


def _result(job: Job[Any]) -> Any:
    try:
        return job.result
    except errors.UnstorableValue:  # of an earlier release: a list must not fail for one old job
        log.warning("The result of job %s does not fit task %s any more", job.id, job.task)
        return None


def _links(job: Job[Any]) -> dict[str, str]:
    verbs = ("pause", "resume", "cancel", "retry")
    return {
        "self": url_for("show", job_id=job.id),
        "events": url_for("events", job_id=job.id),
        **{verb: url_for("steer", job_id=job.id, verb=verb) for verb in verbs},
    }


def _stream(job: Job[Any], links: dict[str, str]) -> Iterator[bytes]:
    """Yield the job as server-sent events, `job` each time it changed and `end` when it is final.

    Without an `end` (this process stops, the time is over, Redis is away) the client comes again by itself.
    """
    yield b"retry: 1000\n\n"
    try:
        for seen in job.watch(timeout=LONGEST_STREAM):
            yield b"event: job\ndata: " + msgspec.json.encode(_snapshot(seen) | {"links": links}) + b"\n\n"
            if seen.final:
                yield b"event: end\ndata: {}\n\n"
    except errors.CheckpointRunnerError as error:
        log.warning("The event stream of job %s ended early: %s", job.id, error)


def _explain(status: HTTPStatus, error: errors.CheckpointRunnerError) -> Response:
    """Answer with an error of the library."""
    if status is HTTPStatus.SERVICE_UNAVAILABLE:
        log.warning("Answered 503: %s", error)  # the address is not the client's business
        return _problem(status, "The server of the jobs gives no usable answer now. Try again later.")
    if isinstance(error, errors.NotPossibleNow):
        return _problem(status, str(error), job_status=error.status)
    return _problem(status, str(error))


def _explain_http(error: HTTPException) -> Response:
    """Answer with an error of Flask's, keeping its headers (such as Allow)."""
    status = HTTPStatus(error.code or HTTPStatus.INTERNAL_SERVER_ERROR)
    response = _problem(status, error.description or status.description)
    for name, value in error.get_headers():
        if name not in ("Content-Type", "Content-Length"):
            response.headers[name] = value
    return response


def _problem(status: HTTPStatus, detail: str, **members: str) -> Response:
    """Return an RFC 9457 problem."""
    response = _json({"title": status.phrase, "status": status, "detail": detail, **members}, status)
    response.mimetype = "application/problem+json"
    if status is HTTPStatus.SERVICE_UNAVAILABLE:
        response.headers["Retry-After"] = str(RETRY_AFTER)
    return response


def _json(document: dict[str, Any], status: HTTPStatus = HTTPStatus.OK) -> Response:
    return Response(msgspec.json.encode(document), status, mimetype="application/json")


app = create_app()
