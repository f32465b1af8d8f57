"""Chaos with a history check: a whole deployment under random kills, and afterwards every line is accounted for.

    python -m tests.ladder.chaos --seconds 600 --seed 7

Forty jobs note each item (and each save that the server acknowledged) in side lists while horses, workers,
gunicorn and the server are killed, frozen and replaced. Then everything is let run to its end, and the
lists tell whether an item is missing, whether an older attempt wrote after a newer one, and whether more was
repeated than a death may cost. Exit code 0 only where all of it held.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import json
import os
import random
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import redis
from rq import Queue

from checkpoint_runner import Job, Runner, Status
from checkpoint_runner.embedded import EmbeddedValkey
from checkpoint_runner.errors import CheckpointRunnerError, NotPossibleNow, RedisUnavailable
from checkpoint_runner.leftovers import clear_leftovers
from tests.ladder import chaos_tasks
from tests.process.conftest import ROOT

JOBS = 40
WORKERS = 6
LEASE = 2.0
GRACE = 5.0
SAVE_EVERY = 1.0
SLACK = 1.0
"""Seconds by which a save may be late on a busy machine."""

MEAN_ITEM = 0.0125
SHARE = 0.6
"""The part of the workers' time that is expected to go into items while everything is being killed."""

SETTLE = 240.0
"""Seconds for everything to run to its end when the chaos is over; a queue's last look at a delivery may take most."""

PACES = (0.15, 0.9)
"""Seconds between two faults."""

KINDS = {
    "horse SIGKILL": 8,
    "worker SIGKILL": 4,
    "worker and horse SIGKILL": 2,
    "worker SIGTERM": 2,
    "worker and horse SIGSTOP": 1,
    "supervisor SIGKILL": 1,
    "gunicorn SIGKILL": 1,
    "gunicorn SIGHUP": 1,
    "server SIGKILL": 2,
    "server SIGSTOP": 2,
    "pause and resume": 2,
}
"""What can happen, and how often in proportion."""

BOOKKEEPING = frozenset({b"ckpt:sweep", b"ckpt:taken", b"rq:queues"})
"""Keys of a fixed size that are nobody's job."""

Span = tuple[float, float]


def await_that(condition: Callable[[], Any], within: float) -> Any:
    """Return the condition's first true value, or its last one after so many seconds."""
    limit = time.monotonic() + within
    while not (value := condition()) and time.monotonic() < limit:
        time.sleep(0.02)
    return value


# The deployment.


@dataclass(frozen=True)
class Seen:
    """A process of this run, as /proc shows it."""

    pid: int
    parent: int
    role: str


