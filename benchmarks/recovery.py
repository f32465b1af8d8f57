"""What a death costs, with real processes and a real server. Run it: python benchmarks/recovery.py [--runs N].

Every row has a limit; the exit code is 0 only if all of them hold. The workers are real ones, forked from one
warm process (so that fifty of them start at once on a small machine), each with horses of its own, on an
embedded Valkey with an append-only file. Moments are taken by this process, which looks every two milliseconds.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import redis

from checkpoint_runner import Job, Runner, Status, configure
from checkpoint_runner.embedded import EmbeddedValkey
from tests.process import process_tasks as tasks
from tests.process.conftest import ROOT, children

LOOK = 0.002
"""Seconds between two looks."""

PATIENCE = 20.0
"""Seconds after which a recovery is taken for one that does not come."""

FOR_EVER = 10**8

FLEET = """
import os, signal, sys
from checkpoint_runner import processes, specs
from checkpoint_runner.console import start_logging
from checkpoint_runner.settings import Settings
from checkpoint_runner.worker_process import run_worker

machine, count = sys.argv[1], int(sys.argv[2])
if machine:
    processes.host = lambda: machine
start_logging()
settings = Settings.read()
specs.load(settings.tasks)
for number in range(count):
    if os.fork() == 0:
        run_worker(settings, ())
        os._exit(0)
signal.pause()
"""
"""Forks so many workers, on a machine of that name (or this one), and waits to be killed."""


def await_that(condition: Callable[[], Any], within: float = PATIENCE) -> Any:
    """Return the condition's first true value, or its last one after so many seconds."""
    limit = time.monotonic() + within
    while not (value := condition()) and time.monotonic() < limit:
        time.sleep(LOOK)
    return value


class SideList:
    """What the items wrote: (job, item, attempt), in the order in which they began."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rows: list[tuple[str, int, int]] = []
        self._read = 0

    def look(self) -> list[tuple[str, int, int]]:
        """Read what is new, and return all."""
        if self.path.exists():
            with self.path.open("rb") as file:
                file.seek(self._read)
                new = file.read()
            new = new[: new.rfind(b"\n") + 1]
            self._read += len(new)
            for line in new.decode().splitlines():
                job, item, attempt = line.split(" ")
                self.rows.append((job, int(item), int(attempt)))
        return self.rows

    def of(self, job: Job[Any]) -> list[tuple[int, int]]:
        return [(item, attempt) for job_id, item, attempt in self.look() if job_id == job.id]

    def attempt(self, job: Job[Any]) -> int:
        """Return the number of the last attempt that began an item."""
        return max((attempt for _, attempt in self.of(job)), default=0)

    def late(self, job: Job[Any]) -> int:
        """Return how many items an older attempt began after a newer one's first."""
        newest = count = 0
        for _, attempt in self.of(job):
            count += attempt < newest
            newest = max(newest, attempt)
        return count

    def repeated(self, job: Job[Any]) -> int:
        return sum(times > 1 for times in Counter(item for item, _ in self.of(job)).values())


class Stage:
    """A server and a folder of its own for one row."""

    def __init__(self, folder: Path, lease: float) -> None:
        self.folder = folder
        self.lease = lease
        self.valkey = EmbeddedValkey(folder / "valkey")
        self.valkey.start()
        self.runner = configure(Runner(self.valkey.url))
        self.client = redis.Redis.from_url(self.valkey.url)
        self.list = SideList(folder / "items")
        self.fleets: list[subprocess.Popen[bytes]] = []

    def fleet(self, workers: int = 1, machine: str = "") -> subprocess.Popen[bytes]:
        """Start that many workers; return their parent, at once."""
        environ = {name: value for name, value in os.environ.items() if not name.startswith(("CHECKPOINT_", "RQ_"))}
        with (self.folder / "log").open("ab") as log:
            fleet = subprocess.Popen(
                [sys.executable, "-c", FLEET, machine, str(workers)],
                cwd=ROOT,
                env={
                    **environ,
                    "CHECKPOINT_RUNNER_REDIS_URL": self.valkey.url,
                    "CHECKPOINT_RUNNER_TASKS": "tests.process.process_tasks",
                    "CHECKPOINT_RUNNER_LEASE": str(self.lease),
                    "PYTHONPATH": str(ROOT),
                },
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self.fleets.append(fleet)
        return fleet

    def ready_fleet(self, workers: int = 1, machine: str = "") -> subprocess.Popen[bytes]:
        """Start that many workers and wait until they listen."""
        before = self.listening()
        fleet = self.fleet(workers, machine)
        assert await_that(lambda: len(self.listening() - before) >= workers, 60), "the workers listen"
        return fleet

    def listening(self) -> set[bytes]:
        return set(self.client.smembers("rq:workers"))  # type: ignore[arg-type]

    def start(self, count: int = FOR_EVER, pause: float = 0.01) -> Job[int]:
        return tasks.items.start(str(self.list.path), count, pause)

    def works(self, job: Job[Any], attempt: int, least: int = 5) -> None:
        """Wait until that attempt has done some items, and saved some."""
        assert await_that(lambda: sum(number == attempt for _, number in self.list.of(job)) >= least), "it works"
        first = next(item for item, number in self.list.of(job) if number == attempt)
        assert await_that(lambda: job.refresh().progress.done > first), "it saves"

    def holder(self, job: Job[Any]) -> int:
        """Return the pid of the horse that runs the job."""
        return int(self.client.hget(f"ckpt:job:{job.id}", "holder").decode().split("|")[3])  # type: ignore[union-attr]

    def until_attempt(self, job: Job[Any], attempt: int, since: float) -> float:
        """Return the seconds until an item of that attempt began; infinity where none did in time."""
        return time.monotonic() - since if await_that(lambda: self.list.attempt(job) >= attempt) else float("inf")

    def close(self) -> None:
        for fleet in self.fleets:
            for worker in children(fleet.pid):
                kill(signal.SIGKILL, *children(worker), worker)
            fleet.kill()
            fleet.wait()
        self.client.close()
        self.runner.close()
        self.valkey.stop()


@contextlib.contextmanager
def stage(lease: float = 10.0) -> Iterator[Stage]:
    with tempfile.TemporaryDirectory(prefix="ckpt-bench-") as folder:
        made = Stage(Path(folder), lease)
        try:
            yield made
        finally:
            made.close()


def kill(sig: signal.Signals, *pids: int) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, sig)


def parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text("utf-8").rsplit(")", 1)[1].split()[1])


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table: seconds (or counts), and whether the limit holds."""

    what: str
    cells: tuple[str, ...]
    limit: str
    holds: bool


def seconds_row(what: str, took: list[float], limit: float, of: str, *, also: str = "", holds: bool = True) -> Row:
    took = sorted(took)
    p50, p95 = (took[min(len(took) - 1, int(part * len(took)))] for part in (0.5, 0.95))
    figures = {"p95": p95, "max": took[-1]}
    cells = (str(len(took)), *(f"{value:.3f} s" for value in (p50, p95, took[-1])))
    return Row(what, cells, f"{of} {limit:g} s{also}", figures[of] <= limit and holds)


def horse_killed(runs: int) -> Row:
    with stage() as at:
        at.ready_fleet()
        job, took = at.start(), []
        for attempt in range(1, runs + 1):
            at.works(job, attempt)
            horse, since = at.holder(job), time.monotonic()
            kill(signal.SIGKILL, horse)
            took.append(at.until_attempt(job, attempt + 1, since))
            if took[-1] == float("inf"):
                break
    return seconds_row("horse killed -> next item", took, 0.2, "p95")


def both_killed(runs: int, machine: str, lease: float = 2.0) -> Row:
    """The worker that goes on is always of this machine; that which dies is of `machine` ("": this one too)."""
    with stage(lease) as at:
        took: list[float] = []
        at.ready_fleet(1, machine)
        for _ in range(runs):
            job = at.start()
            at.works(job, 1)
            horse = at.holder(job)
            worker = parent(horse)
            spare = at.ready_fleet()
            since = time.monotonic()
            kill(signal.SIGKILL, worker, horse)
            took.append(at.until_attempt(job, 2, since))
            job.cancel()
            await_that(lambda job=job: job.refresh().final)  # type: ignore[misc]
            kill(signal.SIGKILL, *children(spare.pid))
            if took.count(float("inf")) == 2:
                break
            at.ready_fleet(1, machine)
    where = "on another machine" if machine else "on this machine"
    return seconds_row(f"worker and horse killed {where} -> next item", took, lease + 1.5, "max")


def worker_killed(runs: int) -> Row:
    with stage() as at:
        job, took = at.start(), []
        for attempt in range(1, runs + 1):
            at.ready_fleet()
            at.works(job, attempt)
            horse = at.holder(job)
            since = time.monotonic()
            kill(signal.SIGKILL, parent(horse))
            key = f"ckpt:job:{job.id}"
            queued = await_that(lambda key=key: at.client.hget(key, "status") == b"queued")  # type: ignore[misc]
            took.append(time.monotonic() - since if queued else float("inf"))
            if took[-1] == float("inf"):
                break
        repeated = at.list.repeated(job)
    what = f"worker killed -> saved and queued again ({repeated} items repeated)"
    return seconds_row(what, took, 0.5, "max", also=", 0 repeated", holds=repeated == 0)


def all_killed(runs: int) -> Row:
    with stage() as at:
        job, took = at.start(), []
        for attempt in range(1, runs + 1):
            if attempt == 1:
                at.ready_fleet()
            at.works(job, attempt)
            horse = at.holder(job)
            kill(signal.SIGKILL, parent(horse), horse)
            before = at.listening()
            at.fleet()
            assert await_that(lambda before=before: at.listening() - before), "it has booted"  # type: ignore[misc]
            took.append(at.until_attempt(job, attempt + 1, time.monotonic()))
            if took[-1] == float("inf"):
                break
    return seconds_row("all killed, a new worker has booted -> next item", took, 2.0, "max")


def starts_with_keys() -> Row:
    with stage() as at:
        ids: list[tuple[int, str]] = []

        def start(thread: int) -> None:
            for number in range(20):
                key = (thread * 20 + number) % 100
                ids.append((key, tasks.items.options(key=str(key)).start("unused", 1).id))

        threads = [threading.Thread(target=start, args=(number,)) for number in range(50)]
        since = time.monotonic()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        took = time.monotonic() - since
        made, jobs = at.client.zcard("ckpt:status:queued"), len(set(ids))
        queued = at.client.llen("rq:queue:default")
    holds = (len(ids), jobs, made, queued) == (1000, 100, 100, 100)
    what = f"1,000 starts by 50 threads with 100 keys, in {took:.2f} s: jobs made"
    return Row(what, (str(len(ids)), str(made), "", ""), "exactly 100", holds)


def server_frozen(freezes: int, jobs: int = 50, lease: float = 3.0) -> Row:
    with stage(lease) as at:
        at.ready_fleet(jobs)
        started = [at.start(pause=0.2) for _ in range(jobs)]
        running = await_that(lambda: at.client.zcard("ckpt:status:running") == jobs, 60)
        assert running, "every job runs"
        assert at.valkey.pid is not None
        for _ in range(freezes):
            kill(signal.SIGSTOP, at.valkey.pid)
            time.sleep(5.0)
            kill(signal.SIGCONT, at.valkey.pid)
            time.sleep(2 * lease)  # as long as a lost lease needs to show
        after = [job.refresh() for job in started]
        lost = sum(job.lost for job in after)
        changed = sum(job.attempts != 1 or job.status is not Status.RUNNING for job in after)
    what = f"server frozen for 5 s, {jobs} jobs under {jobs} workers, lease {lease:g} s: leases lost"
    return Row(what, (str(freezes), str(lost), "", f"{changed} moved"), "exactly 0", lost == changed == 0)


def zombies(runs: int, at_once: int = 10, lease: float = 3.0) -> Row:
    """Freeze workers and horses for three leases while others take over; then let them wake up."""
    late = wrong = held = total = 0
    while total < runs:
        with stage(lease) as at:
            at.ready_fleet(at_once)
            jobs = [at.start(pause=0.02) for _ in range(at_once)]
            for job in jobs:
                at.works(job, 1)
            horses = [at.holder(job) for job in jobs]
            frozen = [pid for horse in horses for pid in (parent(horse), horse)]
            kill(signal.SIGSTOP, *frozen)
            since = time.monotonic()
            at.ready_fleet(at_once)
            for job in jobs:
                assert await_that(lambda job=job: at.list.attempt(job) == 2), "another takes over"  # type: ignore[misc]
            await_that(lambda since=since: time.monotonic() > since + 3 * lease)  # type: ignore[misc]
            before = [len(job.history()) for job in jobs]
            kill(signal.SIGCONT, *frozen)
            await_that(lambda horses=horses: not any(Path(f"/proc/{pid}").exists() for pid in horses), 5.0)  # type: ignore[misc]
            held += sum(Path(f"/proc/{pid}").exists() for pid in horses)
            for job, history in zip(jobs, before, strict=True):
                now = job.refresh()
                wrong += (now.status, now.attempts, now.lost) != (Status.RUNNING, 2, 1) or len(job.history()) != history
                late += max(0, at.list.late(job) - 1)
            total += at_once
    what = f"zombies after three leases ({late} items beyond those in flight, {held} that did not end): writes accepted"
    return Row(what, (str(total), str(wrong), "", ""), "exactly 0", wrong == late == held == 0)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--runs", type=int, default=30, help="how often each death is died (default 30)")
    runs = parser.parse_args().runs
    rungs: list[Callable[[], Row]] = [
        lambda: horse_killed(runs),
        lambda: both_killed(runs, ""),
        lambda: both_killed(runs, "elsewhere"),
        lambda: worker_killed(runs),
        lambda: all_killed(runs),
        starts_with_keys,
        lambda: server_frozen(max(1, runs // 10)),
        lambda: zombies(runs),
    ]
    print(f"{'what':104}{'runs':>6}{'p50':>11}{'p95':>11}{'max':>11}  limit")
    good = True
    for rung in rungs:
        row = rung()
        good = good and row.holds
        cells = f"{row.cells[0]:>6}" + "".join(f"{cell:>11}" for cell in row.cells[1:])
        print(f"{row.what:104}{cells}  {row.limit}: {'holds' if row.holds else 'BROKEN'}", flush=True)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
