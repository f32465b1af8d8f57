"""Servers as they are met: full, forgetful, locked, of both protocols."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import fakeredis
import pytest
import redis

from checkpoint_runner import Runner
from checkpoint_runner.clients import REQUEST, Sender, check_server, connect
from checkpoint_runner.errors import RedisRefused, RedisTrouble, RedisUnavailable, WrongSetting
from checkpoint_runner.store import Store
from tests.contract import contract_tasks
from tests.contract.conftest import Server
from tests.contract.contract_world import KEYS, LEASE, MOVES, World, moves

# A server without memory.


@pytest.fixture
def full(real_world: World) -> Iterator[Callable[[], None]]:
    """Call it, and the server takes nothing more."""
    real_world.client.config_set("maxmemory-policy", "noeviction")
    try:
        yield lambda: real_world.client.config_set("maxmemory", 1)
    finally:
        real_world.client.config_set("maxmemory", 0)


@pytest.mark.parametrize("how", ["finish", "fail", "interrupt", "pause"])
@pytest.mark.parametrize("asked", ["", "pause", "cancel"])
def test_a_full_server_lets_a_job_go(real_world: World, full: Callable[[], None], how: str, asked: str) -> None:
    """If a job could not be let go of on a full server, its work would be lost when the process ends."""
    job = real_world.made("running")
    if asked:
        job.ask(asked)
    full()
    status = MOVES[how](job)
    assert status in ("finished", "failed", "queued", "paused", "cancelled")
    assert (job.status, job.field("seq")) == (status, "1")


@pytest.mark.parametrize("name", ["ask_pause", "ask_cancel"])
@pytest.mark.parametrize("status", ["queued", "waiting", "paused"])
def test_a_full_server_takes_a_persons_wish(
    real_world: World, full: Callable[[], None], name: str, status: str
) -> None:
    """If nobody could stop jobs on a full server, nobody could make room."""
    job = real_world.made(status)
    full()
    assert MOVES[name](job) == ("same" if (name, status) == ("ask_pause", "paused") else "done")


@pytest.mark.parametrize("name", ["ask_pause", "ask_cancel"])
def test_a_full_server_takes_the_wish_to_stop_a_running_job(
    real_world: World, full: Callable[[], None], name: str
) -> None:
    """If the jobs that fill the server could not be stopped, it would stay full."""
    job = real_world.made("running")
    full()
    assert MOVES[name](job) == "done"


@pytest.mark.parametrize("name", ["crash", "expire", "decline", "wake", "remove", "claim"])
def test_a_full_server_recovers_and_removes(real_world: World, full: Callable[[], None], name: str) -> None:
    """If recovery needed free memory, a full server would keep dead jobs and old ones for ever."""
    status = {"decline": "queued", "wake": "waiting", "remove": "finished", "claim": "queued"}.get(name, "running")
    job = real_world.made(status).overdue()
    full()
    assert MOVES[name](job) not in ("refused", status)


def test_a_full_server_makes_a_lost_delivery_again(real_world: World, full: Callable[[], None]) -> None:
    """If it could not, the jobs that would make room would wait for ever."""
    job = real_world.made("queued").overdue()
    real_world.client.delete(KEYS.queue("imports"))
    full()
    assert job.redeliver() == "redelivered"


def test_a_full_server_is_asked_for_a_delivery_that_is_there(real_world: World, full: Callable[[], None]) -> None:
    """If the look at one queued job failed, the sweep would end before it removes what makes room."""
    job = real_world.made("queued").overdue()
    full()
    assert job.redeliver() == "there"


def test_a_full_server_is_swept(real_world: World, full: Callable[[], None]) -> None:
    """If a full server were not swept, old jobs would never be removed, and it would stay full."""
    real_world.made("finished").overdue()
    full()
    assert real_world.store.due(0.0, LEASE, 10) is not None


def test_a_full_server_renews_a_lease(real_world: World, full: Callable[[], None]) -> None:
    """If it did not, every running job would be lost ten seconds after the server is full."""
    job = real_world.made("running")
    full()
    assert job.renew() == ""


@pytest.mark.parametrize("name", ["save", "step", "start"])
def test_a_full_server_refuses_growth_and_nothing_is_left_half_made(
    real_world: World, full: Callable[[], None], name: str
) -> None:
    """If half of a start or save were left, a job without a delivery would stand in the lists for ever."""
    job = real_world.made("running")
    job.save(1)
    before = real_world.snapshot()
    full()
    with pytest.raises(RedisTrouble, match=r"used memory > 'maxmemory'"):
        real_world.start(key="k", unique="u") if name == "start" else MOVES[name](job)
    real_world.client.config_set("maxmemory", 0)
    assert real_world.snapshot() == before
    assert job.save(2) == ""


def test_a_full_server_is_said_to_take_no_writes_now(real_world: World, full: Callable[[], None]) -> None:
    """If it were called a refusal, a web app would answer 500 for good instead of 503 for a while."""
    full()
    with pytest.raises(RedisUnavailable, match="takes no writes now"):
        real_world.start()


# A server that forgets scripts.


@pytest.mark.parametrize("name", moves())
def test_scripts_are_sent_again_whole_where_the_server_forgot_them(world: World, name: str) -> None:
    """If a restart or SCRIPT FLUSH ended the calls, every worker would have to be restarted with the server."""
    job = world.made("running" if name not in ("claim", "wake") else {"claim": "queued", "wake": "waiting"}[name])
    job.overdue()
    expected = MOVES[name](job)
    for _ in range(2):
        other = world.made("running" if name not in ("claim", "wake") else {"claim": "queued", "wake": "waiting"}[name])
        other.overdue()
        world.client.script_flush()
        assert MOVES[name](other) == expected


def test_start_and_the_sweep_survive_a_script_flush(world: World) -> None:
    """If they did not, the first request after a server's restart would be an error."""
    world.start()
    world.client.script_flush()
    world.start()
    world.client.script_flush()
    assert world.store.due(0.0, LEASE, 10) is not None


