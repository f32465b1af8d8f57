"""Servers for the contract tests: a test double and the real ones, the same tests on each."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fakeredis
import pytest
import redis

from checkpoint_runner.clients import WORKER, connect
from checkpoint_runner.embedded import EmbeddedValkey
from tests.contract.contract_world import World


@dataclass(frozen=True)
class Server:
    """One server: its name in the test ids, and what `connect` takes for it."""

    name: str
    source: Any

    @property
    def url(self) -> str:
        assert isinstance(self.source, str)
        return self.source


@pytest.fixture(scope="session")
def valkey_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = EmbeddedValkey(tmp_path_factory.mktemp("valkey"))
    try:
        yield Server("valkey", server.start())
    finally:
        server.stop()


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    binary = shutil.which("redis-server")
    if binary is None:
        pytest.skip("there is no redis-server on the PATH")
    folder = tmp_path_factory.mktemp("r")
    process = subprocess.Popen(
        [binary, "--port", "0", "--unixsocket", str(folder / "s"), "--dir", str(folder), "--save", ""],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        _await_socket(folder / "s", process)
        yield Server("redis", f"unix://{folder / 's'}")
    finally:
        process.terminate()
        process.wait(10)


@pytest.fixture(params=["fakeredis", "valkey", "redis"])
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    """Each kind of server in turn, empty."""
    if request.param == "fakeredis":
        yield Server("fakeredis", fakeredis.FakeRedis(server=fakeredis.FakeServer()))
    else:
        yield from _emptied(request.getfixturevalue(f"{request.param}_server"))


@pytest.fixture(params=["valkey", "redis"])
def real_server(request: pytest.FixtureRequest) -> Iterator[Server]:
    """Each real server in turn, empty."""
    yield from _emptied(request.getfixturevalue(f"{request.param}_server"))


@pytest.fixture
def valkey(valkey_server: Server) -> Iterator[Server]:
    """The embedded Valkey, empty."""
    yield from _emptied(valkey_server)


@pytest.fixture
def world(server: Server) -> Iterator[World]:
    """A world on each kind of server; what must always hold is looked at again at the end."""
    yield from _world_on(server)


@pytest.fixture
def real_world(real_server: Server) -> Iterator[World]:
    """A world on each real server."""
    yield from _world_on(real_server)


def _world_on(server: Server) -> Iterator[World]:
    client = connect(server.source, WORKER, "ckpt")
    world = World(client)
    try:
        yield world
        world.check()
    finally:
        client.close()
        client.connection_pool.disconnect()


def _emptied(server: Server) -> Iterator[Server]:
    client = redis.Redis.from_url(server.url)
    try:
        client.flushall()
        yield server
    finally:
        client.flushall()
        client.close()


def _await_socket(path: Path, process: subprocess.Popen[bytes]) -> None:
    limit = time.monotonic() + 10.0
    client = redis.Redis(unix_socket_path=str(path))
    try:
        while True:
            try:
                client.ping()
                return
            except redis.exceptions.ConnectionError:
                assert process.poll() is None, "redis-server ended"
                assert time.monotonic() < limit, "redis-server did not come up"
    finally:
        client.close()
