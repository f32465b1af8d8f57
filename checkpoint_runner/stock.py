"""Running deliveries under a stock RQ worker: crash-safe, and pausing on its warm shutdown.

A stock worker tells its horse nothing, so the horse looks by itself: a SIGTERM of its own (systemd
signals every process) and the field that a busy stock worker writes when it was asked to stop.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rq.job import Job as RQJob

from checkpoint_runner import specs
from checkpoint_runner.backend import Backend
from checkpoint_runner.clients import WORKER
from checkpoint_runner.errors import RedisTrouble
from checkpoint_runner.hosts import Host
from checkpoint_runner.settings import Settings
from checkpoint_runner.shutdown import ShutdownCoordinator
from checkpoint_runner.sweep import Sweeper

LOOK_EVERY = 0.5
"""Seconds between two looks at the worker's hash."""


@contextmanager
def stock_host(rq_job: RQJob) -> Iterator[Host]:
    """Make this process, a stock worker's horse or a SimpleWorker itself, fit for one delivery."""
    settings = Settings.read()
    specs.load(settings.tasks)
    backend = Backend(rq_job.connection, settings, WORKER)
    in_main_thread = threading.current_thread() is threading.main_thread()
    is_horse = in_main_thread and signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    coordinator = ShutdownCoordinator(
        settings.grace,
        signals=(signal.SIGTERM,) if is_horse else (signal.SIGTERM, signal.SIGINT),
        chain=not is_horse,
        force=False,
        role=f"horse {os.getpid()}",
    )
    coordinator.manage(backend, name=f"Redis connections to {backend.address}")
    chores = (_WarmShutdown(backend, rq_job.worker_name or "", coordinator), Sweeper(backend).sweep_if_due)
    with coordinator:
        yield Host(backend, coordinator, is_horse=is_horse, chores=chores)


class _WarmShutdown:
    """Notices that the stock worker was asked to stop."""

    def __init__(self, backend: Backend, worker: str, coordinator: ShutdownCoordinator) -> None:
        self._backend = backend
        self._key = backend.keys.worker(worker)
        self._coordinator = coordinator
        self._next = 0.0

    def __call__(self) -> None:
        now = time.monotonic()
        if now < self._next or self._coordinator.stopping is not None:
            return
        self._next = now + LOOK_EVERY
        try:
            asked = self._backend.sender.send(
                lambda client: client.hget(self._key, "shutdown_requested_date"), until=0.0
            )
        except RedisTrouble:
            return  # the renewal of the lease, a moment later, says so in the log
        if asked:
            self._coordinator.request("the RQ worker's warm shutdown")