# Clients that users have.


@pytest.mark.parametrize("protocol", [2, 3])
def test_both_protocols_are_spoken(real_server: Server, protocol: int) -> None:
    """If one of them were misread, users of it would see wrong times, lists or errors."""
    for source in (
        f"{real_server.url}?protocol={protocol}",
        redis.Redis.from_url(real_server.url, protocol=protocol, decode_responses=True),
    ):
        client = connect(source, REQUEST, "ckpt")
        assert client.connection_pool.connection_kwargs["protocol"] == protocol
        runner = Runner(source)
        try:
            world = World(client)
            job = world.made("running")
            job.save(1)
            assert world.store.read(job.id, ("status",)) is not None
            (entry,) = world.store.ids("running", limit=10)
            assert entry.job_id == job.id
            assert world.store.entered_at(job.id, "running") == entry.entered_at > 1e12
            assert len(world.store.history(job.id)) == 2
            assert world.store.due(0.0, LEASE, 10) is not None
            assert job.finish() == "finished"
            assert [found.id for found in runner.jobs()] == [job.id]
            check_server(world.store.sender)
            client.flushall()
        finally:
            runner.close()
            client.close()
            if isinstance(source, redis.Redis):
                source.close()


def test_a_client_that_decodes_is_only_a_description_of_the_server(server: Server) -> None:
    """If we used it as it is, bytes would arrive as text, and its timeouts and retries would be ours."""
    if server.name == "fakeredis":
        given = fakeredis.FakeRedis(
            server=server.source.connection_pool.connection_kwargs["server"], decode_responses=True
        )
    else:
        given = redis.Redis.from_url(server.url, decode_responses=True)
    before = dict(given.connection_pool.connection_kwargs)
    runner = Runner(given)
    try:
        job = contract_tasks.count.options(runner=runner, key="ü", labels={"who": "ä"}).start(3)
        assert runner.work("contract") == 1
        job = job.refresh()
        assert (job.status, job.result, job.key, job.labels) == ("finished", 3, "ü", {"who": "ä"})
        assert given.connection_pool.connection_kwargs == before
        assert given.get("nothing") is None
    finally:
        runner.close()
        given.close()


