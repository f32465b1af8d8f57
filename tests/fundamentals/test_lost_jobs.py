"""Jobs that the server lost, and attempts that lost their job: told, and never made anew."""

from __future__ import annotations

import logging

import fakeredis
import pytest

from checkpoint_runner import Checkpoint, Runner, checkpointed
from checkpoint_runner.errors import JobLost, JobNotFound
from checkpoint_runner.interruptions import LeaseLost
from tests.conftest import Worker, done

caught: list[BaseException] = []


@checkpointed(save_every=0.0)
def letters(checkpoint: Checkpoint) -> None:
    try:
        for letter in checkpoint.each("abcde"):
            done.append(letter)
    except BaseException as error:
        caught.append(error)
        raise


@pytest.fixture(autouse=True)
def _nothing_caught() -> None:
    caught.clear()


def test_flushed_data_end_the_attempt_and_stay_gone(
    worker: Worker, redis_client: fakeredis.FakeRedis, caplog: pytest.LogCaptureFixture
) -> None:
    """After a FLUSHALL half a job would come back from the memory of its worker."""
    job = letters.start()
    with caplog.at_level(logging.INFO):
        assert worker.run_and(lambda _: redis_client.flushall(), after=2) == "lost"
    assert redis_client.keys("ckpt:job:*") == []
    assert isinstance(caught[0], LeaseLost)
    assert done == ["a", "b"]
    assert "the server no longer has it" in caplog.text
    with pytest.raises(JobLost, match="gone from the server"):
        job.refresh()
    with pytest.raises(JobLost):
        job.wait(1)


def test_data_flushed_before_the_last_word_are_told_too(
    worker: Worker, redis_client: fakeredis.FakeRedis, caplog: pytest.LogCaptureFixture
) -> None:
    """A job that ended on a server that had lost it would be taken for finished."""
    letters.start()
    with caplog.at_level(logging.INFO):
        assert worker.run_and(lambda _: redis_client.flushall(), after=5) in ("gone", "lost")
    assert "the server no longer has it" in caplog.text
    assert redis_client.keys("ckpt:job:*") == []


def test_a_final_job_that_was_removed_is_not_lost(worker: Worker, runner: Runner) -> None:
    """A job whose retention has passed would be reported as a loss of data."""
    job = letters.start()
    worker.run()
    final = job.refresh()
    final.delete()
    with pytest.raises(JobNotFound) as error:
        final.refresh()
    assert not isinstance(error.value, JobLost)
