"""What we write for RQ, and what RQ's workers make of it."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
import zlib
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import redis
import rq
from rq.exceptions import DeserializationError
from rq.registry import FailedJobRegistry
from rq.serializers import DefaultSerializer
from rq.utils import str_to_date

from checkpoint_runner import Runner
from checkpoint_runner.inert import DeliveryJob, PayloadSerializer
from checkpoint_runner.keys import DELIVERY_FAILURE_TTL
from checkpoint_runner.payload import DELIVERED_CALL, PAYLOAD
from tests.contract import contract_tasks
from tests.contract.conftest import Server
from tests.contract.contract_world import KEYS, World

ROOT = Path(__file__).parents[2]
TIMES = {b"created_at", b"enqueued_at"}


def environment(server: Server, mark: Path) -> dict[str, str]:
    return {
        **os.environ,
        "CHECKPOINT_RUNNER_REDIS_URL": server.url,
        "CHECKPOINT_RUNNER_TASKS": "tests.contract.contract_tasks",
        "CONTRACT_MARK": str(mark),
        "PYTHONPATH": str(ROOT),
        # RQ's fork worker warns of its own pubsub thread on Python 3.12 and later
        "PYTHONWARNINGS": "default",
    }


def run(arguments: list[str], server: Server, tmp_path: Path) -> str:
    """Run a worker to its end; return what it said."""
    done = subprocess.run(
        [sys.executable, "-m", *arguments],
        env=environment(server, tmp_path / "mark"),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stderr + done.stdout


def stock(server: Server, tmp_path: Path, *options: str, queue: str = "contract") -> str:
    return run(["rq.cli", "worker", queue, "--url", server.url, "--burst", *options], server, tmp_path)


def ours(server: Server, tmp_path: Path) -> str:
    return run(["checkpoint_runner", "worker", "contract", "--burst"], server, tmp_path)


@pytest.fixture
def runner(valkey: Server) -> Any:
    made = Runner(valkey.url)
    yield made
    made.close()


@pytest.fixture
def client(valkey: Server) -> Any:
    made = redis.Redis.from_url(valkey.url)
    yield made
    made.close()


# What is written.


def test_a_delivery_is_written_as_rq_writes_it(world: World) -> None:
    """If a field differed, a stock worker would stumble over a delivery, and every job would stand still."""
    job = world.start(queue="ours", task="shop.import_users")
    queue = rq.Queue("theirs", connection=world.client)
    theirs = queue.enqueue(
        "checkpoint_runner.delivery.run",
        job_id="theirs-1-1",
        description="shop.import_users",
        job_timeout=-1,
        result_ttl=0,
        failure_ttl=DELIVERY_FAILURE_TTL,
    )
    written = world.client.hgetall(KEYS.delivery(job.delivery))
    expected = world.client.hgetall(theirs.key)
    assert {name: value for name, value in written.items() if name not in {*TIMES, b"data", b"origin"}} == {
        name: value for name, value in expected.items() if name not in {*TIMES, b"data", b"origin"}
    }
    assert zlib.decompress(written[b"data"]) == zlib.decompress(expected[b"data"])
    assert written[b"origin"] == b"ours"
    assert world.client.ttl(KEYS.delivery(job.delivery)) == world.client.ttl(theirs.key)
    assert world.client.smembers("rq:queues") == {b"rq:queue:ours", b"rq:queue:theirs"}
    assert world.client.lrange("rq:queue:ours", 0, -1) == [job.delivery.encode()]
    assert world.client.lrange("rq:queue:theirs", 0, -1) == [b"theirs-1-1"]


def test_a_deliverys_times_are_in_rqs_form(world: World) -> None:
    """If RQ could not read the times, fetching a delivery would raise in every dashboard and worker."""
    job = world.start()
    written = world.client.hgetall(KEYS.delivery(job.delivery))
    seconds, _ = world.client.time()
    for name in TIMES:
        moment = str_to_date(written[name])
        assert abs(moment - datetime.fromtimestamp(seconds, UTC)) < timedelta(seconds=5)
        assert written[name].decode() == moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


@pytest.mark.parametrize(
    "moment",
    ["1970-01-01T00:00:00", "1999-12-31T23:59:59", "2000-02-29T12:00:00", "2024-02-29T00:00:00", "2026-12-31T23:59:59",
     "2027-01-01T00:00:00", "2100-02-28T23:59:59", "2100-03-01T00:00:00"],
)  # fmt: skip
def test_the_calendar_of_the_scripts_is_right(world: World, moment: str) -> None:
    """If a leap year were wrong, deliveries of that day would have another date in RQ's lists."""
    prelude = (ROOT / "checkpoint_runner/lua/prelude.lua").read_text("utf-8")
    begin, end = prelude.index("local function iso"), prelude.index("-- A delivery that wakes up")
    text = prelude[begin:end] + "return iso(tonumber(ARGV[1]))"
    at = datetime.fromisoformat(moment).replace(tzinfo=UTC)
    milliseconds = int(at.timestamp()) * 1000 + 7
    assert world.client.eval(text, 0, milliseconds).decode() == f"{moment}.007000Z"


