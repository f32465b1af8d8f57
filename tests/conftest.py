"""What every test may use: a server of its own, a runner on it, and a worker that can be interrupted."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import fakeredis
import pytest

from checkpoint_runner import Interruption, Runner, configure, events, specs
from checkpoint_runner import runner as runner_module
from checkpoint_runner.attempt import Attempt
from checkpoint_runner.clients import Sender
from checkpoint_runner.delivery import Host, run_delivery
from checkpoint_runner.interruptions import Reason
from checkpoint_runner.keys import Keys
from checkpoint_runner.store import Store

COUNTED = ("crash points", "lost replies")
"""What the enumerating rungs of the ladder count, as properties of their tests."""


class Done(list[Any]):
    """What the items of a task did. A test can have something happen when it has grown to a length."""

    def __init__(self) -> None:
        super().__init__()
        self._length: int | None = None
        self._then: Callable[[], Any] = lambda: None

    def at(self, length: int | None, then: Callable[[], Any]) -> None:
        """Call `then` when the list reaches that length."""
        self._length, self._then = length, then

    def append(self, item: Any) -> None:
        super().append(item)
        if len(self) == self._length:
            self._then()

    def reset(self) -> None:
        self.clear()
        self.at(None, lambda: None)


done = Done()
"""Tasks in the tests write down here what they did; it is empty when a test begins."""


class Worker:
    """Runs deliveries in this process, one at a time, and can interrupt the one it runs."""

    def __init__(self, runner: Runner) -> None:
        self.backend = runner._for_work()
        self.attempts: list[Attempt] = []

    def run(self, *, stop_after: int | None = None, reason: Reason = Reason.SHUTDOWN, grace: float = 20.0) -> str:
        """Run the next delivery; return the job's new status, or "" where nothing was queued.

        The task is asked to stop when it has appended `stop_after` things to `done`; 0 asks it
        before it begins.
        """
        return self.run_and(
            lambda attempt: attempt.stop(Interruption(reason, time.monotonic() + grace)), after=stop_after
        )

    def run_and(self, then: Callable[[Attempt], Any], *, after: int | None) -> str:
        """Run the next delivery, and call `then(attempt)` when `after` more things are done."""
        delivery = self._next()
        if delivery is None:
            return ""

        def attend(attempt: Attempt) -> None:
            self.attempts.append(attempt)
            if after == 0:
                then(attempt)
            done.at(len(done) + after if after else None, lambda: then(attempt))

        try:
            return run_delivery(Host(self.backend, on_attempt=[attend]), delivery)
        finally:
            done.at(None, lambda: None)
            self.backend.client.delete(self.backend.keys.delivery(delivery))

    def run_until_idle(self, *, stop_after: int | None = None, at_most: int = 200) -> list[str]:
        """Run deliveries until none is left, each interrupted after `stop_after`; return the statuses."""
        statuses: list[str] = []
        while len(statuses) < at_most and (status := self.run(stop_after=stop_after)):
            statuses.append(status)
        return statuses

    def _next(self) -> str | None:
        for queue in specs.queues():
            popped = self.backend.client.lpop(self.backend.keys.queue(queue))
            if popped is not None:
                return popped.decode()
        return None


@pytest.fixture(autouse=True)
def _nothing_done() -> Iterator[None]:
    done.reset()
    yield
    done.reset()


@pytest.fixture
def server() -> fakeredis.FakeServer:
    """A Redis server of this test's own, in memory."""
    return fakeredis.FakeServer()


@pytest.fixture
def redis_client(server: fakeredis.FakeServer) -> Iterator[fakeredis.FakeRedis]:
    """A plain client, to look at what is stored."""
    client = fakeredis.FakeRedis(server=server)
    yield client
    client.close()


@pytest.fixture
def runner(server: fakeredis.FakeServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[Runner]:
    """The default runner of this test."""
    for name in ("CHECKPOINT_RUNNER_REDIS_URL", "CHECKPOINT_RUNNER_TASKS", "CHECKPOINT_RUNNER_NAMESPACE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(runner_module, "_default", None)
    made = configure(Runner(fakeredis.FakeRedis(server=server)))
    yield made
    leaked = keys_left(server)
    made.close()
    assert leaked == [], "keys stay in Redis although every job was removed"


def keys_left(server: fakeredis.FakeServer) -> list[str]:
    """Remove every job as the sweep does after its retention, and return the keys that are still there."""
    client = fakeredis.FakeRedis(server=server)
    for key in client.keys("*:job:*"):
        namespace, _, job_id = key.decode().partition(":job:")
        if client.type(key) == b"hash" and ":" not in job_id and namespace != "rq":
            store = Store(Sender(client, 1.0), Keys(namespace, "rq"))
            client.hset(key, "status", "finished")
            client.zadd(store.keys.agenda, {job_id: 0})
            store.remove(job_id, asked=False)
    everywhere = ("agenda", "sweep", "taken")  # what belongs to no job; an empty agenda is no key
    left = [key.decode() for key in client.keys("*")]
    return sorted(key for key in left if not key.startswith("rq:") and key.rpartition(":")[2] not in everywhere[1:])


@pytest.fixture
def worker(runner: Runner) -> Worker:
    """A worker that runs one delivery at a time and can be told to interrupt it."""
    return Worker(runner)


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> dict[str, specs.TaskSpec]:
    """The register of tasks; what a test declares is forgotten after it."""
    copy = dict(specs._by_name)
    monkeypatch.setattr(specs, "_by_name", copy)
    return copy


@pytest.fixture
def seen(request: pytest.FixtureRequest) -> Iterator[list[events.Event]]:
    """The events of this process, from now on."""
    collected: list[events.Event] = []
    unsubscribe = events.subscribe(collected.append)
    yield collected
    unsubscribe()


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Say how many faults were tried."""
    counts: Counter[str] = Counter()
    for report in terminalreporter.getreports("passed"):
        for name, value in report.user_properties:
            if name in COUNTED:
                counts[name] += value
    if counts:
        terminalreporter.write_line(", ".join(f"{name}: {counts[name]}" for name in COUNTED if counts[name]))
