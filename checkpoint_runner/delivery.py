"""What a delivery wakes up: claim the job, run it, let go. RQ calls `run`."""

from __future__ import annotations

import logging
import time

import msgspec
from msgspec.structs import replace

from checkpoint_runner import event_log, processes, specs
from checkpoint_runner.attempt import Attempt, run_claimed
from checkpoint_runner.codec import encode
from checkpoint_runner.deliveries import Delivery
from checkpoint_runner.errors import BrokenCheckpoint
from checkpoint_runner.hosts import Host, this_host
from checkpoint_runner.lease import RedisLease
from checkpoint_runner.records import FORMAT, Record, decode_record
from checkpoint_runner.recovery import recover
from checkpoint_runner.store import Claim

log = logging.getLogger(__name__)

CLAIM_PATIENCE = 5.0
"""Seconds for which a claim is sent again; after that the sweep delivers the job anew."""


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
    found = store.read(delivery.job_id, ("task", "version", "format", "seq"))
    if found is None:
        return "gone"
    task, version, stored_format, seq = (value.decode("utf-8", "replace") for value in found[2].values())
    spec = specs.find(task)
    objection = _objection(spec, task, int(version or 0), int(stored_format or 0), saved=int(seq or 0) > 0)
    if spec is None or objection:
        log.warning("Job %s is %s; it is offered again later", delivery.job_id, objection)
        return store.decline(delivery.job_id, delivery.attempt, delivery.id, objection)
    holder = processes.holder(rq_id)
    settings = backend.settings
    until = time.monotonic() + CLAIM_PATIENCE
    claim = store.claim(delivery.job_id, delivery.attempt, holder, settings.lease, spec.version, until=until)
    if isinstance(claim, str):
        log.info("Delivery %s came late: the job is %s; nothing is done", rq_id, claim or "gone")
        return "refused"
    lease = RedisLease(store, delivery.job_id, delivery.attempt, holder, settings.lease, kept=claim.kept)
    return _run_claimed(host, spec, lease, claim)


def _run_claimed(host: Host, spec: specs.TaskSpec, lease: RedisLease, claim: Claim) -> str:
    settings = host.backend.settings
    try:
        record, objection = _record_of(claim, spec), ""
    except BrokenCheckpoint as error:
        record, objection = None, str(error)
    attempt = Attempt(spec, lease, record, kept_steps=claim.step_results > 0)
    if objection:
        log.error("Job %s is paused: %s", lease.job_id, objection)
        return attempt.journal.let_go("pause", objection, until=time.monotonic() + settings.grace)
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


def _objection(spec: specs.TaskSpec | None, task: str, version: int, stored_format: int, *, saved: bool) -> str:
    """Return why this worker must leave a job to another one; "" where it need not."""
    if spec is None:
        return f"declined: no worker knows the task {task}"
    if stored_format > FORMAT:
        return f"declined: the checkpoint has the format {stored_format}, which this release ({FORMAT}) can't read"
    if version > spec.version:
        return f"declined: the job needs version {version} of the task, and the code is of version {spec.version}"
    if saved and not spec.accepts(version):
        return (
            f"declined: the checkpoint is of version {version} of the task, the code of version {spec.version}, "
            f"and no @task.migrate({version}) says how to get from one to the other"
        )
    return ""


def _record_of(claim: Claim, spec: specs.TaskSpec) -> Record | None:
    """Return the stored record as this code's version has it, or None. Raises BrokenCheckpoint."""
    if claim.record is None:
        return None
    record = decode_record(claim.record)
    if record.version == spec.version:
        return record
    try:
        state = None if record.state is None else msgspec.json.decode(record.state)
        migrated = encode(spec.migrate(state, record.version)) if spec.accepts(record.version) else None
    except Exception as error:
        log.exception("The migration of task %s failed", spec.name)
        raise BrokenCheckpoint(
            f"The checkpoint could not be taken from version {record.version} of the task to version {spec.version}: "
            f"{type(error).__name__}: {error}. Mend the migration and resume the job."
        ) from None
    if migrated is None:
        raise BrokenCheckpoint(
            f"The checkpoint is of version {record.version} of the task and the code of version {spec.version}."
        )
    return replace(record, version=spec.version, state=None if migrated == b"null" else migrated)