def test_the_payload_is_what_rqs_default_serializer_reads() -> None:
    """If it were not, a stock `rq worker` would fail every delivery with a DeserializationError."""
    assert DefaultSerializer.loads(zlib.decompress(PAYLOAD)) == DELIVERED_CALL
    assert PayloadSerializer.loads(PayloadSerializer.dumps()) == DELIVERED_CALL


def test_a_queue_of_rq_can_read_our_delivery(world: World) -> None:
    """If RQ's own objects could not, its command line and dashboards would show errors for our queues."""
    job = world.start(queue="contract")
    (fetched,) = rq.Queue("contract", connection=world.client).jobs
    assert fetched.id == job.delivery
    assert fetched.func_name == DELIVERED_CALL[0]
    assert (fetched.args, fetched.kwargs) == ((), {})
    assert (fetched.timeout, fetched.result_ttl, fetched.failure_ttl) == (-1, 0, DELIVERY_FAILURE_TTL)
    assert fetched.get_status() == "queued"


# What our worker reads.


class Bomb:
    """Unpickled, it has done its work."""

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return contract_tasks.mark, ()


def forged() -> dict[str, Any]:
    """Everything that makes RQ execute or call out when it stands in a job's hash."""
    bomb = pickle.dumps(Bomb())
    return {
        "meta": bomb,
        "result": bomb,
        "success_callback_name": "tests.contract.contract_tasks.mark",
        "failure_callback_name": "tests.contract.contract_tasks.mark",
        "stopped_callback_name": "tests.contract.contract_tasks.mark",
        "webhooks": json.dumps([{"url": "http://127.0.0.1:9/", "events": ["finished", "failed"]}]),
        "retries_left": 5,
        "repeats_left": 5,
        "timeout": 1,
        "group_id": "g",
        "dependency_ids": '["x"]',
        "status": "no such status",
        "created_at": "no date",
    }


@pytest.mark.parametrize(
    "data",
    [PAYLOAD, zlib.compress(pickle.dumps(Bomb())), zlib.compress(b"0" * 50_000_000)],
    ids=["payload", "pickle", "bomb"],
)
def test_a_forged_delivery_is_inert(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, data: bytes) -> None:
    """If our worker read it as RQ does, whoever can write to Redis could run code in it."""
    monkeypatch.setenv("CONTRACT_MARK", str(tmp_path / "mark"))
    world.client.hset("rq:job:forged", mapping={**forged(), "data": data, "origin": "contract"})
    job = DeliveryJob.fetch("forged", connection=world.client, serializer=PayloadSerializer)
    assert job.is_delivery == (data == PAYLOAD)
    assert len(job.data) < 100
    assert job.meta == {}
    assert job._result is None
    assert job.success_callback is job.failure_callback is job.stopped_callback is None
    assert not job.webhooks
    assert (job.retries_left, job.repeats_left, job.group_id, job._dependency_ids) == (None, None, None, [])
    assert (job.timeout, job.get_status(refresh=False), job.origin) == (-1, "queued", "contract")
    if job.is_delivery:
        assert job.func_name == DELIVERED_CALL[0]
    else:
        with pytest.raises(DeserializationError):
            _ = job.func_name
    assert not (tmp_path / "mark").exists()


def test_our_worker_runs_a_forged_delivery_without_its_extras(
    valkey: Server, runner: Runner, client: redis.Redis, tmp_path: Path
) -> None:
    """If one of the extras worked in a real worker, a write to Redis would be remote code execution."""
    job = contract_tasks.count.options(runner=runner).start(10)
    (delivery,) = client.lrange(KEYS.queue("contract"), 0, -1)
    extras = {name: value for name, value in forged().items() if name not in ("status", "created_at", "timeout")}
    client.hset(KEYS.delivery(delivery.decode()), mapping=extras)
    ours(valkey, tmp_path)
    assert job.refresh().status == "finished"
    assert job.refresh().result == 45
    assert not (tmp_path / "mark").exists()