class Fleet:
    """A server, gunicorn with job workers, a supervisor of two workers and two workers alone; kept running."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.valkey = EmbeddedValkey(folder / "valkey")
        self.valkey.start()
        self.lists = folder / "lists"
        self.lists.mkdir()
        self.socket = folder / "web.sock"
        self.token = secrets.token_hex(8)
        self._worker = [sys.executable, "-m", "checkpoint_runner", "worker"]
        self._programs = {
            "worker one": self._worker,
            "worker two": self._worker,
            "supervisor": [*self._worker, "--processes", "2"],
            "gunicorn": [
                *(sys.executable, "-m", "gunicorn", "-c", "python:checkpoint_runner.gunicorn_conf"),
                *("-k", "gthread", "-w", "1", "--threads", "4", "-b", f"unix:{self.socket}", "--no-control-socket"),
                *("--graceful-timeout", str(int(GRACE) + 2), "tests.ladder.chaos_tasks:app"),
            ],
        }
        self.running: dict[str, subprocess.Popen[bytes]] = {}
        self.last_code: dict[str, int] = {}
        self.keep_running()

    def keep_running(self) -> None:
        """Start what is not there, as a service manager does."""
        for name in self._programs:
            process = self.running.get(name)
            if process is None or process.poll() is not None:
                self.running[name] = self._start(name)

    def _start(self, name: str) -> subprocess.Popen[bytes]:
        clean = {
            name: value for name, value in os.environ.items() if not name.startswith(("CHECKPOINT_", "RQ_", "REDIS_"))
        }
        environ = {
            "CHECKPOINT_RUNNER_REDIS_URL": self.valkey.url,
            "CHECKPOINT_RUNNER_TASKS": "tests.ladder.chaos_tasks",
            "CHECKPOINT_RUNNER_LEASE": str(LEASE),
            "CHECKPOINT_RUNNER_GRACE": str(GRACE),
            "CHECKPOINT_RUNNER_WORKERS": "2" if name == "gunicorn" else "0",
            "PYTHONPATH": str(ROOT),
            "PYTHONUNBUFFERED": "1",
            "CHAOS_RUN": self.token,
            chaos_tasks.FOLDER: str(self.lists),
        }
        with (self.folder / f"{name}.log").open("ab") as log:
            return subprocess.Popen(
                self._programs[name],
                cwd=ROOT,
                env={**clean, **environ},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def seen(self) -> list[Seen]:
        """Return every process that descends from what was started here, wherever it hangs by now."""
        found: dict[int, tuple[int, str]] = {}
        mark = f"CHAOS_RUN={self.token}".encode()
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit():
                continue
            with contextlib.suppress(OSError, ValueError, IndexError):
                if mark in (entry / "environ").read_bytes():
                    stat = (entry / "stat").read_text("utf-8", "replace").rsplit(")", 1)[1].split()
                    if stat[0] not in "ZX":
                        command = (entry / "cmdline").read_bytes().decode("utf-8", "replace")
                        found[int(entry.name)] = (int(stat[1]), command)
        return [Seen(pid, parent, self._role(parent, command, found)) for pid, (parent, command) in found.items()]

    @staticmethod
    def _role(parent: int, command: str, found: dict[int, tuple[int, str]]) -> str:
        above = found.get(parent, (0, ""))[1]
        if "gunicorn" in command:
            return "web" if "gunicorn" in above else "gunicorn"
        if "--processes" in command:
            return "supervisor"
        return "horse" if "worker" in above and "--processes" not in above else "worker"

    def post(self, path: str) -> str | None:
        """Send a request to the web app; return the job's id, or None where there was no good answer."""
        connection = _UnixConnection(str(self.socket))
        try:
            connection.request("POST", path)
            answer = connection.getresponse()
            return str(json.load(answer)["id"]) if answer.status == 202 else None
        except (OSError, http.client.HTTPException, ValueError):
            return None
        finally:
            connection.close()

    def stop(self) -> list[str]:
        """Stop everything but the server in order; return what did not go as promised."""
        began = time.monotonic()
        wrong = []
        for process in self.running.values():
            if process.poll() is None:
                process.terminate()
        for name, process in self.running.items():
            try:
                process.wait(max(0.1, began + GRACE + 3.0 - time.monotonic()))
            except subprocess.TimeoutExpired:
                wrong.append(f"{name} did not stop within its grace")
        left = await_that(lambda: not self.seen(), within=2.0) or self.seen()
        if left is not True:
            wrong += [f"process left: {seen}" for seen in left]
        return wrong

    def kill(self) -> None:
        """End whatever is left, by pid."""
        for seen in self.seen():
            with contextlib.suppress(ProcessLookupError):
                os.kill(seen.pid, signal.SIGKILL)
        for process in self.running.values():
            process.wait()
        self.valkey.kill()


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=5.0)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(5.0)
        self.sock.connect(self._path)


# What is done to it.


