"""`checkpoint-runner demo`: the whole story in a minute, which checks itself.

It starts the stack in a temporary folder, starts a long job by HTTP, presses Ctrl+C at a third, starts
the stack again, kills a worker and its horse at two thirds, and compares the end with a plain run.
It needs the sample application in `workers/`, so it works in a clone.
"""

from __future__ import annotations

import importlib
import json
import os
import re
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, TextIO

import click

from checkpoint_runner.errors import CheckpointRunnerError
from checkpoint_runner.processes import children_of

LEASE = 2.0
"""Seconds: short, so that a killed worker is noticed while one watches."""

GRACE = 10.0
WORKING_TIME = 9.0
"""Seconds that the delays of all files add up to, so that there is time to interrupt."""

PATIENCE = 60.0
"""Seconds after which the demo gives up waiting for anything."""

SAVED_EVERY = 1.0
"""Seconds of work that a SIGKILL may cost: the task's `save_every`."""

SAVE_MARGIN = 0.3
"""Seconds that pass until a save that is due is done: a tick of the timer, and the item in hand."""

_DATABASE = "stdlib.sqlite"


@dataclass(frozen=True, slots=True)
class Plan:
    """When to interrupt and when to kill (1: never), as parts of the whole. `limit`: how many files."""

    interrupt_at: float = 1 / 3
    kill_at: float = 2 / 3
    limit: int | None = None


@dataclass(slots=True)
class Report:
    """What was found, row by row."""

    rows: list[tuple[str, str, str, bool]] = field(default_factory=list)

    def add(self, what: str, found: object, expected: str, held: bool) -> None:
        self.rows.append((what, str(found), expected, held))

    @property
    def held(self) -> bool:
        return all(held for *_, held in self.rows)

    def show(self) -> None:
        widths = [max(map(len, column)) for column in list(zip(*self.rows, strict=True))[:3]]
        click.echo()
        for what, found, expected, held in self.rows:
            mark = click.style("ok", fg="green") if held else click.style("WRONG", fg="red")
            click.echo(f"  {what:<{widths[0]}}  {found:>{widths[1]}}  {expected:<{widths[2]}}  {mark}")
        click.echo()


def run_demo(plan: Plan) -> bool:
    """Run the demo; return whether everything held. Raises CheckpointRunnerError where it can't be run."""
    index = _sample()
    with tempfile.TemporaryDirectory(prefix="checkpoint-runner-demo-") as name:
        folder = Path(name)
        files = len(index.source_files(plan.limit))
        stack = _Stack(folder)
        report = Report()
        try:
            return _story(plan, stack, files, index, report)
        finally:
            stack.kill()


def _story(plan: Plan, stack: _Stack, files: int, index: Any, report: Report) -> bool:
    click.echo(f"1. The stack starts: gunicorn, two workers and an embedded Valkey, in {stack.folder}")
    stack.start()
    body = {"database": _DATABASE, "delay": WORKING_TIME / files, "limit": plan.limit}
    job = stack.call("POST", "/jobs/index_stdlib", body)
    click.echo(f"2. POST /jobs/index_stdlib: job {job['id']} is to index {files} files of the standard library")
    with _progress(files) as show:
        stack.follow(job, show, until=lambda now: now["progress"]["done"] >= plan.interrupt_at * files)
    click.echo("3. Ctrl+C: SIGINT to the whole foreground group")
    left_by_stop = stack.interrupt()
    click.echo("4. The same again: the job goes on by itself where it was")
    stack.start()
    killed = _second_half(plan, stack, job, files)
    final = stack.call("GET", f"/jobs/{job['id']}")
    left_by_end = stack.interrupt()
    click.echo("5. The same in plain Python, uninterrupted and without this library, to compare with")
    plain = index.index_plainly(stack.folder / "plain.sqlite", plan.limit)
    _judge(report, stack, files, final, killed, plain, (left_by_stop, left_by_end))
    report.show()
    click.echo("Everything held." if report.held else "Something did not hold: see above.")
    return report.held


def _second_half(plan: Plan, stack: _Stack, job: dict[str, Any], files: int) -> bool:
    killed = False
    with _progress(files) as show:
        if plan.kill_at < 1:
            now = stack.follow(job, show, until=lambda now: now["progress"]["done"] >= plan.kill_at * files)
            if now["status"] == "running":
                killed = stack.kill_a_busy_worker()
        stack.follow(job, show, until=lambda now: now["status"] in ("finished", "failed", "cancelled"))
    return killed


