"""Real parts: a Valkey server, worker processes, signals; everything started here is stopped by its pid."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from checkpoint_runner import Runner, configure
from checkpoint_runner.embedded import EmbeddedValkey

ROOT = Path(__file__).parents[2]
TASKS = "tests.process.process_tasks"


def eventually(condition: Callable[[], Any], *, within: float = 15.0, what: str = "") -> Any:
    """Return the condition's first true value; fail where there is none within so many seconds."""
    limit = time.monotonic() + within
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > limit:
            raise AssertionError(f"not within {within} s: {what or condition}")
        time.sleep(0.01)


class Processes:
    """Starts programs of ours, each in a session of its own, and sees to it that all are gone in the end."""

    def __init__(self, url: str, folder: Path) -> None:
        self.url = url
        self.folder = folder
        self.started: list[subprocess.Popen[bytes]] = []
        self.environ = {
            **{
                name: value
                for name, value in os.environ.items()
                if not name.startswith(("CHECKPOINT_", "RQ_", "REDIS_"))
            },
            "CHECKPOINT_RUNNER_REDIS_URL": url,
            "CHECKPOINT_RUNNER_TASKS": TASKS,
            "PYTHONPATH": str(ROOT),
            "PYTHONUNBUFFERED": "1",
        }

    def start(self, *arguments: str, name: str, **environ: str) -> subprocess.Popen[bytes]:
        """Start a program; its output goes to `<name>.log`."""
        with (self.folder / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(
                arguments,
                cwd=ROOT,
                env={**self.environ, **environ},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self.started.append(process)
        return process

    def worker(self, *arguments: str, name: str = "worker", **environ: str) -> subprocess.Popen[bytes]:
        """Start `checkpoint-runner worker` and wait until it listens."""
        already = self.listening()
        process = self.start(sys.executable, "-m", "checkpoint_runner", "worker", *arguments, name=name, **environ)
        eventually(lambda: self.listening() - already or process.poll() is not None, what=f"{name} listens")
        assert process.poll() is None, self.log(name)
        return process

    def listening(self) -> set[bytes]:
        """Return the RQ workers that have registered."""
        return {bytes(name) for name in self.client.smembers("rq:workers")}

    def log(self, name: str) -> str:
        return (self.folder / f"{name}.log").read_text("utf-8", "replace")

    @property
    def client(self) -> Any:
        import redis

        if not hasattr(self, "_client"):
            self._client = redis.Redis.from_url(self.url)
        return self._client

    def connections(self) -> list[str]:
        """Return the names of the connections that the server has, without this test's own."""
        names = [str(entry["name"]) for entry in self.client.client_list()]
        return [name for name in names if name.startswith("ckpt:") and not name.endswith(f":{os.getpid()}")]

    def stop_all(self) -> None:
        for process in self.started:
            for pid in descendants(process.pid):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            if process.poll() is None:
                process.kill()
            process.wait()
        if hasattr(self, "_client"):
            self._client.close()
            self._client.connection_pool.disconnect()


def send(sig: signal.Signals, *pids: int) -> None:
    """Send a signal to several processes, one after the other: those told first may have ended others by then."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, sig)


def children(pid: int) -> list[int]:
    """Return the pids of a process's children."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError, IndexError):
                stat = (entry / "stat").read_text("utf-8", "replace")
                if int(stat.rsplit(")", 1)[1].split()[1]) == pid:
                    found.append(int(entry.name))
    return found


def descendants(pid: int) -> list[int]:
    """Return the pids of everything below a process, deepest last."""
    found = []
    for child in children(pid):
        found += [child, *descendants(child)]
    return found


def items_of(path: Path, job_id: str | None = None) -> Counter[str]:
    """Return how often each item of a job (of the only one, by default) was begun."""
    return Counter(item for job, item in _begun(path) if job_id in (None, job))


def repeated(path: Path) -> int:
    """Return how many items, of whatever job, were begun more than once."""
    return sum(times > 1 for times in Counter(_begun(path)).values())


def _begun(path: Path) -> list[tuple[str, str]]:
    if not path.exists():
        return []
    rows = [line.split(" ") for line in path.read_text("utf-8").splitlines()]
    return [(job, item) for job, item, _ in rows]


@pytest.fixture
def valkey(tmp_path: Path) -> Iterator[EmbeddedValkey]:
    server = EmbeddedValkey(tmp_path / "valkey")
    server.start()
    yield server
    server.stop()


@pytest.fixture
def processes(valkey: EmbeddedValkey, tmp_path: Path) -> Iterator[Processes]:
    started = Processes(valkey.url, tmp_path)
    yield started
    started.stop_all()


@pytest.fixture
def real_runner(valkey: EmbeddedValkey) -> Iterator[Runner]:
    runner = configure(Runner(valkey.url))
    yield runner
    runner.close()


@pytest.fixture
def race_runs() -> int:
    """How often a race is run: often enough to see a common one here, in full by `make test-deep`."""
    return int(os.environ.get("CHECKPOINT_RUNNER_RACE_RUNS", "6"))
