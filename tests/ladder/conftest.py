"""A server and a warm process for the enumerating rungs, and the count of what they enumerated."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from checkpoint_runner import configure
from checkpoint_runner import runner as runner_module
from checkpoint_runner.embedded import EmbeddedValkey
from tests.ladder.ladder_tasks import notebook
from tests.ladder.ladder_world import World
from tests.ladder.victims import WarmProcess


@pytest.fixture(scope="package")
def ladder_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a real Valkey that the rungs of this process share, one test after the other."""
    server = EmbeddedValkey(tmp_path_factory.mktemp("ladder"))
    try:
        yield server.start()
    finally:
        server.stop()


@pytest.fixture(scope="package")
def warm_process() -> Iterator[WarmProcess]:
    process = WarmProcess()
    try:
        yield process
    finally:
        process.stop()


@pytest.fixture
def ladder_world(ladder_server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    """An empty world; the tasks that run in this process write into a notebook of this test."""
    monkeypatch.setattr(runner_module, "_default", None)
    monkeypatch.setattr(notebook, "path", tmp_path / "notebook")
    world = World(ladder_server)
    configure(world.runner)
    world.reset(cold=True)
    try:
        yield world
    finally:
        world.client.flushall()
        world.close()
