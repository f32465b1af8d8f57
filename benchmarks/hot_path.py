"""What a checkpoint costs: an item of a loop, a save, a start. Run it: python benchmarks/hot_path.py [--quick].

Three costs have limits; the exit code is 0 only if all of them hold. The other rows are for information.
Everything runs on an embedded Valkey with an append-only file, and whatever is compared takes turns,
so that a busy machine hits both sides alike. What is measured here:

- an item: the best of several rounds, with and without `each`, in a real job (claimed in Redis, its pulse
  thread running) and in a direct call;
- a save: the median of the whole way from the published record to Redis' answer, and of the script's call
  alone, beside an EVALSHA of one HSET of as many bytes on the same connection;
- a start: the median of `task.start()` beside `rq.Queue.enqueue` of a function with the same arguments.
"""

from __future__ import annotations

import argparse
import itertools
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import ParamSpec, TypeVar

import measured_tasks as tasks
import redis
import rq

from checkpoint_runner import Runner, Task, processes
from checkpoint_runner.backend import Backend
from checkpoint_runner.clients import WORKER
from checkpoint_runner.embedded import EmbeddedValkey
from checkpoint_runner.journal import Extras, Journal, Place
from checkpoint_runner.lease import RedisLease
from checkpoint_runner.records import Level, Progress, Record, encode_record
from checkpoint_runner.scripts import script
from checkpoint_runner.settings import Settings

P = ParamSpec("P")
R = TypeVar("R")

EACH_LIMIT = 100.0
"""Nanoseconds that an item of `each` may cost more than one of a bare `for`."""

SAVE_LIMIT = 1.5
"""Times an EVALSHA of one HSET of the same size that a save may take."""

START_LIMIT = 1.0
"""Times an enqueue of RQ that a start may take."""

STATE_SIZE = 937
"""Bytes of state that make a record of 1 KB; its progress and checksum come on top, and the peer writes as much."""

HOLDER = processes.holder(f"{'j' * 32}-1-1")
"""As long as the holder of any real attempt."""


@dataclass(frozen=True, slots=True)
class Size:
    """How much is measured."""

    items: int
    counted: int
    rounds: int
    saves: int
    starts: int
    steps: int
    imports: int


FULL = Size(items=10_000_000, counted=500_000, rounds=5, saves=10_000, starts=4_000, steps=2_000, imports=15)
QUICK = Size(items=1_000_000, counted=50_000, rounds=7, saves=2_000, starts=1_000, steps=300, imports=3)


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table. Without a limit it is for information."""

    what: str
    measured: str
    peer: str
    verdict: str
    limit: str = ""
    ok: bool | None = None

    def cells(self) -> tuple[str, ...]:
        mark = "" if self.ok is None else "yes" if self.ok else "NO"
        return self.what, self.measured, self.peer, self.verdict, self.limit, mark


def main() -> int:
    """Measure, print the table, and return the exit code."""
    parser = argparse.ArgumentParser(description="What a checkpoint costs, and whether it is within the limits.")
    parser.add_argument("--quick", action="store_true", help="fewer items and calls: seconds instead of minutes")
    size = QUICK if parser.parse_args().quick else FULL
    with tempfile.TemporaryDirectory(prefix="hot-path-") as folder:
        server = EmbeddedValkey(Path(folder))
        runner = Runner(server.start())
        try:
            rows = [*saves(server.url, runner, size), *starts(server.url, runner, size), *loops(runner, size)]
            rows += [*states(runner, size), one_step(server.url, runner, size), imports(size)]
        finally:
            runner.close()
            server.stop()
    print_table(rows)
    return 0 if all(row.ok is not False for row in rows) else 1


def loops(runner: Runner, size: Size) -> Iterable[Row]:
    """An item of `each` while nobody reads the state."""
    in_job = run_as_job(runner, tasks.walk, size.items, size.rounds)
    directly = tasks.walk(size.items, size.rounds)
    for how, measured in (("job", in_job), ("direct call", directly)):
        for source, pairs in measured.items():
            yield item_row(f"each over {source}, {how}", pairs, size.items, limit=EACH_LIMIT)


def states(runner: Runner, size: Size) -> Iterable[Row]:
    """An item that counts in the state."""
    for kept in tasks.KEPT:
        pairs = run_as_job(runner, tasks.count, kept, size.counted, size.rounds)
        yield item_row(f"item with a state of {kept}", pairs, size.counted)


def saves(url: str, runner: Runner, size: Size) -> Iterable[Row]:
    """A save of 1 KB, through the journal and as the script alone, beside the least that a write can cost."""
    backend = Backend(url, Settings.read(url=url), WORKER)
    client = backend.client
    leases = [claim_new_job(backend, runner) for _ in range(2)]
    names = [[backend.keys.job(lease.job_id), backend.keys.steps(lease.job_id)] for lease in leases]
    journal = Journal(leases[0], 1, None)
    place = Place((), Level((), ""), size.saves)
    extras = Extras(b'"' + b"x" * STATE_SIZE + b'"')
    items, numbers = itertools.count(1), itertools.count(1)

    def whole() -> None:
        item = next(items)
        journal.newest = (place, item, item, extras)
        journal.save()

    record = Record(1, 1, place.position(1, 1), extras.state, Progress(1, size.saves))
    encoded = encode_record(record)
    save = script("save")

    def alone() -> None:
        fields = encoded.record, encoded.progress, encoded.checksum
        save.call(client, names[1], [1, HOLDER, next(numbers), *fields])

    hset = client.script_load("return redis.call('HSET', KEYS[1], 'record', ARGV[1])")
    value = b"x" * (len(encoded.record) + len(encoded.progress) + len(encoded.checksum))

    def least() -> None:
        client.evalsha(hset, 1, "peer:hash", value)

    try:
        peer, ours, script_only = take_turns(size.saves, least, whole, alone)
        stored = [int(client.hget(job, "seq") or 0) for job, _ in names]
        assert min(stored) > size.saves, f"saves that wrote nothing were measured: {stored}"
    finally:
        backend.close()
    yield call_row("save of 1 KB, from journal to answer", ours, peer, SAVE_LIMIT)
    yield call_row("save of 1 KB, the script's call alone", script_only, peer, SAVE_LIMIT)


def starts(url: str, runner: Runner, size: Size) -> Iterable[Row]:
    """A start beside an enqueue."""
    starter = tasks.started.options(runner=runner)
    with redis.Redis.from_url(url) as client:
        queue = rq.Queue("benchmark-rq", connection=client)
        enqueue, start = take_turns(
            size.starts,
            lambda: queue.enqueue(tasks.enqueued, "users.csv", limit=100),
            lambda: starter.start("users.csv", limit=100),
        )
        client.flushdb()  # these jobs are never run, and the next ones are to find an empty queue
    yield call_row("task.start(), beside rq.Queue.enqueue", start, enqueue, START_LIMIT)


def one_step(url: str, runner: Runner, size: Size) -> Row:
    """A step with a result of one number, beside an EVALSHA of one HSET."""
    peer, ours = zip(*run_as_job(runner, tasks.steps, url, size.steps), strict=True)
    return call_row("step, beside an EVALSHA of one HSET", ours, peer)


def imports(size: Size) -> Row:
    """What a web process imports to start jobs, beside importing RQ; the interpreter's own start is taken off."""
    programs = ("pass", "import rq", "from checkpoint_runner import Runner, checkpointed")
    calls = [
        lambda program=program: subprocess.run([sys.executable, "-c", program], check=True) for program in programs
    ]
    nothing, peer, ours = (min(times) for times in take_turns(size.imports, *calls))
    ours, peer = ours - nothing, peer - nothing
    return Row("import, beside rq", f"{ours * 1e3:.0f} ms", f"{peer * 1e3:.0f} ms", f"x {ours / peer:.2f}")


