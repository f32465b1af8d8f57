"""The methods of RQ that our worker overrides or relies on: RQ promises stability for none of them."""

from __future__ import annotations

import inspect
import os
from typing import Any

import fakeredis
import pytest
import rq
from rq.exceptions import DequeueTimeout, StopRequested
from rq.executions import Execution
from rq.job import Job as RQJob
from rq.job import JobStatus
from rq.timeouts import BaseDeathPenalty

from checkpoint_runner.inert import DeliveryJob, NoDeathPenalty
from checkpoint_runner.worker import CheckpointWorker

OVERRIDDEN: dict[str, tuple[str, ...]] = {
    "_install_signal_handlers": ("self",),
    "subscribe": ("self",),
    "unsubscribe": ("self",),
    "handle_job_success": ("self", "job", "queue", "started_job_registry", "execution"),
    "dequeue_job_and_maintain_ttl": ("self", "timeout", "max_idle_time"),
    "execute_job": ("self", "job", "queue"),
    "fork_work_horse": ("self", "job", "queue"),
    "setup_work_horse_signals": ("self",),
    "main_work_horse": ("self", "job", "queue"),
    "wait_for_horse": ("self",),
    "monitor_work_horse": ("self", "job", "queue", "execution"),
    "run_maintenance_tasks": ("self",),
    "clean_registries": ("self",),
}
"""Every method of rq.Worker that ours may replace, with the parameters that RQ calls it with."""

USED: dict[str, tuple[str, ...]] = {
    "cleanup_execution": ("self", "job", "pipeline", "execution"),
    "heartbeat": ("self", "timeout", "pipeline"),
    "kill_horse": ("self", "sig"),
    "maintain_heartbeats": ("self", "job", "execution"),
    "perform_job": ("self", "job", "queue", "execution"),
    "prepare_execution": ("self", "job"),
    "run_maintenance_tasks": ("self",),
    "set_state": ("self", "state", "pipeline"),
}


def parameters(function: Any) -> tuple[str, ...]:
    return tuple(inspect.signature(function).parameters)


def replaced() -> set[str]:
    names = {name for name in vars(CheckpointWorker) if not name.startswith("__") and hasattr(rq.Worker, name)}
    return {name for name in names if inspect.isfunction(getattr(rq.Worker, name))}


@pytest.mark.parametrize("name", sorted(replaced()))
def test_an_overridden_method_is_called_by_rq_as_we_expect(name: str) -> None:
    """If RQ changed how it calls one, our worker would stop in a way that no deploy has tested."""
    assert parameters(getattr(rq.Worker, name)) == OVERRIDDEN[name]
    assert parameters(getattr(CheckpointWorker, name)) == OVERRIDDEN[name]


@pytest.mark.parametrize("name", USED)
def test_a_method_that_we_call_takes_what_we_give(name: str) -> None:
    """If RQ changed one, our worker would end with a TypeError in the middle of a job."""
    assert parameters(getattr(rq.Worker, name)) == USED[name]


@pytest.mark.parametrize("name", ["dequeue_timeout", "connection_timeout", "should_run_maintenance_tasks", "horse_pid"])
def test_properties_are_still_properties(name: str) -> None:
    """If RQ made a method of one, its value would always be true and its number never a number."""
    assert isinstance(inspect.getattr_static(rq.Worker, name), property)


@pytest.mark.parametrize("name", ["_ordered_queues", "_stop_requested", "_horse_pid"])
def test_attributes_that_we_read_are_set_by_rq(name: str) -> None:
    """If RQ renamed one, a stop request would be noted where nobody looks."""
    assert f"self.{name}" in inspect.getsource(rq.Worker.__init__)


def test_the_work_loop_asks_and_stops_as_we_expect() -> None:
    """If the loop were another, an idle worker would not stop, or strand the delivery that it has popped."""
    source = inspect.getsource(rq.Worker.work)
    assert "self.dequeue_job_and_maintain_ttl(timeout, max_idle_time)" in source
    assert "timeout = None if burst else self.dequeue_timeout" in source
    assert "except StopRequested" in source
    assert "self.execute_job(job, queue)" in source
    assert source.index("self._install_signal_handlers()") < source.index("self.check_for_suspension")
    assert "self.subscribe()" in inspect.getsource(rq.Worker.bootstrap)
    assert "self.unsubscribe()" in inspect.getsource(rq.Worker.teardown)
    assert issubclass(StopRequested, Exception)


