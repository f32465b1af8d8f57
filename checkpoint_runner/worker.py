"""CheckpointWorker: an RQ worker that stops in order, guards its horse, and recovers its job at once.

RQ promises stability for none of the methods that are overridden here; tests/contract compares each
with what RQ expects of it.
"""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import select
import signal
import time
import warnings
from collections.abc import Sequence
from typing import Any

import redis
from rq import Queue, Worker
from rq.exceptions import DequeueTimeout, InvalidJobOperation, StopRequested
from rq.executions import Execution
from rq.job import Job as RQJob
from rq.registry import StartedJobRegistry
from rq.utils import now as rq_now

from checkpoint_runner import processes
from checkpoint_runner.backend import Backend
from checkpoint_runner.clients import WORKER, Profile, client_name, connect
from checkpoint_runner.deliveries import Delivery
from checkpoint_runner.errors import RedisTrouble
from checkpoint_runner.horse import UNSETTLED, HorseWatch, cause_of, end_by_force_after, pidfd
from checkpoint_runner.hosts import Host, set_host
from checkpoint_runner.inert import DeliveryJob, NoDeathPenalty, PayloadSerializer
from checkpoint_runner.interruptions import Interruption
from checkpoint_runner.leftovers import clear_leftovers
from checkpoint_runner.lifeline import Lifeline
from checkpoint_runner.recovery import recover
from checkpoint_runner.shutdown import ShutdownCoordinator
from checkpoint_runner.store import FOREIGN
from checkpoint_runner.sweep import Sweeper

log = logging.getLogger(__name__)

POP = 1
"""Seconds that one wait for a delivery takes: a stop request is looked at in between."""

TICK = 0.25
"""Seconds between two looks at a running horse."""

HEARTBEAT = 20.0
"""Seconds between two of RQ's own heartbeats."""

NO_LIFE = 30.0
"""Seconds without a beat and without CPU used after which a horse is taken for frozen."""

RQ = Profile("worker", socket_timeout=POP + 4, patience=0.0)
"""RQ blocks for POP seconds on its connection."""

_SIGNALS = {signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT}