def run_as_job(runner: Runner, task: Task[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """Run a task as a real job in this process: started, delivered, claimed, with its pulse; return its result."""
    job = task.options(runner=runner).start(*args, **kwargs)
    runner.work("benchmark")
    return job.wait(timeout=0)


def take_turns(rounds: int, *calls: Callable[[], object]) -> list[list[float]]:
    """Time the calls in turn, each round in a random order; return the seconds of each call."""
    times: list[list[float]] = [[] for _ in calls]
    for call in calls:
        call()  # connects, loads scripts, fills caches
    order = list(zip(calls, times, strict=True))
    for _ in range(rounds):
        random.shuffle(order)
        for call, spent in order:
            began = time.perf_counter()
            call()
            spent.append(time.perf_counter() - began)
    return times


def claim_new_job(backend: Backend, runner: Runner) -> RedisLease:
    """Start a job and claim it, as a worker does; return the right to write its checkpoints."""
    job = tasks.started.options(runner=runner).start("users.csv", limit=100)
    claim = backend.store.claim(job.id, 1, HOLDER, backend.settings.lease, 1, until=time.monotonic() + 5.0)
    assert not isinstance(claim, str), f"the job could not be claimed: it is {claim}"
    return RedisLease(backend.store, job.id, 1, HOLDER, backend.settings.lease)


def item_row(what: str, pairs: tasks.Pairs, items: int, limit: float | None = None) -> Row:
    """Compare the best rounds, per item."""
    bare, ours = (min(times) / items * 1e9 for times in zip(*pairs, strict=True))
    more = ours - bare
    return Row(
        what,
        f"{ours:.0f} ns",
        f"{bare:.0f} ns",
        f"+ {more:.0f} ns",
        "" if limit is None else f"+ {limit:.0f} ns",
        None if limit is None else more <= limit,
    )


def call_row(what: str, ours: Sequence[float], peer: Sequence[float], limit: float | None = None) -> Row:
    """Compare the medians."""
    ratio = median(ours) / median(peer)
    return Row(
        what,
        f"{median(ours) * 1e6:.0f} us",
        f"{median(peer) * 1e6:.0f} us",
        f"x {ratio:.2f}",
        "" if limit is None else f"x {limit:.2f}",
        None if limit is None else ratio <= limit,
    )


def print_table(rows: list[Row]) -> None:
    """Print the rows in columns."""
    table = [("what", "measured", "peer", "compared", "limit", "ok"), *(row.cells() for row in rows)]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for first, *rest in table:
        print(
            first.ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(rest, widths[1:], strict=True)), sep="  "
        )


if __name__ == "__main__":
    sys.exit(main())
