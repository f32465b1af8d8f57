"""The Runner: settings, Redis and RQ tied together; one is the default of the process."""

from __future__ import annotations

import atexit
import logging
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import blake2b
from typing import Any

import redis

from checkpoint_runner import jobs as jobs_module
from checkpoint_runner import names, specs
from checkpoint_runner.backend import Backend
from checkpoint_runner.clients import REQUEST, WORKER
from checkpoint_runner.codec import encode
from checkpoint_runner.delivery import run_delivery
from checkpoint_runner.durations import Duration, seconds
from checkpoint_runner.errors import KeyConflict, WrongDeclaration, WrongName
from checkpoint_runner.hosts import Host
from checkpoint_runner.jobs import Job
from checkpoint_runner.records import Progress
from checkpoint_runner.settings import Settings
from checkpoint_runner.shutdown import ShutdownCoordinator
from checkpoint_runner.statuses import Status
from checkpoint_runner.store import FOREIGN, StartRequest
from checkpoint_runner.sweep import Sweeper

log = logging.getLogger(__name__)

PAGE = 100
"""Jobs listed by default."""


@dataclass(frozen=True, slots=True)
class StartOptions:
    """What one start asks for beyond the task's own options. `delay` is in seconds."""

    key: str | None = None
    unique: str | None = None
    queue: str | None = None
    delay: float = 0.0
    labels: Mapping[str, str] | None = None

    @classmethod
    def checked(
        cls,
        *,
        key: str | None,
        unique: str | None,
        queue: str | None,
        delay: Duration | None,
        labels: Mapping[str, str] | None,
    ) -> StartOptions:
        """Return the options. Raises WrongName or WrongSetting for what can't be used."""
        for label, value in (labels or {}).items():
            names.checked("label", label)
            names.checked("label's value", value)
        return cls(
            key=None if key is None else names.checked("key", key),
            unique=None if unique is None else names.checked("unique", unique),
            queue=None if queue is None else names.checked("queue", queue),
            delay=0.0 if delay is None else seconds(delay, "delay"),
            labels=dict(labels or {}),
        )


