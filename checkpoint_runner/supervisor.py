"""Keeps child processes running, and takes them down in order.

One supervisor serves `checkpoint-runner worker --processes N`, the gunicorn plugin and `checkpoint-runner up`.
Children are in sessions of their own, so that a terminal's Ctrl+C reaches the supervisor only: they
take their orders from it, or from its death.
"""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from checkpoint_runner import processes, specs
from checkpoint_runner.backend import Backend
from checkpoint_runner.clients import REQUEST
from checkpoint_runner.errors import RedisTrouble, RedisUnavailable
from checkpoint_runner.settings import Settings
from checkpoint_runner.shutdown import ShutdownCoordinator

log = logging.getLogger(__name__)

LOOK = 0.05
"""Seconds between two looks at the children."""

FIRST_PAUSE, LONGEST_PAUSE = 0.2, 10.0
"""Seconds until a child that ended by itself is started again; doubled each time it did not live long."""

LIVED = 10.0
"""Seconds after which a child counts as having come up."""

DISCONNECT_PATIENCE = 1.0
"""Seconds that the server gets to notice that connections were closed."""


@dataclass(frozen=True, slots=True)
class Program:
    """What to run. `environ` is added to this process's environment."""

    name: str
    arguments: Sequence[str]
    environ: Mapping[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class _Child:
    program: Program
    process: subprocess.Popen[bytes]
    started_at: float
    pause: float


def share_of(grace: float) -> float:
    """Return the grace of a child, a little shorter than its supervisor's: the rest is for closing."""
    return max(grace - 1.0, 0.8 * grace)


class Supervisor:
    """Runs programs until its coordinator says stop, or, without `restart`, until they have ended."""

    def __init__(self, programs: Sequence[Program], coordinator: ShutdownCoordinator, *, restart: bool = True) -> None:
        self._programs = programs
        self._coordinator = coordinator
        self._restart = restart
        self._children: list[_Child] = []
        self._retiring: list[_Child] = []
        self._due: list[tuple[float, Program, float]] = []
        self._reload_wanted = threading.Event()
        coordinator.on_reload(self._reload_wanted.set)

    def run(self) -> int:
        """Run in the main thread until everything has ended; return 0, or 1 where a child had to be killed or failed.

        Children die with the thread that started them, which is why this is the main one.
        """
        for program in self._programs:
            self._start(program, FIRST_PAUSE)
        failed = False
        while self._coordinator.stopping is None and (self._children or self._due):
            failed = self._reap() or failed
            if self._reload_wanted.is_set():
                self._reload_wanted.clear()
                self._reload()
            now = time.monotonic()
            ready = [entry for entry in self._due if entry[0] <= now]
            self._due = [entry for entry in self._due if entry[0] > now]
            for _, program, pause in ready:
                self._start(program, pause)
            self._coordinator.wait(LOOK)
        return int(self._stop() or (failed and not self._restart))

    def _start(self, program: Program, pause: float) -> None:
        process = subprocess.Popen(
            program.arguments,
            env={**os.environ, **program.environ},
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
        log.info("started %s (pid %d)", program.name, process.pid)
        self._children.append(_Child(program, process, time.monotonic(), pause))

    def _reap(self) -> bool:
        """Take note of children that ended; return whether one failed."""
        self._retiring = [child for child in self._retiring if child.process.poll() is None]
        failed = False
        for child in [child for child in self._children if child.process.poll() is not None]:
            self._children.remove(child)
            code = child.process.returncode
            if not self._restart:
                failed = failed or code != 0
                continue
            lived = time.monotonic() - child.started_at >= LIVED
            pause = FIRST_PAUSE if lived else child.pause
            log.warning("%s (pid %d) ended with %d; starting it again in %.1f s", *_who(child), code, pause)
            self._due.append((time.monotonic() + pause, child.program, min(pause * 2, LONGEST_PAUSE)))
        return failed

    def _reload(self) -> None:
        """Start new children at once; the old ones stop in order and hand their jobs over."""
        log.info("reloading: %d processes are replaced", len(self._children))
        old, self._children = self._children, []
        for child in old:
            _signal(child, signal.SIGTERM)
        self._retiring += old
        for child in old:
            self._start(child.program, FIRST_PAUSE)

    def _stop(self) -> bool:
        """Stop every child; return whether one had to be killed."""
        children = [*self._children, *self._retiring]
        for child in children:
            _signal(child, signal.SIGTERM)
        interruption = self._coordinator.stopping
        patience = interruption.seconds_left if interruption is not None else self._coordinator.grace
        limit = time.monotonic() + patience - 0.1 * (self._coordinator.grace - share_of(self._coordinator.grace))
        while any(child.process.poll() is None for child in children) and time.monotonic() < limit:
            time.sleep(LOOK / 5)
        late = [child for child in children if child.process.poll() is None]
        for child in late:
            log.error("%s (pid %d) did not stop within the grace and is killed", *_who(child))
            _signal(child, signal.SIGKILL)
            child.process.wait()
        self._coordinator.note(f"{len(children) - len(late)} of {len(children)} processes stopped by themselves")
        return bool(late)


def _who(child: _Child) -> tuple[str, int]:
    return child.program.name, child.process.pid


def _signal(child: _Child, sig: signal.Signals) -> None:
    if child.process.poll() is None:
        child.process.send_signal(sig)


def worker_program(settings: Settings, queues: Sequence[str], number: int, *, burst: bool = False) -> Program:
    """Return the program of one worker process, a child of this process."""
    arguments = [sys.executable, "-m", "checkpoint_runner", "worker", *queues, "--parent", str(os.getpid())]
    if burst:
        arguments.append("--burst")
    environ = {
        "CHECKPOINT_RUNNER_REDIS_URL": settings.url,
        "CHECKPOINT_RUNNER_NAMESPACE": settings.namespace,
        "CHECKPOINT_RUNNER_LEASE": str(settings.lease),
        "CHECKPOINT_RUNNER_GRACE": str(share_of(settings.grace)),
        "CHECKPOINT_RUNNER_TASKS": ",".join(settings.tasks),
    }
    return Program(f"worker {number}", arguments, environ)


def supervise_workers(
    settings: Settings, queues: Sequence[str], count: int, *, burst: bool = False, parent: int | None = None
) -> int:
    """Run `count` worker processes until a signal comes; return the exit code.

    What would fail in every worker (a tasks module that is not there, a wrong password) is raised
    here, once: WrongSetting, RedisRefused, UnsupportedServer.
    """
    specs.load(settings.tasks)
    role = f"supervisor {os.getpid()}"
    with ShutdownCoordinator(settings.grace, reload_on=signal.SIGHUP, last=True, role=role) as coordinator:
        if parent is not None:
            processes.die_with_parent(parent, signal.SIGTERM)
        backend = coordinator.manage(
            Backend(settings.url, settings, REQUEST), name="the supervisor's Redis connections"
        )
        try:
            backend.check()
        except RedisUnavailable as error:
            log.warning("%s The workers go on trying.", error)
        programs = [worker_program(settings, queues, number + 1, burst=burst) for number in range(count)]
        code = Supervisor(programs, coordinator, restart=not burst).run()
        note_connections(coordinator, backend)
        return code


def note_connections(coordinator: ShutdownCoordinator, backend: Backend) -> None:
    """Add to the summary how many connections of ended processes of ours the server still has."""
    limit = time.monotonic() + DISCONNECT_PATIENCE
    try:
        left = backend.lingering_connections()
        while left and time.monotonic() < limit:
            time.sleep(LOOK)
            left = backend.lingering_connections()
    except RedisTrouble as error:
        coordinator.note(f"connections left on the server: unknown ({error})")
        return
    coordinator.note(f"{left} of our connections left on the server")
