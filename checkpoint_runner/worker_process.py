"""A worker process from its first line to its last."""

from __future__ import annotations

import logging
import os
import signal

import redis

from checkpoint_runner import event_log, processes, specs
from checkpoint_runner.backend import Backend
from checkpoint_runner.clients import WORKER
from checkpoint_runner.errors import RedisRefused, RedisTrouble, UnsupportedServer, WrongSetting
from checkpoint_runner.names import checked
from checkpoint_runner.settings import Settings
from checkpoint_runner.shutdown import ShutdownCoordinator
from checkpoint_runner.worker import CheckpointWorker

log = logging.getLogger(__name__)

RETRY_PAUSE = 1.0
"""Seconds between two tries to reach the server."""


def run_worker(settings: Settings, queues: tuple[str, ...], *, burst: bool = False, parent: int | None = None) -> None:
    """Serve queues until a signal comes; with `burst` until they are empty.

    `parent` is the supervisor's pid, whose death this worker takes for a SIGTERM. Without `queues`
    those of the registered tasks are served. Raises WrongSetting, WrongName, RedisRefused or
    UnsupportedServer; a server that can't be reached is waited for.
    """
    event_log.install()
    specs.load(settings.tasks)
    served = tuple(checked("queue", queue) for queue in queues or specs.queues())
    if not served:
        raise WrongSetting(
            "There is no queue to serve: no task is registered and no queue was named. "
            "Name the modules that define tasks (--tasks MODULE), or queues."
        )
    with ShutdownCoordinator(settings.grace, last=True, role=f"worker {os.getpid()}") as coordinator:
        if parent is not None:
            processes.die_with_parent(parent, signal.SIGTERM)
        backend = Backend(settings.url, settings, WORKER)
        coordinator.manage(backend, name=f"Redis connections to {backend.address}")
        while coordinator.stopping is None:
            try:
                backend.check()
                if _serve(served, backend, coordinator, burst=burst):
                    return
            except (RedisRefused, UnsupportedServer):
                raise
            except (redis.exceptions.RedisError, RedisTrouble) as error:
                log.warning("The server can't be used, trying again: %s", error)
            coordinator.wait(RETRY_PAUSE)


def _serve(queues: tuple[str, ...], backend: Backend, coordinator: ShutdownCoordinator, *, burst: bool) -> bool:
    """Run one RQ worker; return whether its work is done (it also ends where Redis goes away)."""
    worker = CheckpointWorker(queues, backend, coordinator)
    try:
        worker.work(burst=burst, logging_level=None)
    finally:
        worker.close()
    return burst