def _judge(
    report: Report,
    stack: _Stack,
    files: int,
    final: dict[str, Any],
    killed: bool,
    plain: Any,
    left: tuple[int | None, int | None],
) -> None:
    visits = _visits(stack.folder / "data" / _DATABASE)
    plain_rows, rows = _rows(stack.folder / "plain.sqlite"), _rows(stack.folder / "data" / _DATABASE)
    after_stop = _repeated(visits, 1, 2)
    after_kill = len(visits) - len({visit.path for visit in visits}) - after_stop
    bound = _at_stake(visits) if killed else 0
    result = final["result"] or {}
    same = rows == plain_rows and result.get("digest") == plain.digest
    report.add("files in all", files, "", True)
    report.add("status", final["status"], "finished", final["status"] == "finished")
    report.add("attempts", final["attempts"], "", final["attempts"] >= 2)
    report.add("interruptions", final["interruptions"], "at least 1", final["interruptions"] >= 1)
    report.add(
        "crashes", final["crashes"] + final["lost"], f"{int(killed)}", final["crashes"] + final["lost"] == killed
    )
    report.add("files repeated after the clean stop", after_stop, "0", after_stop == 0)
    report.add(
        "files repeated after SIGKILL", after_kill, f"at most {bound}: the last second's work", after_kill <= bound
    )
    lost = files - len({visit.path for visit in visits})
    report.add("files lost", lost, "0", lost == 0)
    report.add("result equal to the plain run's", "yes" if same else "no", "yes", same)
    for when, connections in zip(("the clean stop", "the end"), left, strict=True):
        found = "unknown" if connections is None else connections
        report.add(f"server connections left after {when}", found, "0", connections == 0)


class _Stack:
    """One `checkpoint-runner up` in a folder, started and stopped like a person would."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._port = _free_port()
        self._process: subprocess.Popen[bytes] | None = None
        self._runs = 0

    def start(self) -> None:
        """Start it and wait until the web app answers."""
        self._runs += 1
        environ = {name: value for name, value in os.environ.items() if name not in _SERVER_VARIABLES}
        environ.update(
            CHECKPOINT_RUNNER_DATA=str(self.folder / "data"),
            CHECKPOINT_RUNNER_LEASE=str(LEASE),
            PYTHONUNBUFFERED="1",
        )
        arguments = [
            *(sys.executable, "-m", "checkpoint_runner", "up", "--web", "workers.web:app", "--tasks", "workers.tasks"),
            *("--bind", f"127.0.0.1:{self._port}", "--workers", "2", "--grace", str(GRACE)),
            *("--state-dir", str(self.folder / "state")),
        ]
        with self._log_path.open("wb") as log:
            self._process = subprocess.Popen(
                arguments, env=environ, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        self._wait_for("the web app", self._answers)

    def interrupt(self) -> int | None:
        """Send SIGINT to the foreground group; return how many connections the server has left, as the log says."""
        process = self._process
        if process is None:
            return None
        began = time.monotonic()
        os.killpg(process.pid, signal.SIGINT)
        code = process.wait(GRACE + 5)
        self._process = None
        text = self._log_path.read_text("utf-8", "replace")
        for line in text.splitlines():
            if " closed " in line or "shutdown (" in line:
                click.echo(click.style("   " + re.sub(r"^\S+ \S+ \S+\s+", "", line), dim=True))
        click.echo(f"   all gone after {time.monotonic() - began:.2f} s, exit code {code}")
        found = re.findall(r"(\d+) of our connections left", text)
        return int(found[-1]) if found and code == 0 else None

    def kill(self) -> None:
        """Leave nothing behind, whatever happened."""
        process, self._process = self._process, None
        if process is not None and process.poll() is None:
            process.terminate()
            try:
                process.wait(GRACE + 5)
            except subprocess.TimeoutExpired:
                process.kill()

    def kill_a_busy_worker(self) -> bool:
        """SIGKILL a worker that has a horse, and the horse; return whether there was one."""
        assert self._process is not None
        for worker in children_of(self._process.pid):
            horses = children_of(worker)
            if horses and _is_job_worker(worker):
                click.echo(f"   kill -9 {worker} {horses[0]}: a worker and its horse")
                for pid in (worker, *horses):
                    os.kill(pid, signal.SIGKILL)
                return True
        return False

    def call(self, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        """Send one request and return the answer's JSON. Raises CheckpointRunnerError for any but a good one."""
        data = None if body is None else json.dumps({k: v for k, v in body.items() if v is not None}).encode()
        request = urllib.request.Request(
            f"http://127.0.0.1:{self._port}{path}", data, {"Content-Type": "application/json"}, method=method
        )
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310
                return dict(json.load(answer))
        except urllib.error.HTTPError as error:
            raise CheckpointRunnerError(
                f"{method} {path} was answered with {error.code}: {error.read().decode()}"
            ) from None

    def follow(
        self, job: dict[str, Any], show: Callable[[int], None], *, until: Callable[[dict[str, Any]], bool]
    ) -> dict[str, Any]:
        """Show the job's progress until a condition holds; return its last answer."""
        limit = time.monotonic() + PATIENCE
        while True:
            now = self.call("GET", f"/jobs/{job['id']}")
            show(now["progress"]["done"])
            if until(now) or now["status"] in ("finished", "failed", "cancelled"):
                return now
            if time.monotonic() > limit:
                raise CheckpointRunnerError(f"The job did not get there within {PATIENCE:g} s; it is {now}.")
            time.sleep(0.1)

    @property
    def _log_path(self) -> Path:
        return self.folder / f"up-{self._runs}.log"

    def _answers(self) -> bool:
        try:
            self.call("GET", "/health/ready")
        except (OSError, CheckpointRunnerError):
            return False
        return True

    def _wait_for(self, what: str, condition: Callable[[], bool]) -> None:
        limit = time.monotonic() + PATIENCE
        while not condition():
            assert self._process is not None
            if self._process.poll() is not None or time.monotonic() > limit:
                log = self._log_path.read_text("utf-8", "replace")[-3000:]
                raise CheckpointRunnerError(f"The stack did not come up ({what}). Its log:\n{log}")
            time.sleep(0.05)