class CheckpointWorker(Worker):
    """Runs deliveries, each in a forked horse.

    The coordinator owns the signals: RQ's own handlers, which raise into whatever runs, are not installed.
    """

    death_penalty_class = NoDeathPenalty

    def __init__(self, queues: Sequence[str], backend: Backend, coordinator: ShutdownCoordinator) -> None:
        self.backend = backend
        self.coordinator = coordinator
        self._sweeper = Sweeper(backend)
        self._wake_read, self._wake_write = os.pipe()
        os.set_blocking(self._wake_write, False)
        self._lifeline: Lifeline | None = None
        self._delivery: Delivery | None = None
        self._killed_for: str | None = None
        self._heartbeat_at = 0.0
        super().__init__(
            list(queues),
            name=f"{client_name(backend.settings.namespace, 'worker')}:{secrets.token_hex(4)}",
            connection=connect(backend.source, RQ, backend.settings.namespace),
            job_class=DeliveryJob,
            serializer=PayloadSerializer,
            log_job_description=False,
        )
        self._take_back = (
            coordinator.on_shutdown(self._on_stop),
            coordinator.on_last_call(self._kill_for_shutdown),
        )

    def close(self) -> None:
        """Leave the coordinator, and close the connections and the pipe."""
        for take_back in self._take_back:
            take_back()
        self.connection.close()
        self.connection.connection_pool.disconnect()
        os.close(self._wake_read)
        os.close(self._wake_write)

    # On the coordinator's thread.

    def _on_stop(self, _interruption: Interruption) -> None:
        self._stop_requested = True
        self._signal_horse()
        with contextlib.suppress(OSError):  # full: it is awake anyway; closed: it is gone
            os.write(self._wake_write, b"x")

    def _kill_for_shutdown(self) -> None:
        if self._horse_pid:
            log.warning("The horse %d did not stop within the grace and is killed", self._horse_pid)
            self._killed_for = "shutdown"
            self.kill_horse(signal.SIGKILL)

    def _signal_horse(self) -> None:
        """Tell the horse, and it alone: its subprocesses belong to the task."""
        pid = self._horse_pid
        if pid:
            with contextlib.suppress(ProcessLookupError):  # it ended by itself
                os.kill(pid, signal.SIGTERM)

    # What RQ calls.

    @property
    def dequeue_timeout(self) -> int:
        return POP

    @property
    def connection_timeout(self) -> int:
        return int(RQ.socket_timeout)

    def _install_signal_handlers(self) -> None:
        """Nothing: the coordinator has installed its own."""

    def subscribe(self) -> None:
        """Nothing: RQ's commands come from Redis unsigned, and its thread would hold up every exit."""

    def unsubscribe(self) -> None:
        """Nothing was subscribed."""

    def run_maintenance_tasks(self) -> None:
        """Clear up after dead workers what is ours; RQ would take ordinary RQ jobs for deliveries, and fail them."""
        clear_leftovers(self.connection, self.backend.keys, self.queues)
        self.last_cleaned_at = rq_now()  # type: ignore[assignment]

    def dequeue_job_and_maintain_ttl(
        self, timeout: int | None, max_idle_time: int | None = None
    ) -> tuple[RQJob, Queue] | None:
        """Wait for a delivery. A stop is looked at between two pops, so that none is popped and dropped."""
        self.set_state("idle")
        pause = None if timeout is None else min(timeout, self._sweeper.pause)  # a longer one would look like a gap
        while not self._stop_requested:
            self._sweeper.sweep_if_due()
            self._heartbeat_if_due()
            try:
                return self.queue_class.dequeue_any(
                    self._ordered_queues,
                    pause,  # type: ignore[arg-type] # Redis takes fractions of a second
                    connection=self.connection,
                    job_class=self.job_class,
                    serializer=self.serializer,
                    death_penalty_class=self.death_penalty_class,
                )
            except DequeueTimeout:
                continue
        raise StopRequested

    def execute_job(self, job: RQJob, queue: Queue) -> None:
        """Run one delivery in a horse, and see to its job when the horse is gone, however it went."""
        if not (isinstance(job, DeliveryJob) and job.is_delivery):
            self._refuse(job, queue)
            return
        if self._stop_requested:
            self._hand_back(job, queue)
            return
        self._delivery = Delivery.parse(job.id)
        self._killed_for = None
        self._lifeline = Lifeline()
        try:
            super().execute_job(job, queue)
        finally:
            self._lifeline.close()
            self._lifeline = self._delivery = None

    def fork_work_horse(self, job: RQJob, queue: Queue) -> None:
        """Fork with the signals held back until the horse has handlers of its own: none falls in between."""
        parent = os.getpid()
        signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
        try:
            with warnings.catch_warnings():
                # The coordinator's thread sleeps in a C call without holding a lock of Python's.
                warnings.simplefilter("ignore", DeprecationWarning)
                self._parent = parent
                super().fork_work_horse(job, queue)
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
        if self._stop_requested:
            self._signal_horse()

    def setup_work_horse_signals(self) -> None:
        """In the horse: orders come from the parent only, by SIGTERM, or by its death."""
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        signal.signal(signal.SIGQUIT, signal.SIG_IGN)
        settings = self.backend.settings
        coordinator = ShutdownCoordinator(
            settings.grace, signals=(signal.SIGTERM,), force=False, role=f"horse {os.getpid()}"
        )
        coordinator.on_shutdown(end_by_force_after)
        backend = coordinator.manage(
            Backend(self.backend.source, settings, WORKER), name="the horse's Redis connections"
        )
        coordinator.start()
        assert self._lifeline is not None
        set_host(Host(backend, coordinator, is_horse=True, chores=(self._lifeline.beat,)))
        self._horse_coordinator = coordinator
        processes.die_with_parent(self._parent)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)

    def main_work_horse(self, job: RQJob, queue: Queue) -> None:
        """In the horse: run, then close explicitly, since neither atexit nor `finally` outlives RQ's os._exit."""
        code = UNSETTLED
        try:
            self.setup_work_horse_signals()
            self._is_horse = True
            assert self.execution is not None
            self.perform_job(job, queue, self.execution)
            code = 0
        except BaseException:
            log.exception("The horse failed outside of the task")
        finally:
            self.connection.connection_pool.disconnect()
            self._horse_coordinator.close()
            os._exit(code)

    def handle_job_success(
        self, job: RQJob, queue: Queue, started_job_registry: StartedJobRegistry, execution: Execution
    ) -> None:
        """In the horse: as RQ does it; a delivery whose hash is gone (flushed, or superseded) is no failure."""
        try:
            super().handle_job_success(job, queue, started_job_registry, execution)
        except InvalidJobOperation:
            self._contained(lambda: self._clean_up(job, execution))
            self._contained(lambda: self.connection.delete(job.key))

    def wait_for_horse(self) -> tuple[int | None, int | None, Any]:
        """Wait until the horse is gone and look after it meanwhile; then after its job."""
        pid = self._horse_pid
        exited = pidfd(pid)
        poller = select.poll()
        poller.register(self._wake_read, select.POLLIN)
        if exited is not None:
            poller.register(exited, select.POLLIN)
        watch = HorseWatch(pid)
        try:
            while True:
                ready = {fd for fd, _ in poller.poll(TICK * 1000)}
                if self._wake_read in ready:
                    os.read(self._wake_read, 1024)
                if exited is not None and exited not in ready:
                    self._look_after(watch)
                    continue
                gone, status, usage = os.wait4(pid, 0 if exited is not None else os.WNOHANG)
                if gone:
                    self._horse_pid = 0
                    self._see_to_job(status)
                    return gone, status, usage
                self._look_after(watch)
        except ChildProcessError:
            self._horse_pid = 0
            self._see_to_job(None)
            return None, None, None
        finally:
            if exited is not None:
                os.close(exited)

    def monitor_work_horse(self, job: RQJob, queue: Queue, execution: Execution) -> None:
        """As RQ does it; what an ended horse left in RQ's registries goes at once."""
        self._rq_watch = (job, execution)
        super().monitor_work_horse(job, queue, execution)
        self._contained(lambda: self._clean_up(job, execution))

    # Looking after a horse and its job.

    def _look_after(self, watch: HorseWatch) -> None:
        assert self._lifeline is not None
        now = time.monotonic()
        alive = watch.shows_life(self._lifeline.beaten_at)
        if now - watch.seen_at > NO_LIFE and self._killed_for is None:
            log.error("The horse %d has shown no life for %.0f s and is killed", watch.pid, NO_LIFE)
            self._killed_for = "crash"
            self.kill_horse(signal.SIGKILL)
            return
        if now >= watch.renew_at and self._delivery is not None and (alive or now - watch.seen_at < NO_LIFE):
            watch.renew_at = now + self.backend.renew_every
            self._contained(self._renew)
        self._heartbeat_if_due()
        self._sweeper.sweep_if_due()

    def _renew(self) -> None:
        delivery = self._delivery
        assert delivery is not None
        self.backend.store.renew(delivery.job_id, delivery.attempt, f"{delivery.id}|", self.backend.settings.lease)

    def _see_to_job(self, status: int | None) -> None:
        """The horse is gone: if the job is still its, it goes on at once, with what is known of the death."""
        delivery = self._delivery
        if delivery is None:
            return
        cause, kind = cause_of(status)
        if self._killed_for is not None:
            kind = self._killed_for
            cause = "killed by its worker: it " + ("outlasted the grace" if kind == "shutdown" else "showed no life")
        interruption = self.coordinator.stopping
        until = time.monotonic() + 5.0 if interruption is None else interruption.deadline
        try:
            recover(self.backend, delivery.job_id, delivery.attempt, delivery.id, cause, kind, until=until)
            if kind != "exit":
                self.backend.store.forget_delivery(delivery.id)  # nobody is busy with it any more
        except RedisTrouble as error:
            log.error("Job %s could not be seen to (%s); the sweep will: %s", delivery.job_id, cause, error)

    def _heartbeat_if_due(self) -> None:
        now = time.monotonic()
        if now < self._heartbeat_at:
            return
        self._heartbeat_at = now + HEARTBEAT
        self._contained(self._heartbeat_rq)

    def _heartbeat_rq(self) -> None:
        if self._horse_pid and self._rq_watch is not None:
            self.maintain_heartbeats(*self._rq_watch)
        else:
            self.heartbeat()
            if self.should_run_maintenance_tasks:
                self.run_maintenance_tasks()

    _rq_watch: tuple[RQJob, Execution] | None = None

    def _clean_up(self, job: RQJob, execution: Execution) -> None:
        self._rq_watch = None
        with self.connection.pipeline() as pipeline:
            self.cleanup_execution(job, pipeline=pipeline, execution=execution)
            pipeline.execute()

    def _hand_back(self, job: RQJob, queue: Queue) -> None:
        """A stop came between the pop and the fork: the delivery goes back to where it was."""
        keys = self.backend.keys
        log.info("Delivery %s is handed back: the worker stops", job.id)

        def put_back() -> None:
            with self.connection.pipeline(transaction=True) as pipeline:
                pipeline.lrem(keys.intermediate(queue.name), 1, job.id)
                pipeline.lpush(keys.queue(queue.name), job.id)
                pipeline.execute()

        self._contained(put_back)

    def _refuse(self, job: RQJob, queue: Queue) -> None:
        """Move an ordinary RQ job to RQ's failed registry, untouched."""
        log.error("RQ job %s: %s", job.id, FOREIGN.format(queue=queue.name))
        self._contained(lambda: self.backend.store.refuse_delivery(job.id, queue.name))

    @staticmethod
    def _contained(action: Any) -> None:
        """Run something that Redis' absence must not end this worker for."""
        try:
            action()
        except (redis.exceptions.RedisError, RedisTrouble) as error:
            log.warning("Redis trouble while looking after things, going on: %s", error)
