"""Ordinary RQ jobs in a queue of ours: refused, and never lost."""

from __future__ import annotations

import fakeredis
import pytest
from rq import Queue
from rq.job import Job as RQJob

from checkpoint_runner import Checkpoint, Runner, checkpointed


@checkpointed
def quick(checkpoint: Checkpoint) -> str:
    return "done"


@pytest.mark.parametrize("job_id", [None, "report-2024-05"], ids=["an id of RQ's", "an id like a delivery's"])
def test_an_ordinary_rq_job_is_moved_to_rqs_failed_ones(
    job_id: str | None, runner: Runner, redis_client: fakeredis.FakeRedis
) -> None:
    """A mail that somebody enqueued into the same queue would be gone without a trace."""
    mail = Queue("default", connection=redis_client).enqueue("os.getpid", job_id=job_id, meta={"to": "ada"})
    job = quick.start()
    assert runner.work() == 1
    assert job.refresh().result == "done"
    refused = RQJob.fetch(mail.id, connection=redis_client)
    assert refused.get_status() == "failed"
    assert refused.meta == {"to": "ada"}
    assert mail.id in refused.failed_job_registry
    refused.requeue()
    assert redis_client.lrange("rq:queue:default", 0, -1) == [mail.id.encode()]
