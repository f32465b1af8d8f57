"""A runner whose deliveries are run in this process, one at a time, and whose process may die."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from checkpoint_runner import specs
from checkpoint_runner.attempt import Attempt
from checkpoint_runner.deliveries import Delivery
from checkpoint_runner.delivery import run_delivery
from checkpoint_runner.durations import Duration
from checkpoint_runner.errors import WrongSetting, WrongUse
from checkpoint_runner.hosts import Host
from checkpoint_runner.recovery import recover
from checkpoint_runner.runner import Runner, default_for_now
from checkpoint_runner.sweep import Sweeper
from checkpoint_runner.testing.clock import Clock, RealClock
from checkpoint_runner.testing.faults import Died, FaultyStore, Storing

try:
    import fakeredis
except ModuleNotFoundError:
    raise WrongSetting(
        'The testing kit needs fakeredis, which is not installed: pip install "checkpoint-runner[testing]".'
    ) from None

REAL_LEASE = 1.0
"""Seconds that a lease holds on a real server, where no test can move the clock."""


class LocalRunner(Runner):
    """A runner for tasks that no worker elsewhere could find, such as those inside a test."""

    _runs_what_it_starts = True


class Bench:
    """Runs deliveries, each as if in a new process."""

    def __init__(self, runner: Runner, store: type[FaultyStore] = FaultyStore) -> None:
        self.runner = runner
        self.backend = runner._for_work()
        self.store = store(self.backend.sender, self.backend.keys)
        self.backend.store = self.store
        self.sweeper = Sweeper(self.backend)
        self.clock: Clock | RealClock = RealClock()
        self.server: fakeredis.FakeServer | None = None

    def deliver(
        self, attend: Callable[[Attempt], None], strike: Callable[[Storing], str] | None = None
    ) -> tuple[str, str] | None:
        """Run the next delivery; return the job's id and its new status, or None where nothing is queued.

        `attend` gets the attempt before it begins; `strike` gets whatever it stores.
        """
        delivery = self.take()
        if delivery is None:
            return None
        try:
            status = self.run(delivery.id, attend, strike)
        except Died:
            status = self.bury(delivery)
        self.store.forget_delivery(delivery.id)
        return delivery.job_id, status

    def run(
        self, delivery: str, attend: Callable[[Attempt], None], strike: Callable[[Storing], str] | None = None
    ) -> str:
        """Run the delivery of that id; return the job's new status. Raises Died."""
        self.store.revive(strike)
        return run_delivery(Host(self.backend, on_attempt=[attend]), delivery)

    def bury(self, delivery: Delivery) -> str:
        """Do for a process that was killed what its parent does; return the job's new status."""
        self.store.revive()
        cause = "the process was killed by the test"
        return recover(self.backend, delivery.job_id, delivery.attempt, delivery.id, cause, "crash")

    def deliver_again(self, attempt: Attempt) -> str:
        """Have a second delivery of the attempt that runs come to a worker; return what became of it."""
        return run_delivery(Host(self.backend), f"{attempt.lease.job_id}-{attempt.lease.attempt}-0")

    def take(self) -> Delivery | None:
        """Take the next delivery of any queue, or None."""
        keys = self.backend.keys
        lists = self.backend.sender.send(lambda client: client.smembers(keys.queues))
        queues = {*specs.queues(), *(str(name, "utf-8").removeprefix(keys.queue("")) for name in lists)}  # type: ignore[arg-type]
        popped = next(filter(None, map(self.store.pop_delivery, sorted(queues))), None)
        return None if popped is None else Delivery.parse(popped)


@contextmanager
def quiet() -> Iterator[None]:
    """Keep what faults on order make the library log out of the test's output, where it would bury the report."""
    log = logging.getLogger("checkpoint_runner")
    before = log.level
    log.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        log.setLevel(before)


@contextmanager
def bench_in_memory(*, grace: Duration | None = None) -> Iterator[Bench]:
    """A bench on a new server in memory, with a clock that can be moved; its runner is the default meanwhile."""
    server = fakeredis.FakeServer()
    bench = Bench(LocalRunner(fakeredis.FakeRedis(server=server), grace=grace))
    bench.server = server
    for backend in (bench.runner._backend, bench.backend):
        backend.sender.patience = 0.0  # what a server in memory does not answer now it will not answer later
    clock = bench.clock = Clock(bench.sweeper, bench.backend.settings.lease)
    try:
        with default_for_now(bench.runner), clock.running():
            yield bench
    finally:
        bench.runner.close()


@contextmanager
def bench_on(url: str) -> Iterator[Bench]:
    """A bench on an empty database of a real server, emptied afterwards; its runner is the default meanwhile.

    Raises WrongUse where the database is not empty.
    """
    bench = Bench(LocalRunner(url, lease=REAL_LEASE))
    client = bench.backend.client
    if found := client.dbsize():
        raise WrongUse(
            f"The database at {bench.backend.address} has {found} keys; expected an empty one, "
            "since it is emptied after each test. Give the tests a database of their own."
        )
    try:
        with default_for_now(bench.runner):
            yield bench
    finally:
        client.flushdb()
        bench.runner.close()