class Faults:
    """Kills, freezes and replaces parts of the fleet, one after the other, by a seed."""

    def __init__(self, fleet: Fleet, dice: random.Random, jobs: Callable[[], list[str]], runner: Runner) -> None:
        self.fleet = fleet
        self.done: Counter[str] = Counter()
        self.outages: list[Span] = []
        self._dice = dice
        self._jobs = jobs
        self._runner = runner
        self._later: list[tuple[float, Callable[[], None]]] = []
        self._server_away = False
        self._frozen = False

    def strike(self) -> None:
        """Let one thing happen; a kind for which nothing is there to be hit counts for nothing."""
        kind = self._dice.choices(list(KINDS), list(KINDS.values()))[0]
        what, _, how = kind.rpartition(" ")
        if what == "server":
            hit = self._server(how)
        elif what == "pause and":
            hit = self._pause_and_resume()
        elif how == "SIGSTOP":
            hit = self._freeze()
        else:
            hit = self._signal(what, signal.Signals[how])
        self.done[kind] += hit

    def tick(self) -> None:
        """Do what is due: servers come back, frozen processes thaw."""
        now = time.monotonic()
        due = [then for at, then in self._later if at <= now]
        self._later = [entry for entry in self._later if entry[0] > now]
        for then in due:
            then()

    def end(self) -> None:
        """Let everything come back now."""
        later, self._later = self._later, []
        for _, then in later:
            then()

    def _in(self, least: float, most: float, then: Callable[[], None]) -> None:
        self._later.append((time.monotonic() + self._dice.uniform(least, most), then))

    def _one(self, role: str) -> tuple[Seen, list[Seen]] | None:
        """Return one process of that role and its children."""
        seen = self.fleet.seen()
        ones = sorted((one for one in seen if one.role == role), key=lambda one: one.pid)
        if not ones:
            return None
        one = self._dice.choice(ones)
        return one, [child for child in seen if child.parent == one.pid]

    def _signal(self, what: str, sig: signal.Signals) -> bool:
        found = self._one(what.split(" ", maxsplit=1)[0])
        if found is None:
            return False
        one, children = found
        _send(sig, [one, *(children if "and" in what else [])])
        return True

    def _freeze(self) -> bool:
        """Make a zombie: a worker and its horse stand still for some leases, and then go on as if nothing was."""
        found = None if self._frozen else self._one("worker")
        if found is None:
            return False
        those = [found[0], *found[1]]
        _send(signal.SIGSTOP, those)
        self._frozen, began = True, time.monotonic()

        def thaw() -> None:
            _send(signal.SIGCONT, those)
            self._frozen = False
            self.outages.append((began, time.monotonic()))

        self._in(1.5 * LEASE, 3 * LEASE, thaw)
        return True

    def _server(self, how: str) -> bool:
        valkey = self.fleet.valkey
        if self._server_away or valkey.pid is None:
            return False
        self._server_away, began, pid = True, time.monotonic(), valkey.pid

        def back() -> None:
            if how == "SIGKILL":
                valkey.start()
            else:
                os.kill(pid, signal.SIGCONT)
            self._server_away = False
            self.outages.append((began, time.monotonic()))

        if how == "SIGKILL":
            valkey.kill()
            self._in(0.0, 2.0, back)
        else:
            os.kill(pid, signal.SIGSTOP)
            self._in(0.5, 2 * LEASE, back)
        return True

    def _pause_and_resume(self) -> bool:
        ids = self._jobs()
        if not ids or self._server_away:
            return False
        job_id = self._dice.choice(ids)
        with contextlib.suppress(RedisUnavailable, NotPossibleNow):
            self._runner.job(job_id).pause()
            self._in(0.0, 2.0, lambda: self._resume(job_id))
            return True
        return False

    def _resume(self, job_id: str) -> None:
        with contextlib.suppress(RedisUnavailable, NotPossibleNow):  # it is resumed again in the end
            self._runner.job(job_id).resume()


def _send(sig: signal.Signals, to: list[Seen]) -> None:
    for one in to:
        with contextlib.suppress(ProcessLookupError):
            os.kill(one.pid, sig)


# What must be true afterwards.


@dataclass(frozen=True)
class Line:
    """One line of a side list; `number` is an item, or how many are safe."""

    kind: str
    attempt: int
    number: int
    at: float
    pid: int


@dataclass
class Account:
    """What the side lists of all jobs add up to."""

    items: int = 0
    repeats: int = 0
    missing: int = 0
    beyond: int = 0
    late: int = 0
    wrong: list[str] = field(default_factory=list)

    def add(self, job: Job[Any], count: int, lines: list[Line], outages: list[Span]) -> None:
        """Check one finished job's list."""
        self._job, self._lines = job.id, lines
        begun = Counter(line.number for line in lines if line.kind == "item")
        self.items += len(begun)
        self.repeats += begun.total() - len(begun)
        missing = sorted(set(range(count)) - set(begun))
        self.missing += len(missing)
        if missing:
            self._complain(f"items {missing[:10]} are missing")
        if set(begun) - set(range(count)):
            self._complain("there are items which the source does not have")
        if job.status is Status.FINISHED and job.result != count:
            self._complain(f"the state counted {job.result} of {count} items")
        self._check_order(job.lost)
        self._check_repeats(outages)

    def _check_order(self, lost: int) -> None:
        newest, late, holders = 0, Counter[int](), defaultdict[int, set[int]](set)
        for line in self._lines:
            holders[line.attempt].add(line.pid)
            if line.kind == "item" and line.attempt < newest:
                late[line.attempt] += 1
            newest = max(newest, line.attempt)
        for attempt, pids in holders.items():
            if len(pids) > 1:
                self._complain(f"attempt {attempt} ran in the processes {sorted(pids)}")
        self.late += late.total()
        if len(late) > lost or any(items > 1 for items in late.values()):
            self._complain(f"{dict(late)} items of older attempts after newer ones, with {lost} leases lost")

    def _check_repeats(self, outages: list[Span]) -> None:
        """An attempt begins where the server has acknowledged, or later; and that was about a second ago."""
        safe, before = 0, list[Line]()
        by_attempt = defaultdict[int, list[Line]](list)
        for line in self._lines:
            by_attempt[line.attempt].append(line)
        for attempt in sorted(by_attempt):
            lines = by_attempt[attempt]
            items = [line for line in lines if line.kind == "item"]
            if items:
                first = items[0].number
                if first < safe:
                    self.beyond += safe - first
                    self._complain(f"attempt {attempt} began with item {first}, and {safe} were safe")
                again = [line for line in before if line.number >= first]
                if again and _age(again[0].at, again[-1].at, outages) > SAVE_EVERY + SLACK:
                    self.beyond += len(again)
                    age = again[-1].at - again[0].at
                    self._complain(f"attempt {attempt} did {len(again)} items of {age:.2f} s again from {first}")
                before = items
            safe = max([safe, *(line.number for line in lines if line.kind == "saved")])

    def _complain(self, what: str) -> None:
        self.wrong.append(f"job {self._job}: {what}")


