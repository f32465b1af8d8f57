"""The workers plugin: gunicorn's master runs job workers beside its web workers.

The master's child is one supervisor in a session of its own. It is told of a stop at signal time, by
handlers chained in front of gunicorn's: the hook on_exit comes only when the web workers have drained.
"""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import time
from types import FrameType
from typing import Any

from checkpoint_runner.settings import Settings

log = logging.getLogger("gunicorn.error")

LIVED = 5.0
"""Seconds after which the supervisor counts as having come up."""

MOST_QUICK_ENDS = 5
"""Ends in a row without having come up, after which it is not started again: it will not come up."""

_FORWARDED = {
    signal.SIGTERM: signal.SIGTERM,
    signal.SIGINT: signal.SIGTERM,
    signal.SIGQUIT: signal.SIGTERM,
    signal.SIGHUP: signal.SIGHUP,
}


class WorkersPlugin:
    """The supervisor of `count` job workers under one gunicorn master."""

    def __init__(self, server: Any, count: int, settings: Settings) -> None:
        self._server = server
        self._count = count
        self._settings = settings
        self._master = os.getpid()
        self._pid: int | None = None
        self._stopped_at: float | None = None
        self._previous: dict[int, Any] = {}
        self._spawned_at = 0.0
        self._quick_ends = 0
        self._given_up = False

    def start(self) -> None:
        """Start the supervisor and chain the handlers. Called once, in the master's main thread."""
        self._spawn()
        for sig in _FORWARDED:
            self._previous[sig] = signal.signal(sig, self._on_signal)
        reap = self._server.handle_chld

        def reap_and_look() -> None:
            reap()
            self._look()

        # The main loop looks its handler up by the signal's name each time; on Linux that may be either alias.
        self._server.handle_chld = self._server.handle_cld = reap_and_look

    def wait(self) -> None:
        """Wait until the supervisor is gone, at most as long as its grace; then end it by force."""
        self._tell(signal.SIGTERM)
        since = self._stopped_at if self._stopped_at is not None else time.monotonic()
        limit = since + self._settings.grace + 1.0
        while self._alive() and time.monotonic() < limit:
            time.sleep(0.02)
        if self._alive() and self._pid is not None:
            log.error("The job workers' supervisor (pid %d) did not stop and is killed", self._pid)
            os.kill(self._pid, signal.SIGKILL)

    def _spawn(self) -> None:
        arguments = [sys.executable, "-m", "checkpoint_runner", "worker", "--supervised"]
        arguments += ["--processes", str(self._count), "--parent", str(self._master)]
        environ = {**os.environ, "CHECKPOINT_RUNNER_WORKERS": "0"}
        process = subprocess.Popen(arguments, env=environ, stdin=subprocess.DEVNULL, start_new_session=True)
        self._pid = process.pid
        self._spawned_at = time.monotonic()
        process.returncode = 0  # gunicorn's master reaps every child, so there is nothing for Popen to wait for
        log.info("Job workers: %d, under the supervisor with pid %d", self._count, process.pid)

    def _on_signal(self, signum: int, frame: FrameType | None) -> None:
        """Forward, then let gunicorn do its part. Web workers inherit this until they have handlers of their own."""
        if os.getpid() == self._master:
            forwarded = _FORWARDED[signal.Signals(signum)]
            if forwarded is signal.SIGTERM and self._stopped_at is None:
                self._stopped_at = time.monotonic()
            self._tell(forwarded)
        previous = self._previous.get(signum)
        if callable(previous):
            previous(signum, frame)

    def _look(self) -> None:
        """Called when a child has ended: start the supervisor again, if it was the one."""
        if self._stopped_at is not None or self._given_up or self._alive():
            return
        self._quick_ends = 0 if time.monotonic() - self._spawned_at > LIVED else self._quick_ends + 1
        if self._quick_ends >= MOST_QUICK_ENDS:
            self._given_up = True
            log.error(
                "The job workers' supervisor ended %d times at once; web goes on without job workers", self._quick_ends
            )
            return
        log.warning("The job workers' supervisor is gone; starting it again")
        self._spawn()

    def _tell(self, sig: signal.Signals) -> None:
        if self._pid is not None and self._alive():
            os.kill(self._pid, sig)

    def _alive(self) -> bool:
        if self._pid is None:
            return False
        try:
            reaped, _ = os.waitpid(self._pid, os.WNOHANG)
        except ChildProcessError:
            reaped = self._pid  # gunicorn has reaped it
        if reaped:
            self._pid = None
        return not reaped
