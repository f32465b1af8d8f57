"""`checkpoint-runner up`: the whole stack on one machine, for development."""

from __future__ import annotations

import fcntl
import logging
import os
import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import click

from checkpoint_runner import specs
from checkpoint_runner.backend import Backend
from checkpoint_runner.clients import REQUEST
from checkpoint_runner.embedded import EmbeddedValkey
from checkpoint_runner.errors import CheckpointRunnerError, WrongSetting
from checkpoint_runner.settings import Settings, server_url
from checkpoint_runner.shutdown import ShutdownCoordinator
from checkpoint_runner.supervisor import Program, Supervisor, note_connections, share_of, worker_program

log = logging.getLogger(__name__)

THREADS = 8
"""Threads of the web worker."""


@dataclass(frozen=True, slots=True)
class Stack:
    """What `up` starts."""

    web: str | None
    bind: str
    workers: int
    state_dir: Path


def run_stack(stack: Stack, settings: Settings, *, own_server: bool) -> int:
    """Run everything until a signal comes; return the exit code.

    With `own_server` an embedded Valkey is started, whose data stays in the state folder. Raises
    WrongSetting, CheckpointRunnerError (another `up` runs in this folder, a port is taken, a server
    that does not come up), RedisUnavailable, RedisRefused.
    """
    if stack.web is None and stack.workers == 0:
        raise WrongSetting("There is nothing to run: no web app (--web MODULE:APP) and no workers (--workers N).")
    specs.load(settings.tasks)
    if stack.workers and not specs.queues():
        raise WrongSetting("There are no tasks for the workers. Name the modules that define them: --tasks MODULE.")
    if stack.web is not None:
        _require_free(stack.bind)
    with (
        _only_one(stack.state_dir),
        ShutdownCoordinator(
            settings.grace, reload_on=signal.SIGHUP, last=True, role=f"up {os.getpid()}"
        ) as coordinator,
    ):
        if own_server:
            valkey = EmbeddedValkey(stack.state_dir / "valkey")
            settings = replace(settings, url=valkey.start())
            coordinator.manage(valkey, name=f"the embedded Valkey (pid {valkey.pid})")
        backend = coordinator.manage(Backend(settings.url, settings, REQUEST), name="the Redis connections of `up`")
        backend.check()
        programs = [worker_program(settings, (), number + 1) for number in range(stack.workers)]
        if stack.web is not None:
            programs.append(_web_program(stack, settings))
        _announce(stack, settings, backend)
        code = Supervisor(programs, coordinator).run()
        note_connections(coordinator, backend)
        return code


def own_server_wanted(url: str | None) -> bool:
    """Say whether no server was named, on the command line or in the environment."""
    return not (url or server_url())


def _web_program(stack: Stack, settings: Settings) -> Program:
    grace = share_of(settings.grace)
    arguments = [
        *(sys.executable, "-m", "gunicorn", "-c", "python:checkpoint_runner.gunicorn_conf"),
        *("-k", "gthread", "--threads", str(THREADS), "-b", stack.bind),
        *("--graceful-timeout", str(max(1, int(grace))), "--no-control-socket"),
        stack.web or "",
    ]
    environ = {
        "CHECKPOINT_RUNNER_REDIS_URL": settings.url,
        "CHECKPOINT_RUNNER_NAMESPACE": settings.namespace,
        "CHECKPOINT_RUNNER_LEASE": str(settings.lease),
        "CHECKPOINT_RUNNER_GRACE": str(grace),
        "CHECKPOINT_RUNNER_TASKS": ",".join(settings.tasks),
        "CHECKPOINT_RUNNER_WORKERS": "0",
        "CHECKPOINT_RUNNER_PARENT": str(os.getpid()),
    }
    return Program("web", arguments, environ)


def _announce(stack: Stack, settings: Settings, backend: Backend) -> None:
    rows = [("state", str(stack.state_dir.resolve())), ("redis", backend.address)]
    if stack.web is not None:
        rows.append(("web", f"http://{stack.bind}  ({stack.web})"))
    rows.append(("workers", f"{stack.workers}  (queues {', '.join(specs.queues()) or 'none'})"))
    rows.append(("grace", f"{settings.grace:g} s; Ctrl+C stops everything, the next `up` goes on"))
    for name, value in rows:
        click.echo(f"{name:>8}  {value}")


@contextmanager
def _only_one(folder: Path) -> Iterator[None]:
    """Hold the state folder. Raises CheckpointRunnerError where another `up` does."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "up.lock"
    with path.open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            raise CheckpointRunnerError(
                f"Another `checkpoint-runner up` (pid {file.read().strip() or 'unknown'}) runs in {folder.resolve()}. "
                "Stop it first, or name another folder with --state-dir."
            ) from None
        file.truncate(0)
        file.write(f"{os.getpid()}\n")
        file.flush()
        yield
        file.truncate(0)


def _require_free(bind: str) -> None:
    host, separator, port = bind.rpartition(":")
    if not separator or not port.isdigit():
        raise WrongSetting(f"--bind is {bind!r}; expected HOST:PORT, such as 127.0.0.1:8000.")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host.strip("[]"), int(port)))
        except (OSError, OverflowError) as error:
            raise CheckpointRunnerError(
                f"The web app can't listen on {bind} ({error}). Stop what listens there, or name another --bind."
            ) from None
