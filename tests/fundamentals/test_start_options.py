"""Options of one start: key, unique, queue, delay, labels, runner."""

from __future__ import annotations

from datetime import timedelta

import fakeredis
import pytest

from checkpoint_runner import Checkpoint, CheckpointRunnerError, Runner, Status, checkpointed
from checkpoint_runner.errors import KeyConflict, NotPossibleNow, WrongName, WrongSetting
from tests.conftest import Worker, done


@checkpointed
def pay(checkpoint: Checkpoint, amount: int = 1, fail: bool = False) -> None:
    done.append(amount)
    if fail:
        raise ValueError("declined")


@checkpointed
def mail(checkpoint: Checkpoint, amount: int = 1) -> None:
    done.append(f"mail {amount}")


def test_the_same_key_is_the_same_job(worker: Worker) -> None:
    """A request that is sent again after a timeout would pay twice."""
    first = pay.options(key="order 7").start(5)
    again = pay.options(key="order 7").start(5)
    assert (again.id, first.created, again.created) == (first.id, True, False)
    assert first.key == "order 7"
    worker.run_until_idle()
    late = pay.options(key="order 7").start(5)
    assert (late.id, late.status, late.created) == (first.id, Status.FINISHED, False)
    assert worker.run_until_idle() == []
    assert done == [5]


def test_the_same_key_with_other_arguments_is_a_conflict(worker: Worker) -> None:
    """The second request would silently get the result of the first."""
    first = pay.options(key="order 7").start(5)
    with pytest.raises(KeyConflict) as caught:
        pay.options(key="order 7").start(6)
    assert first.id in str(caught.value)
    assert "'order 7'" in str(caught.value)
    assert len(worker.run_until_idle()) == 1


def test_keys_belong_to_their_task(runner: Runner) -> None:
    """Two teams that number their orders would get each other's jobs."""
    assert pay.options(key="7").start(1).id != mail.options(key="7").start(1).id


def test_a_key_is_free_again_when_its_job_is_deleted(runner: Runner) -> None:
    """A request could never be made again."""
    first = pay.options(key="7").start(1)
    first.delete()
    assert pay.options(key="7").start(2).created


def test_unique_while_live(worker: Worker) -> None:
    """Two imports of one customer would run side by side."""
    first = pay.options(unique="customer 1").start(1)
    second = pay.options(unique="customer 1").start(2)
    assert (second.id, second.created) == (first.id, False)
    assert pay.options(unique="customer 2").start(1).created
    first.pause()
    assert not pay.options(unique="customer 1").start(3).created
    first.refresh().resume()
    worker.run_until_idle()
    assert pay.options(unique="customer 1").start(4).created


@pytest.mark.parametrize("ending", ["failed", "cancelled"])
def test_unique_and_retry(worker: Worker, ending: str) -> None:
    """A retry would run beside the job that has the unique name by now."""
    first = pay.options(unique="c").start(1, fail=ending == "failed")
    if ending == "failed":
        worker.run()
    else:
        first.cancel()
    rival = pay.options(unique="c").start(2)
    assert rival.created
    with pytest.raises(NotPossibleNow, match="another live job has its unique name"):
        first.refresh().retry()
    rival.cancel()
    assert first.refresh().retry().status is Status.QUEUED
    assert not pay.options(unique="c").start(3).created


def test_another_queue(runner: Runner) -> None:
    """Urgent jobs could not be sent to their own workers."""
    job = pay.options(queue="urgent").start(1)
    assert job.queue == "urgent"
    assert runner.work("default") == 0
    assert runner.work("urgent") == 1


@pytest.mark.parametrize("delay", [60, 0.5, timedelta(hours=2)])
def test_a_delay(runner: Runner, redis_client: fakeredis.FakeRedis, delay: float | timedelta) -> None:
    """A reminder for tomorrow would be sent today."""
    job = pay.options(delay=delay).start(1)
    assert (job.status, job.reason) == (Status.WAITING, "delay")
    assert (job.refresh().status, job.refresh().reason) == (Status.WAITING, "delay")
    score = redis_client.zscore("ckpt:agenda", job.id)
    wanted = delay.total_seconds() if isinstance(delay, timedelta) else delay
    assert score / 1000 - job.refresh().created_at.timestamp() == pytest.approx(wanted, abs=0.002)


def test_no_delay_is_no_delay(runner: Runner) -> None:
    """delay=0 would wait for a sweep."""
    assert pay.options(delay=0).start(1).status is Status.QUEUED


def test_labels(runner: Runner) -> None:
    """Jobs could not be told apart on a page."""
    job = pay.options(labels={"tenant": "zwölf", "kind": ""}).start(1)
    assert job.refresh().labels == {"tenant": "zwölf", "kind": ""}


def test_another_runner(runner: Runner) -> None:
    """Two applications with two servers could not live in one process."""
    other = Runner(fakeredis.FakeRedis(server=fakeredis.FakeServer()), namespace="second")
    job = pay.options(runner=other).start(1)
    assert other.job(job.id).status is Status.QUEUED
    assert runner.jobs() == []
    other.close()


def test_two_applications_in_one_database(runner: Runner, server: fakeredis.FakeServer) -> None:
    """Two applications that share a database would see each other's jobs."""
    other = Runner(fakeredis.FakeRedis(server=server), namespace="second")
    mine = pay.options(key="k").start(1)
    theirs = pay.options(key="k", runner=other, queue="theirs").start(1)
    assert mine.id != theirs.id
    assert [job.id for job in other.jobs()] == [theirs.id]
    other.close()


def test_a_client_of_the_users_own_making(server: fakeredis.FakeServer) -> None:
    """A client with decode_responses=True, which many applications have, would break everything."""
    runner = Runner(fakeredis.FakeRedis(server=server, decode_responses=True))
    job = pay.options(runner=runner).start(1)
    assert runner.work() == 1
    assert runner.job(job.id).status is Status.FINISHED
    runner.close()


LONG = "x" * 10_000


@pytest.mark.parametrize(
    "options",
    [
        *({"queue": name} for name in ("", "two words", "new\nline", "\x1b[31mred", LONG, "größe", "a/b", 5)),
        *({"key": name} for name in ("", "new\nline", "\x1b[31m", "\x00", LONG, 5, "caf\udce9", "\x9b31m")),
        *({"unique": name} for name in ("", "tab\t", LONG, b"x", "caf\udce9")),
        *({"labels": labels} for labels in ({"": "x"}, {"a\n": "x"}, {"a": 5}, {5: "x"}, {"a": None}, {"a": "\udce9"})),
        *({"delay": delay} for delay in (-1, float("nan"), float("inf"), "5", True, timedelta(seconds=-1), 1e300)),
    ],
    ids=lambda options: repr(options)[:40].encode("ascii", "backslashreplace").decode(),
)
def test_odd_options_are_refused(runner: Runner, redis_client: fakeredis.FakeRedis, options: dict[str, object]) -> None:
    """An odd name would corrupt keys, logs and terminals, or come as an error 500."""
    with pytest.raises(CheckpointRunnerError) as caught:
        pay.options(**options).start(1)  # type: ignore[arg-type]
    assert isinstance(caught.value, WrongName | WrongSetting)
    assert len(str(caught.value)) < 400
    assert str(caught.value).isprintable()
    assert "expected" in str(caught.value)
    assert redis_client.keys("*") == []
