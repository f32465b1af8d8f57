"""The pytest plugin: the fixture `checkpoints`. It imports nothing of the library until the fixture is used."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from checkpoint_runner.testing.checkpoints import Checkpoints

OPTION = "--checkpoints-server"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Let the same tests run on a real server."""
    parser.getgroup("checkpoint_runner").addoption(
        OPTION,
        metavar="SERVER",
        default="memory",
        help="where the fixture `checkpoints` keeps its jobs: memory (fakeredis, the default), embedded (a Valkey "
        "server of its own), or the URL of an empty Redis database, which is emptied after each test",
    )


@pytest.fixture(scope="session")
def _checkpoints_url(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The real server's URL; "" for one in memory."""
    server = str(request.config.getoption(OPTION, "memory"))
    if server == "memory":
        yield ""
    elif server == "embedded":
        from checkpoint_runner.embedded import EmbeddedValkey

        valkey = EmbeddedValkey(tmp_path_factory.mktemp("valkey"))
        yield valkey.start()
        valkey.stop()
    else:
        from checkpoint_runner.testing.databases import own_database

        yield own_database(server, os.environ.get("PYTEST_XDIST_WORKER", ""))


@pytest.fixture
def checkpoints(_checkpoints_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Checkpoints]:
    """A runner on a server of this test's own, with a clock to move and faults to order."""
    from checkpoint_runner.specs import forgetting_local_tasks
    from checkpoint_runner.testing.bench import bench_in_memory, bench_on
    from checkpoint_runner.testing.checkpoints import Checkpoints

    for name in [name for name in os.environ if name.startswith("CHECKPOINT_RUNNER_")]:
        monkeypatch.delenv(name)
    bench_here = bench_on(_checkpoints_url) if _checkpoints_url else bench_in_memory()
    with forgetting_local_tasks(), bench_here as bench:
        made = Checkpoints(bench)
        yield made
        made.require_orders_kept()
