"""A job as people see it: an immutable snapshot, and the verbs that return the next one."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Generic, TypeVar

import msgspec

from checkpoint_runner import specs
from checkpoint_runner.backend import Backend
from checkpoint_runner.durations import Duration, seconds
from checkpoint_runner.errors import JobCancelled, JobFailed, JobLost, JobNotFound, NotPossibleNow
from checkpoint_runner.records import Progress, decode_progress
from checkpoint_runner.statuses import FINAL, Status
from checkpoint_runner.store import Entry

R = TypeVar("R")

_FIELDS = (
    "task",
    "status",
    "reason",
    "progress",
    "labels",
    "attempt",
    "interruptions",
    "crashes",
    "lost",
    "error",
    "result",
    "created_at",
    "started_at",
    "ended_at",
    "stop",
    "queue",
    "revision",
    "key",
)

_ALLOWED = {
    "pause": "a queued, waiting or running job can be paused",
    "resume": "a paused job can be resumed",
    "cancel": "a job that is not final can be cancelled",
    "retry": "a failed or cancelled job can be retried",
}

_PAGE = 100
_FIRST_PAUSE, _LONGEST_PAUSE = 0.05, 1.0


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a job failed: the exception's type and message, and the end of its traceback."""

    type: str
    message: str
    traceback: str = ""


@dataclass(frozen=True, slots=True)
class Transition:
    """One line of a job's history."""

    at: datetime
    source: str
    target: str
    attempt: int
    reason: str


@dataclass(frozen=True, slots=True)
class Job(Generic[R]):
    """One durable start of a task, as it was at one moment.

    `attempts`, `interruptions`, `crashes` and `lost` (leases that ran out) are counts; `reason` says
    why the job is in its status, `stop_requested` what a running one was asked ("pause", "cancel"),
    `created` whether the `start()` that returned this snapshot made the job.
    """

    id: str
    task: str
    status: Status
    reason: str
    progress: Progress
    queue: str
    labels: dict[str, str]
    key: str | None
    attempts: int
    interruptions: int
    crashes: int
    lost: int
    error: Failure | None
    created_at: datetime
    started_at: datetime | None
    ended_at: datetime | None
    stop_requested: str | None
    created: bool
    revision: int
    _result: bytes | None
    _backend: Backend

    @property
    def message(self) -> str:
        """What the task last said of its progress."""
        return self.progress.message

    @property
    def result(self) -> R | None:
        """What the function returned; None while it has not."""
        if self._result is None:
            return None
        spec = specs.find(self.task)
        if spec is None:
            return msgspec.json.decode(self._result)  # type: ignore[no-any-return]
        return spec.signature.result.decode(self._result, "the result")  # type: ignore[no-any-return]

    @property
    def final(self) -> bool:
        """Whether the job has ended: finished, failed or cancelled."""
        return self.status in FINAL

    def pause(self, reason: str = "asked for") -> Job[R]:
        """Pause the job: at once, or at the next safe place where it is running (`stop_requested`).

        Raises NotPossibleNow for a final job, JobNotFound, RedisUnavailable.
        """
        return self._ask("pause", reason)

    def resume(self) -> Job[R]:
        """Let a paused job go on, or withdraw a pause that a running one has not reached.

        Raises NotPossibleNow for a final job, JobNotFound, RedisUnavailable.
        """
        return self._ask("resume")

    def cancel(self, reason: str = "asked for") -> Job[R]:
        """End the job for good: at once, or at the next safe place where it is running.

        Raises NotPossibleNow for a finished or failed job, JobNotFound, RedisUnavailable.
        """
        return self._ask("cancel", reason)

    def retry(self) -> Job[R]:
        """Let a failed or cancelled job go on from its last checkpoint.

        Raises NotPossibleNow for any other job, JobNotFound, RedisUnavailable.
        """
        return self._ask("retry")

    def refresh(self) -> Job[R]:
        """Return the job as it is now.

        Raises JobLost where this snapshot is of a live job that the server has no more, JobNotFound
        for a final one whose retention has passed.
        """
        try:
            return read(self._backend, self.id)
        except JobNotFound:
            if self.final:
                raise
            raise JobLost(
                f"Job {self.id} ({self.task}) was {self.status} and is gone from the server: it was deleted, or the "
                "server lost its data (flushed, or failed over to a server without them). Start it again."
            ) from None

    def delete(self) -> None:
        """Remove the job with everything that belongs to it; one that is gone already is left so.

        Raises NotPossibleNow while it runs (cancel it first), RedisUnavailable.
        """
        outcome = self._backend.store.remove(self.id, asked=True)
        if outcome not in ("removed", "gone"):
            raise NotPossibleNow(
                f"Job {self.id} is {outcome}; expected one that is not running. Cancel it first.", outcome
            )

    def wait(self, timeout: Duration | None = None) -> R:
        """Wait until the job is final and return its result.

        `timeout` is in seconds; None waits for ever. Raises JobFailed, JobCancelled, or
        TimeoutError (the job goes on).
        """
        for job in self.watch(timeout):
            match job.status:
                case Status.FINISHED:
                    return job.result  # type: ignore[return-value]
                case Status.FAILED:
                    error = job.error or Failure("Unknown", "no error was kept")
                    raise JobFailed(f"Job {self.id} ({self.task}) failed: {error.type}: {error.message}")
                case Status.CANCELLED:
                    raise JobCancelled(f"Job {self.id} ({self.task}) was cancelled: {job.reason}.")
        why = "this process is stopping" if self._backend.draining else f"{timeout} seconds are over"
        raise TimeoutError(f"Job {self.id} ({self.task}) is not final, and {why}; the job goes on.")

    def watch(self, timeout: Duration | None = None) -> Iterator[Job[R]]:
        """Yield the job now and each time it changed.

        Ends when the job is final, when `timeout` seconds are over, or when this process begins to
        stop (so that an event stream does not hold up a web worker's shutdown).
        """
        limit = None if timeout is None else time.monotonic() + seconds(timeout, "timeout")
        pause, job = _FIRST_PAUSE, self.refresh()
        yield job
        while not job.final and (limit is None or time.monotonic() < limit):
            self._sleep(pause if limit is None else min(pause, max(0.0, limit - time.monotonic())))
            if self._backend.draining:
                return
            following = job.refresh()
            if following != job:
                pause, job = _FIRST_PAUSE, following
                yield job
            else:
                pause = min(pause * 1.5, _LONGEST_PAUSE)

    def history(self) -> list[Transition]:
        """Return the job's newest transitions (at most 100), oldest first."""
        return [_transition(line) for line in self._backend.store.history(self.id)]

    def _sleep(self, pause: float) -> None:
        end = time.monotonic() + pause
        while not self._backend.draining and (left := end - time.monotonic()) > 0:
            time.sleep(min(left, 0.2))

    def _ask(self, verb: str, *details: str) -> Job[R]:
        job = self
        while True:
            outcome = self._backend.store.ask(verb, job.id, job.revision, *details)
            if outcome == "moved":
                job = job.refresh()
                continue
            if outcome == "gone":
                raise not_found(job.id)
            if outcome == "taken":
                raise NotPossibleNow(
                    f"Job {job.id} can't be retried: another live job has its unique name. Wait for it or cancel it.",
                    job.status,
                )
            job = job.refresh()
            if outcome == "not now":
                raise NotPossibleNow(f"Job {job.id} is {job.status}; {_ALLOWED[verb]}.", job.status)
            return job