def test_an_ordinary_rq_job_is_refused_untouched_and_a_stock_worker_can_run_it(
    valkey: Server, runner: Runner, client: redis.Redis, tmp_path: Path
) -> None:
    """If it were run or dropped, a queue that was shared by mistake would lose other people's work."""
    queue = rq.Queue("contract", connection=client)
    ordinary = queue.enqueue(contract_tasks.mark, "secret", job_timeout=99, result_ttl=77, meta={"who": "a"})
    before = client.hgetall(ordinary.key)
    job = contract_tasks.count.options(runner=runner).start(3)
    said = ours(valkey, tmp_path)
    assert "Start a stock worker" in said
    assert "secret" not in said
    assert job.refresh().status == "finished"
    assert not (tmp_path / "mark").exists()
    after = client.hgetall(ordinary.key)
    changed = {name for name in {*before, *after} if before.get(name) != after.get(name)}
    assert changed == {b"status", b"exc_info"}
    assert client.ttl(ordinary.key) == -1
    registry = FailedJobRegistry("contract", connection=client)
    assert registry.get_job_ids() == [ordinary.id]
    assert b"Start a stock worker" in zlib.decompress(after[b"exc_info"])
    assert client.lrange(KEYS.intermediate("contract"), 0, -1) == []
    registry.requeue(ordinary.id)
    stock(valkey, tmp_path, "--worker-class", "rq.worker.SimpleWorker")
    assert (tmp_path / "mark").read_text() == "ran\n"
    assert ordinary.get_status() == "finished"


def test_our_workers_maintenance_leaves_ordinary_rq_jobs_alone(
    valkey: Server, client: redis.Redis, tmp_path: Path
) -> None:
    """If our worker cleaned up after stock workers, an ordinary job of a dead one would be gone a minute later."""
    queue = rq.Queue("contract", connection=client)
    ordinary = queue.enqueue(contract_tasks.mark, "x", retry=rq.Retry(max=3), job_id="ordinary")
    client.delete(queue.key)
    client.hset(ordinary.key, "status", "started")  # a stock worker took it and died
    client.zadd("rq:wip:contract", {"ordinary:execution": 1.0})
    before = client.hgetall(ordinary.key)
    ours(valkey, tmp_path)
    assert client.ttl(ordinary.key) == -1
    assert client.hgetall(ordinary.key) == before


# Stock workers.


def test_a_stock_simple_worker_runs_a_delivery_on_the_test_double(monkeypatch: pytest.MonkeyPatch) -> None:
    """If it did not, users could not test their tasks with fakeredis and RQ's own worker."""
    import fakeredis

    monkeypatch.setenv("CHECKPOINT_RUNNER_TASKS", "tests.contract.contract_tasks")
    connection = fakeredis.FakeRedis(server=fakeredis.FakeServer())
    runner = Runner(connection)
    try:
        job = contract_tasks.count.options(runner=runner).start(10)
        worker = rq.SimpleWorker(["contract"], connection=connection)
        worker.work(burst=True, logging_level="WARNING")
        job = job.refresh()
        assert (job.status, job.result, job.attempts) == ("finished", 45, 1)
        assert list(connection.scan_iter("rq:job:*")) == []
    finally:
        runner.close()


@pytest.mark.parametrize("kind", ["Worker", "SpawnWorker"])
def test_a_stock_worker_runs_a_delivery(
    valkey: Server, runner: Runner, client: redis.Redis, tmp_path: Path, kind: str
) -> None:
    """If it did not, a team could not begin with the workers that it has."""
    job = contract_tasks.count.options(runner=runner).start(10)
    stock(valkey, tmp_path, "--worker-class", f"rq.worker.{kind}")
    job = job.refresh()
    assert (job.status, job.result, job.attempts, job.interruptions) == ("finished", 45, 1, 0)
    assert list(client.scan_iter("rq:job:*")) == []


def test_our_worker_runs_a_delivery_and_leaves_nothing_of_it(
    valkey: Server, runner: Runner, client: redis.Redis, tmp_path: Path
) -> None:
    """If something of each delivery stayed in RQ's keys, the server would fill with them."""
    job = contract_tasks.count.options(runner=runner).start(10)
    ours(valkey, tmp_path)
    assert job.refresh().result == 45
    left = {key.decode() for key in client.scan_iter("rq:*")}
    assert not {key for key in left if job.id in key}
    assert client.zcard("rq:wip:contract") == 0