_SERVER_VARIABLES = {"CHECKPOINT_RUNNER_REDIS_URL", "RQ_REDIS_URL", "REDIS_URL"}


@contextmanager
def _progress(total: int) -> Iterator[Callable[[int], None]]:
    """Yield a function that shows how many are done: a bar in a terminal, a line now and then elsewhere."""
    stream: TextIO = sys.stdout
    if not stream.isatty():
        shown = [-1]

        def tell(done: int) -> None:
            tenth = done * 10 // total
            if tenth > shown[0]:
                shown[0] = tenth
                click.echo(f"   {done} of {total} files")

        yield tell
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeElapsedColumn

    with Progress("   files", BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), transient=False) as bar:
        task = bar.add_task("files", total=total)
        yield lambda done: bar.update(task, completed=done)


def _sample() -> Any:
    try:
        return importlib.import_module("workers.tasks.stdlib_index")
    except ModuleNotFoundError as error:
        raise CheckpointRunnerError(
            f"The demo's sample application can't be imported ({error}). Run it in a clone of the project: make demo."
        ) from None


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _is_job_worker(pid: int) -> bool:
    try:
        return b"\0worker\0" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


class _Visit(NamedTuple):
    """One time that a file was worked on."""

    path: str
    attempt: int
    at: float


def _visits(database: Path) -> list[_Visit]:
    with closing(sqlite3.connect(database)) as connection:
        return [_Visit(*row) for row in connection.execute("SELECT path, attempt, at FROM visits")]


def _at_stake(visits: list[_Visit]) -> int:
    """Return how many files the killed attempt, the last but one, worked on in its last second, and the one in hand."""
    killed = max(visit.attempt for visit in visits) - 1
    moments = [visit.at for visit in visits if visit.attempt == killed]
    return sum(at >= max(moments) - SAVED_EVERY - SAVE_MARGIN for at in moments) + 1 if moments else 1


def _rows(database: Path) -> list[Any]:
    with closing(sqlite3.connect(database)) as connection:
        return connection.execute("SELECT * FROM files ORDER BY path").fetchall()


def _repeated(visits: list[_Visit], earlier: int, later: int) -> int:
    paths = [{visit.path for visit in visits if visit.attempt == attempt} for attempt in (earlier, later)]
    return len(paths[0] & paths[1])