def read(backend: Backend, job_id: str, *, created: bool = False) -> Job[Any]:
    """Return a snapshot of the job. Raises JobNotFound."""
    found = backend.store.read(job_id, _FIELDS)
    if found is None:
        raise not_found(job_id)
    now, due, fields = found
    text: Callable[[str], str] = lambda name: fields[name].decode("utf-8", "replace")  # noqa: E731
    status, reason = Status(text("status")), text("reason")
    if status is Status.RUNNING and (due is None or due <= now):
        status, reason = Status.QUEUED, "lease lost"  # said by the clock, before the sweep says it
    return Job(
        id=job_id,
        task=text("task"),
        status=status,
        reason=reason,
        progress=_progress(fields["progress"]),
        queue=text("queue"),
        labels=msgspec.json.decode(fields["labels"] or b"{}", type=dict[str, str]),
        key=text("key") or None,
        attempts=int(fields["attempt"] or 0),
        interruptions=int(fields["interruptions"] or 0),
        crashes=int(fields["crashes"] or 0),
        lost=int(fields["lost"] or 0),
        error=_failure(fields["error"]),
        created_at=_moment(fields["created_at"]) or datetime.fromtimestamp(0, UTC),
        started_at=_moment(fields["started_at"]),
        ended_at=_moment(fields["ended_at"]),
        stop_requested=text("stop") or None,
        created=created,
        revision=int(fields["revision"] or 0),
        _result=fields["result"] or None,
        _backend=backend,
    )


def listed(
    backend: Backend,
    statuses: list[Status],
    wanted: Callable[[Job[Any]], bool],
    *,
    limit: int,
    after: Job[Any] | None,
) -> list[Job[Any]]:
    """Return at most `limit` wanted jobs, status by status, behind `after` in its status."""
    found: list[Job[Any]] = []
    if after is not None and after.status in statuses:
        statuses = statuses[statuses.index(after.status) :]
    for status in statuses:
        position: Entry | None = None
        if after is not None and after.status is status:
            position = Entry(after.id, backend.store.entered_at(after.id, status))
        while len(found) < limit:
            page = backend.store.ids(status, limit=_PAGE, after=position)
            for entry in page:
                try:
                    job: Job[Any] = read(backend, entry.job_id)
                except JobNotFound:
                    continue  # removed between the list and the look
                if wanted(job) and len(found) < limit:
                    found.append(job)
            if len(page) < _PAGE:
                break
            position = page[-1]
    return found


def not_found(job_id: str) -> JobNotFound:
    """Return the error for a job that is not there."""
    return JobNotFound(f"There is no job {job_id[:60]!r}: it never was, it was deleted, or its retention has passed.")


def _progress(encoded: bytes) -> Progress:
    try:
        return decode_progress(encoded)
    except msgspec.DecodeError:
        return Progress()  # the attempt that reads the record pauses the job with the reason


def _failure(encoded: bytes) -> Failure | None:
    if not encoded:
        return None
    try:
        return msgspec.json.decode(encoded, type=Failure)
    except msgspec.DecodeError:
        return Failure("Unreadable", encoded.decode("utf-8", "replace"))


def _moment(milliseconds: bytes) -> datetime | None:
    return datetime.fromtimestamp(int(milliseconds) / 1000, UTC) if milliseconds else None


def _transition(line: str) -> Transition:
    at, source, target, attempt, reason = line.split("|", 4)
    return Transition(datetime.fromtimestamp(int(at) / 1000, UTC), source, target, int(attempt), reason)