def test_a_horse_is_forked_set_up_and_watched_as_we_expect() -> None:
    """If RQ did it in another order, a signal between fork and set-up would fail the job."""
    execute = inspect.getsource(rq.Worker.execute_job)
    order = [
        "self.prepare_execution(job)",
        "self.fork_work_horse(job, queue)",
        "self.monitor_work_horse(job, queue, execution)",
    ]
    assert sorted(order, key=execute.index) == order
    fork = inspect.getsource(rq.Worker.fork_work_horse)
    assert "os.setpgrp()" in fork
    assert "self.main_work_horse(job, queue)" in fork
    assert "self._horse_pid = child_pid" in fork
    assert "retpid, ret_val, rusage = self.wait_for_horse()" in inspect.getsource(rq.Worker.monitor_work_horse)
    assert "os._exit" in inspect.getsource(rq.Worker.main_work_horse)


def test_the_queue_is_popped_as_we_ask() -> None:
    """If dequeue_any took other arguments or raised another error, an idle worker would end every second."""
    assert parameters(rq.Queue.dequeue_any) == (
        "queues",
        "timeout",
        "connection",
        "job_class",
        "serializer",
        "death_penalty_class",
    )
    assert issubclass(DequeueTimeout, Exception)
    assert "raise DequeueTimeout" in inspect.getsource(rq.Queue.lpop)


def test_a_job_is_read_through_restore_alone() -> None:
    """If RQ read a job's fields elsewhere, a forged one would no longer be inert in our worker."""
    assert parameters(RQJob.restore) == ("self", "raw_data")
    assert parameters(DeliveryJob.restore) == ("self", "raw_data")
    assert "self.restore(" in inspect.getsource(RQJob.refresh)
    assert ".restore(" in inspect.getsource(RQJob.fetch_many)
    assert {"queued", "started", "failed", "finished"} <= {status.value for status in JobStatus}


def test_the_death_penalty_has_the_two_methods_that_we_silence() -> None:
    """If it had others, RQ's alarm would raise into the middle of a Redis command."""
    assert parameters(BaseDeathPenalty) == ("timeout", "exception", "kwargs")
    for name in ("setup_death_penalty", "cancel_death_penalty"):
        assert parameters(getattr(BaseDeathPenalty, name)) == ("self",)
    with NoDeathPenalty(-1, ValueError):
        pass


def test_an_execution_is_what_a_horse_is_given() -> None:
    """If the attribute were gone, the horse could not tell RQ which execution it is."""
    assert isinstance(inspect.getattr_static(rq.Worker, "execution"), property)
    assert inspect.isclass(Execution)


def test_a_stock_worker_tells_its_horse_of_a_warm_shutdown_in_its_hash() -> None:
    """If the field had another name, jobs under stock workers would run on until they are killed."""
    assert "shutdown_requested_date" in inspect.getsource(rq.Worker.set_shutdown_requested_date)
    assert "self.set_shutdown_requested_date()" in inspect.getsource(rq.Worker._shutdown)


def test_rq_takes_its_prefix_from_where_we_look() -> None:
    """If RQ read its prefix elsewhere, our deliveries would stand where no worker looks."""
    from rq.defaults import RQ_KEY_PREFIX

    from checkpoint_runner.backend import rq_prefix

    prefix = os.environ.get("RQ_KEY_PREFIX", "rq")
    assert rq_prefix() == prefix == RQ_KEY_PREFIX
    assert rq.Queue("q", connection=fakeredis.FakeRedis()).key == f"{prefix}:queue:q"
    assert RQJob.key_for("j") == f"{prefix}:job:j"
    assert rq.Queue.redis_queues_keys == f"{prefix}:queues"