def connections(client: redis.Redis) -> int:
    return sum(str(entry["name"]).startswith("ckpt:") for entry in client.client_list())


def test_closing_a_runner_leaves_no_connection(real_server: Server) -> None:
    """If connections stayed, every reload of the web app would bring the server nearer to maxclients."""
    runner = Runner(real_server.url)
    contract_tasks.count.options(runner=runner).start(3)
    runner.work("contract")
    client = redis.Redis.from_url(real_server.url)
    try:
        assert connections(client) > 0
        runner.close()
        assert connections(client) == 0
    finally:
        client.close()


# A server with a password.


@pytest.fixture
def locked(real_server: Server) -> Iterator[Server]:
    """Each real server with the password "right"."""
    yield from _locked(real_server)


@pytest.fixture
def locked_valkey(valkey: Server) -> Iterator[Server]:
    """The embedded Valkey with the password "right"."""
    yield from _locked(valkey)


def _locked(server: Server) -> Iterator[Server]:
    client = redis.Redis.from_url(server.url, single_connection_client=True)
    client.ping()
    client.config_set("requirepass", "right")
    try:
        yield server
    finally:
        client.config_set("requirepass", "")
        client.close()


def with_password(server: Server, password: str) -> str:
    return server.url.replace("unix://", f"unix://:{password}@")


@pytest.mark.parametrize("password", ["wr0ng-s3cret", ""])
def test_a_wrong_password_is_one_clear_line_at_once(locked: Server, password: str) -> None:
    """If it were retried, a typo would look like an attack and lock the account; if it were shown, it would leak."""
    runner = Runner(with_password(locked, password) if password else locked.url)
    began = time.monotonic()
    try:
        with pytest.raises(RedisRefused, match="refused the user name or password") as caught:
            contract_tasks.count.options(runner=runner).start(3)
    finally:
        runner.close()
    assert time.monotonic() - began < 2.0
    assert "\n" not in str(caught.value)
    assert "wr0ng" not in str(caught.value)


def test_a_wrong_password_is_tried_once_per_command(locked: Server) -> None:
    """If redis-py's retries were on, each request would knock eleven times."""
    client = connect(with_password(locked, "right"), REQUEST, "ckpt")
    wrong = connect(with_password(locked, "wrong"), REQUEST, "ckpt")
    try:
        before = knocks(client)
        with pytest.raises(RedisRefused):
            Store(Sender(wrong, 5.0), KEYS).ids("queued", limit=1)
        assert knocks(client) - before == 1
    finally:
        client.close()
        wrong.close()


def knocks(client: redis.Redis) -> int:
    return int(client.info("stats")["total_connections_received"])


def test_the_right_password_is_enough(locked: Server) -> None:
    """If the password of the URL were lost on the way to our own connections, no secured server could be used."""
    runner = Runner(with_password(locked, "right"))
    try:
        job = contract_tasks.count.options(runner=runner).start(3)
        runner.work("contract")
        assert job.refresh().result == 3
    finally:
        runner.close()


def test_a_worker_with_a_wrong_password_ends_with_one_clear_line(locked_valkey: Server, tmp_path: Path) -> None:
    """If it went on trying, a deployment with a wrong secret would look as if it were up."""
    done = subprocess.run(
        [sys.executable, "-m", "checkpoint_runner", "worker", "contract"],
        env={
            **os.environ,
            "CHECKPOINT_RUNNER_REDIS_URL": with_password(locked_valkey, "wr0ng-s3cret"),
            "PYTHONPATH": str(Path(__file__).parents[2]),
        },
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=4,
        check=False,
    )
    assert done.returncode != 0
    assert "refused the user name or password" in done.stderr
    assert "Traceback" not in done.stderr
    assert "wr0ng" not in done.stderr


def test_a_url_that_makes_no_sense_is_refused_without_its_password() -> None:
    """If the URL were quoted in the error, a typo in the scheme would write the password into the log."""
    with pytest.raises(WrongSetting) as caught:
        Runner("http://:s3cret@localhost/0")
    assert "s3cret" not in str(caught.value)