class Runner:
    """One application's jobs in one Redis database.

    `redis_or_url` is a URL or a redis.Redis, whose server is used through connections of our own;
    without it the environment says (CHECKPOINT_RUNNER_REDIS_URL, RQ_REDIS_URL, REDIS_URL).
    Durations are float seconds or timedelta. Nothing is sent before the first use.
    Raises WrongSetting or WrongName for settings that make no sense.
    """

    _runs_what_it_starts = False
    """Whether the deliveries are run in this very process, where a task need not be found by its module."""

    def __init__(
        self,
        redis_or_url: str | redis.Redis | None = None,
        *,
        namespace: str | None = None,
        lease: Duration | None = None,
        grace: Duration | None = None,
        tasks: tuple[str, ...] = (),
    ) -> None:
        url = redis_or_url if isinstance(redis_or_url, str) else None
        self.settings = Settings.read(url=url, namespace=namespace, lease=lease, grace=grace, tasks=tasks)
        source = self.settings.url if redis_or_url is None else redis_or_url
        self._backend = Backend(source, self.settings, REQUEST)
        self._worker_backend: Backend | None = None

    @classmethod
    def from_env(cls) -> Runner:
        """Return a runner with the settings of the environment."""
        return cls()

    @property
    def address(self) -> str:
        """Where the server is, without the password."""
        return self._backend.address

    @property
    def draining(self) -> bool:
        """Whether this process said that it stops soon: it should be given nothing new."""
        return self._backend.draining

    def ping(self) -> None:
        """Ask the server for a sign of life. Raises RedisUnavailable, RedisRefused or UnsupportedServer."""
        self._backend.check()
        self._backend.sender.send(lambda client: client.ping())

    def job(self, job_id: str) -> Job[Any]:
        """Return the job. Raises JobNotFound, RedisUnavailable."""
        if not job_id.isalnum():  # it becomes part of a key
            raise jobs_module.not_found(job_id)
        return jobs_module.read(self._backend, job_id)

    def jobs(
        self,
        *,
        status: Status | str | None = None,
        task: str | None = None,
        labels: Mapping[str, str] | None = None,
        limit: int = PAGE,
        after: Job[Any] | None = None,
    ) -> list[Job[Any]]:
        """Return at most `limit` jobs, those first that entered their status first, behind `after`.

        Lists may lag by one sweep. `labels` must all match. Raises RedisUnavailable.
        """
        return jobs_module.listed(
            self._backend,
            list(Status) if status is None else [_known_status(status)],
            lambda job: (
                (task is None or job.task == task)
                and all(job.labels.get(name) == value for name, value in (labels or {}).items())
            ),
            limit=limit,
            after=after,
        )

    def start(self, spec: specs.TaskSpec, arguments: bytes, options: StartOptions) -> Job[Any]:
        """Make a job of a task; durable when this returns. `Task.start` calls this.

        Raises KeyConflict, WrongDeclaration (a task that no worker could find), RedisUnavailable.
        """
        if not self._runs_what_it_starts:
            _require_importable(spec)
        self._backend.check()
        digest = blake2b(spec.name.encode() + b"\n" + arguments, digest_size=16).hexdigest()
        request = StartRequest(
            job_id=names.new_job_id(),
            task=spec.name,
            version=spec.version,
            arguments=arguments,
            digest=digest,
            queue=options.queue or spec.queue,
            delay=options.delay,
            retention=spec.retention,
            max_crashes=spec.max_crashes,
            labels=encode(options.labels or {}),
            key=options.key,
            unique=options.unique,
        )
        outcome, job_id = self._backend.store.start(request)
        if outcome == "conflict":
            raise KeyConflict(
                f"The key {options.key!r} of task {spec.name} was used by job {job_id} with other arguments. "
                "Use another key for another request."
            )
        if outcome == "existing":
            return jobs_module.read(self._backend, job_id)
        return self._fresh(request, dict(options.labels or {}))

    def work(self, *queues: str, burst: bool = True) -> int:
        """Run deliveries in this process, one after the other; return how many.

        With `burst` until nothing is queued, otherwise until a signal or `drain()`. Without `queues`
        those of the registered tasks. For tests, scripts and single-process deployments; a
        CheckpointWorker is what survives its tasks.
        """
        specs.load(self.settings.tasks)
        served = queues or tuple(specs.queues())
        host = Host(self._for_work())
        if burst:
            return self._work_until_empty(served, host)
        done = 0
        with ShutdownCoordinator(self.settings.grace, role="runner") as coordinator:
            host.coordinator = coordinator
            while coordinator.stopping is None and not self._backend.draining:
                done += self._work_until_empty(served, host)
                coordinator.wait(0.1)
        return done

    def sweep(self) -> int:
        """Look at everything that is due now; return how many jobs changed. Raises RedisUnavailable."""
        return Sweeper(self._for_work()).sweep()

    def drain(self) -> None:
        """Say that this process stops soon: `work` takes nothing more, `watch` and `wait` end. Signal-safe."""
        self._backend.drain()

    def close(self) -> None:
        """Close every connection. Closing twice is harmless; a later use opens them again."""
        self._backend.close()
        if self._worker_backend is not None:
            self._worker_backend.close()

    def _for_work(self) -> Backend:
        if self._worker_backend is None:
            self._worker_backend = Backend(self._backend.source, self.settings, WORKER)
        return self._worker_backend

    def _work_until_empty(self, queues: tuple[str, ...], host: Host) -> int:
        backend, done = host.backend, 0
        sweeper = Sweeper(backend)
        while not self._backend.draining and (host.coordinator is None or host.coordinator.stopping is None):
            sweeper.sweep_if_due()
            queue, delivery = self._pop(queues, backend)
            if delivery is None:
                return done
            if not backend.store.is_delivery(delivery):
                log.error("RQ job %s: %s", delivery, FOREIGN.format(queue=queue))
                backend.store.refuse_delivery(delivery, queue)
                continue
            run_delivery(host, delivery)
            backend.store.forget_delivery(delivery)
            done += 1
        return done

    @staticmethod
    def _pop(queues: tuple[str, ...], backend: Backend) -> tuple[str, str | None]:
        for queue in queues:
            delivery = backend.store.pop_delivery(queue)
            if delivery is not None:
                return queue, delivery
        return "", None

    def _fresh(self, request: StartRequest, labels: dict[str, str]) -> Job[Any]:
        """Return the job that was just made, without a second round trip."""
        delayed = request.delay > 0
        return Job(
            id=request.job_id,
            task=request.task,
            status=Status.WAITING if delayed else Status.QUEUED,
            reason="delay" if delayed else "",
            progress=Progress(),
            queue=request.queue,
            labels=labels,
            key=request.key,
            attempts=0,
            interruptions=0,
            crashes=0,
            lost=0,
            error=None,
            created_at=datetime.now(UTC),
            started_at=None,
            ended_at=None,
            stop_requested=None,
            created=True,
            revision=1,
            _result=None,
            _backend=self._backend,
        )


def _known_status(status: str) -> Status:
    if status not in set(Status):
        raise WrongName(f"There is no status {status!r}; expected one of {', '.join(Status)}.")
    return Status(status)


def _require_importable(spec: specs.TaskSpec) -> None:
    """Refuse what no worker could find under its name."""
    function = spec.function
    if function.__module__ == "__main__":
        raise WrongDeclaration(
            f"Task {spec.name} is defined in __main__, where no worker can find it. "
            "Move it to a module of its own and import it from there."
        )
    if "<locals>" in function.__qualname__:
        raise WrongDeclaration(
            f"Task {spec.name} is defined inside a function, where no worker can find it. Move it to module level."
        )


_default: Runner | None = None
_draining = False
_default_lock = threading.Lock()


def configure(runner: Runner) -> Runner:
    """Make `runner` the default of this process and return it; an earlier default is closed."""
    global _default
    with _default_lock:
        if _default is not None and _default is not runner:
            _default.close()
        _default = runner
        if _draining:
            runner.drain()
    return runner


def default_runner() -> Runner:
    """Return the process's default runner; the first call makes it from the environment."""
    global _default
    with _default_lock:
        if _default is None:
            _default = Runner.from_env()
            if _draining:
                _default.drain()
        return _default


@contextmanager
def default_for_now(runner: Runner) -> Iterator[Runner]:
    """Make `runner` the default of this process inside the block; an earlier default is left open for later."""
    global _default
    with _default_lock:
        before, _default = _default, runner
    try:
        yield runner
    finally:
        with _default_lock:
            _default = before


def drain_default() -> None:
    """Say that this process stops soon, to its default runner, also to one that is yet to come. Signal-safe."""
    global _draining
    _draining = True
    if _default is not None:
        _default.drain()


def close_default() -> bool:
    """Close the default runner, where there is one; return whether there was."""
    if _default is None:
        return False
    _default.close()
    return True


atexit.register(close_default)
