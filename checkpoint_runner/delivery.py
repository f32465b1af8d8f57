"""What a delivery wakes up: claim the job, run it, let go. RQ calls `run`."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass

from checkpoint_runner import event_log, processes, specs
from checkpoint_runner.attempt import Attempt, run_claimed
from checkpoint_runner.errors import BrokenCheckpoint
from checkpoint_runner.hosts import Host, this_host
from checkpoint_runner.lease import RedisLease
from checkpoint_runner.records import Record, decode_record
from checkpoint_runner.recovery import recover
from checkpoint_runner.store import Claim

log = logging.getLogger(__name__)

CLAIM_PATIENCE = 5.0
"""Seconds for which a claim is sent again; after that the sweep delivers the job anew."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """The three parts of a delivery's RQ id: `{job}-{attempt}-{nonce}`."""

    id: str
    job_id: str
    attempt: int

    @classmethod
    def parse(cls, rq_id: str) -> Delivery | None:
        """Return the parts, or None for an id that is not a delivery's."""
        job_id, _, rest = rq_id.partition("-")
        attempt, _, nonce = rest.partition("-")
        if not (rq_id.isascii() and job_id.isalnum() and attempt.isdigit() and nonce.isdigit()):
            return None
        return cls(rq_id, job_id, int(attempt))


def run() -> None:
    """Run the delivery that RQ hands to this process. The function that every delivery's payload names."""
    from rq import get_current_job

    from checkpoint_runner.stock import stock_host

    rq_job = get_current_job()
    if rq_job is None:
        raise RuntimeError(
            "checkpoint_runner.delivery.run is called by RQ workers only; start tasks with task.start()."
        )
    host = this_host()
    if host is not None:
        run_delivery(host, rq_job.id)
        return
    with stock_host(rq_job) as host:
        run_delivery(host, rq_job.id)


def run_delivery(host: Host, rq_id: str) -> str:
    """Run one delivery in this process; return the job's new status, or why nothing was done."""
    delivery = Delivery.parse(rq_id)
    if delivery is None:
        log.error("RQ job %r is not a delivery of this library; nothing is done", rq_id[:200])
        return "foreign"
    event_log.install()
    backend = host.backend
    store = backend.store
    if host.coordinator is not None and host.coordinator.stopping is not None:
        return recover(backend, delivery.job_id, delivery.attempt, rq_id, "", "shutdown")
    found = store.read(delivery.job_id, ("task", "version"))
    if found is None:
        return "gone"
    task_name = found[2]["task"].decode("utf-8", "replace")
    spec = specs.find(task_name)
    if spec is None or spec.version < int(found[2]["version"] or 0):
        return _decline(host, delivery, task_name, spec, int(found[2]["version"] or 0))
    holder = processes.holder(rq_id)
    settings = backend.settings
    until = time.monotonic() + CLAIM_PATIENCE
    claim = store.claim(delivery.job_id, delivery.attempt, holder, settings.lease, spec.version, until=until)
    if isinstance(claim, str):
        log.info("Delivery %s came late: the job is %s; nothing is done", rq_id, claim or "gone")
        return "refused"
    lease = RedisLease(store, delivery.job_id, delivery.attempt, holder, settings.lease)
    return _run_claimed(host, spec, lease, claim)


def _run_claimed(host: Host, spec: specs.TaskSpec, lease: RedisLease, claim: Claim) -> str:
    settings = host.backend.settings
    record: Record | None = None
    broken = ""
    try:
        record = decode_record(claim.record) if claim.record else None
        if record is not None and record.version != spec.version:
            broken = (
                f"The checkpoint is of version {record.version} of task {spec.name}, the code of version "
                f"{spec.version}, and nothing says how to get from one to the other. Bring the older code back, "
                "or cancel the job."
            )
    except BrokenCheckpoint as error:
        broken = str(error)
    attempt = Attempt(spec, lease, None if broken else record, kept_steps=claim.step_results > 0)
    if broken:
        log.error("Job %s is paused: %s", lease.job_id, broken)
        return attempt.journal.let_go("pause", broken, until=time.monotonic() + settings.grace)
    forget = host.coordinator.on_shutdown(attempt.stop) if host.coordinator is not None else lambda: None
    for callback in host.on_attempt:
        callback(attempt)
    try:
        status = run_claimed(
            spec,
            lease,
            claim,
            attempt,
            renew_every=host.backend.renew_every,
            grace=settings.grace,
            chores=host.chores,
            is_horse=host.is_horse,
        )
    finally:
        forget()
    if host.coordinator is not None:
        host.coordinator.note(f"job {lease.job_id} is {status} after {attempt.journal.position() or 'nothing'}")
    return status


def _decline(host: Host, delivery: Delivery, task: str, spec: specs.TaskSpec | None, version: int) -> str:
    if spec is None:
        reason = f"declined: no worker knows the task {task}"
    else:
        reason = f"declined: the job needs version {version} of the task, the worker's code has {spec.version}"
    log.warning("Job %s: %s; offered again later", delivery.job_id, reason)
    return host.backend.store.decline(delivery.job_id, delivery.attempt, delivery.id, reason)
