"""What may grow has a limit, which is told before it hurts; the checkpoint before it stays."""

from __future__ import annotations

from typing import Any

import fakeredis
import pytest

from checkpoint_runner import Checkpoint, checkpointed, events
from checkpoint_runner.errors import CheckpointTooLarge
from tests.conftest import Worker, done


@checkpointed(max_bytes=1000, save_every=0.0)
def grows(checkpoint: Checkpoint, by: int) -> None:
    for number in checkpoint.each(range(10)):
        checkpoint.state["small"] = number
        checkpoint.state["rows"] = [*checkpoint.state.get("rows", []), "x" * by]
        done.append(number)


@checkpointed(max_bytes=1000)
def returns(checkpoint: Checkpoint, size: int) -> str:
    return "x" * size


@checkpointed(max_bytes=1000)
def takes(checkpoint: Checkpoint, rows: list[str]) -> int:
    return len(rows)


@checkpointed(max_bytes=1000)
def steps(checkpoint: Checkpoint, size: int) -> Any:
    return checkpoint.step("large", lambda: {"small": 1, "large": "x" * size})["small"]


def test_a_state_over_the_limit_leaves_the_checkpoint_before_it(
    worker: Worker, redis_client: fakeredis.FakeRedis
) -> None:
    """A state that grows without bound would take the server down, and every job with it."""
    job = grows.start(300)
    assert worker.run() == "failed"
    failed = job.refresh()
    assert failed.error is not None
    assert failed.error.type == "CheckpointTooLarge"
    assert "state takes 1,2" in failed.error.message
    assert "The largest part is state.rows" in failed.error.message
    assert failed.progress.done == 3
    assert done == [0, 1, 2, 3]


def test_growth_is_told_before_the_limit(worker: Worker, seen: list[events.Event]) -> None:
    """The first that anybody hears of a growing state would be a failed job."""
    grows.start(88)
    assert worker.run() == "finished"
    warnings = [event for event in seen if isinstance(event, events.CheckpointGrows)]
    assert [(event.limit, event.size > 800) for event in warnings] == [(1000, True)]


@pytest.mark.parametrize("task", [returns, steps])
def test_a_result_over_the_limit_fails_with_its_size(task: Any, worker: Worker) -> None:
    """A result of megabytes would be read with every poll of the job."""
    job = task.start(5000)
    assert worker.run() == "failed"
    error = job.refresh().error
    assert error is not None
    assert error.type == "CheckpointTooLarge"
    assert "expected at most 1,000 (max_bytes)" in error.message


def test_an_argument_over_the_limit_is_refused_at_the_start(worker: Worker) -> None:
    """A request with megabytes would go into Redis with every job."""
    with pytest.raises(CheckpointTooLarge, match="argument rows takes 2,0"):
        takes.start(["x" * 2000])