def _age(first: float, last: float, outages: list[Span]) -> float:
    """Return the seconds between two moments, without those in which nothing could be acknowledged."""
    away = sum(max(0.0, min(last, end) - max(first, begin)) for begin, end in outages)
    return last - first - away


def lines_of(path: Path) -> list[Line]:
    """Return a side list in the order in which it was written."""
    rows = [row.split() for row in path.read_text("ascii").splitlines()] if path.exists() else []
    return [Line(kind, int(n), int(number), int(at) / 1e9, int(pid)) for kind, n, number, at, pid in rows]


# The whole run.


class Chaos:
    """One run from the first start to the last key."""

    def __init__(self, seconds: float, seed: int, folder: Path, say: Callable[[str], None] = print) -> None:
        self.seconds = seconds
        self.count = max(20, int(seconds * WORKERS * SHARE / JOBS / MEAN_ITEM))
        self.wrong: list[str] = []
        self._dice = random.Random(seed)
        self._say = say
        self._ids: dict[str, str] = {}
        self.fleet = Fleet(folder)
        self.runner = Runner(self.fleet.valkey.url, lease=LEASE, grace=GRACE)
        self.faults = Faults(self.fleet, self._dice, lambda: list(self._ids.values()), self.runner)
        self._table: dict[str, Any] = {"seed": seed, "jobs": JOBS, "items per job": self.count}

    def run(self) -> bool:
        """Run it and print the figures; return whether everything held."""
        try:
            began = time.monotonic()
            self._strike_until(began + self.seconds)
            self.faults.end()
            chaos_over = time.monotonic()
            jobs = self._settle()
            self._table["seconds of chaos"] = round(chaos_over - began, 1)
            self._table["seconds to settle"] = round(time.monotonic() - chaos_over, 1)
            self._add_up(jobs)
            self.wrong += self.fleet.stop()
            self._check_server()
        finally:
            self.runner.close()
            self.fleet.kill()
        for name, value in self._table.items():
            self._say(f"{name:32}{value:>10}")
        for what in self.wrong:
            self._say(f"WRONG: {what}")
        return not self.wrong

    def _strike_until(self, limit: float) -> None:
        """Start jobs one by one in the first third, and strike all the while."""
        pause = self.seconds / 3 / JOBS
        start_at = strike_at = time.monotonic()
        while (now := time.monotonic()) < limit:
            self.faults.tick()
            self.fleet.keep_running()
            if now >= start_at and len(self._ids) < JOBS:
                start_at = now + pause
                self._start(len(self._ids))
            if now >= strike_at and self._ids:
                strike_at = now + self._dice.uniform(*PACES)
                self.faults.strike()
            time.sleep(0.02)

    def _start(self, number: int) -> None:
        """Start a job, every second one by the web app; what was not acknowledged is sent again, next time."""
        job_id = self._ask(number)
        if job_id is not None:
            self._ids[f"job-{number}"] = job_id

    def _ask(self, number: int) -> str | None:
        key = f"job-{number}"
        if number % 2:
            return self.fleet.post(f"/chaos/{key}/{self.count}")
        with contextlib.suppress(RedisUnavailable):
            return chaos_tasks.append.options(key=key, runner=self.runner).start(self.count).id
        return None

    def _settle(self) -> list[Job[Any]]:
        """Let everything run to its end; return the jobs."""
        limit = time.monotonic() + SETTLE
        jobs: list[Job[Any]] = []
        while time.monotonic() < limit:
            self.fleet.keep_running()
            if len(self._ids) < JOBS:
                self._start(len(self._ids))
                continue
            try:
                jobs = [self.runner.job(job_id) for job_id in self._ids.values()]
                for job in jobs:
                    if job.status is Status.PAUSED:
                        job.resume()
            except (RedisUnavailable, NotPossibleNow):
                continue
            if all(job.final for job in jobs):
                break
            time.sleep(0.1)
        self.wrong += [self._describe(job) for job in jobs if job.status is not Status.FINISHED]
        if len(jobs) < JOBS:
            self.wrong.append(f"{len(jobs)} of {JOBS} jobs could be started")
        return jobs

    def _describe(self, job: Job[Any]) -> str:
        last = "; ".join(f"{step.source}->{step.target} {step.reason}" for step in job.history()[-4:])
        client = self._client()
        entry = client.zscore("ckpt:agenda", job.id)
        delivery, pause = client.hmget(f"ckpt:job:{job.id}", "delivery", "check_pause")
        listed = delivery in client.lrange("rq:queue:chaos", 0, -1)
        client.close()
        due = None if entry is None else round(entry / 1000 - time.time(), 1)
        return (
            f"job {job.id} is {job.status} ({job.reason}), attempt {job.attempts}, error {job.error}; due in {due} s, "
            f"delivery {delivery!r} {'listed' if listed else 'not listed'}, check pause {pause!r}; {last}"
        )

    def _add_up(self, jobs: list[Job[Any]]) -> None:
        account = Account()
        for job in jobs:
            account.add(job, self.count, lines_of(self.fleet.lists / job.id), self.faults.outages)
        self.wrong += account.wrong
        for number, job_id in enumerate(self._ids.values()):
            again = await_that(lambda number=number: self._ask(number), within=10.0)
            if again != job_id:
                self.wrong.append(f"the start of job {job_id}, sent again, made {again}")
        others = {job.id for job in self.runner.jobs(limit=1000)} - {job.id for job in jobs}
        if others:
            self.wrong.append(f"jobs that nobody started: {sorted(others)}")
        self._table |= {**self.faults.done}
        for name in ("attempts", "interruptions", "crashes", "lost"):
            self._table["lost leases" if name == "lost" else name] = sum(getattr(job, name) for job in jobs)
        self._table |= {
            "items": account.items,
            "repeats": account.repeats,
            "of older attempts, in flight": account.late,
            "lost": account.missing,
            "beyond the bound": account.beyond,
        }

    def _check_server(self) -> None:
        """Nothing is left on the server: no connection, and when the jobs are deleted, no key."""
        client = self._client()
        ours = f":{os.getpid()}"

        def connections() -> list[str]:
            names = [str(entry["name"]) for entry in client.client_list()]
            return [name for name in names if name.startswith("ckpt:") and not name.endswith(ours)]

        await_that(lambda: not connections(), within=2.0)
        self.wrong += [f"connection left: {name}" for name in connections()]
        for job_id in self._ids.values():
            with contextlib.suppress(CheckpointRunnerError):
                self.runner.job(job_id).delete()
        keys = set(client.scan_iter("*"))
        _let_maintenance_run(client, self.runner)
        self._table["keys left to maintenance"] = len(keys - set(client.scan_iter("*")))
        keys = set(client.scan_iter("*")) - BOOKKEEPING
        lasting = [key for key in keys if client.ttl(key) == -1 and not key.startswith(b"rq:workers")]
        self._table["keys with a lifetime left"] = len(keys) - len(lasting)
        self.wrong += [f"key left: {key!r}" for key in sorted(lasting)]
        client.close()

    def _client(self) -> redis.Redis:
        return redis.Redis.from_url(self.fleet.valkey.url)


def _let_maintenance_run(client: redis.Redis, runner: Runner) -> None:
    """Do what a worker's next maintenance does, when the time of all that dead workers registered is over."""
    keys, queue = runner._backend.keys, Queue("chaos", connection=client)
    for registry in (keys.started(queue.name), keys.failed(queue.name)):
        for entry in client.zrange(registry, 0, -1):
            client.zadd(registry, {entry: 1.0})
    clear_leftovers(client, keys, [queue])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=secrets.randbelow(1_000_000))
    options = parser.parse_args()
    print(f"seed {options.seed}", flush=True)
    folder = Path(tempfile.mkdtemp(prefix="chaos-"))
    held = Chaos(options.seconds, options.seed, folder).run()
    if held:
        shutil.rmtree(folder)
    else:
        print(f"The logs and the side lists are in {folder}")
    sys.exit(0 if held else 1)


if __name__ == "__main__":
    main()
