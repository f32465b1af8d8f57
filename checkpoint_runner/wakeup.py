"""How the coordinator's thread hears of signals."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys
import threading


def leave_signals_to_main_thread() -> None:
    """Block signals in this thread: one that the kernel hands to it would not interrupt the main thread's sleep.

    Does nothing where "threads" are greenlets of the main thread (gevent), whose id on Linux is the process's.
    """
    if sys.platform == "linux" and threading.get_native_id() != os.getpid():
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())


class WakeUp:
    """A pipe on which the thread hears of signals, one byte each.

    Where nobody else has Python's wake-up descriptor, the C handler writes to the pipe itself: at once,
    whatever the main thread does and whichever thread the kernel chose. Otherwise (gunicorn, asyncio)
    the Python handler writes, as soon as the main thread runs it.
    """

    def __init__(self) -> None:
        self._read = self._write = -1
        self._direct = False

    def open(self) -> None:
        self._read, self._write = os.pipe()
        os.set_blocking(self._read, False)
        os.set_blocking(self._write, False)

    def close(self) -> None:
        read, write, self._read, self._write = self._read, self._write, -1, -1
        for end in (read, write):
            if end >= 0:
                os.close(end)

    def listen_to_signals(self) -> None:
        before = signal.set_wakeup_fd(self._write, warn_on_full_buffer=False)
        self._direct = before < 0
        if not self._direct:
            signal.set_wakeup_fd(before, warn_on_full_buffer=False)

    def leave_signals(self) -> None:
        if self._direct:
            self._direct = False
            after = signal.set_wakeup_fd(-1)
            if after != self._write:  # somebody took it over meanwhile: it is theirs
                signal.set_wakeup_fd(after, warn_on_full_buffer=False)

    def send_signal(self, signum: int, *, news: bool) -> None:
        """Called by the Python handler; not needed where the C handler has done it.

        `news` says that nobody has acted on the signal yet, as when another library has taken the
        wake-up descriptor since: a byte too many is taken for a repeat, and one too few is not.
        """
        if news or not self._direct:
            self.send(bytes((signum,)))

    def send(self, byte: bytes) -> None:
        with contextlib.suppress(OSError):  # full: it wakes up anyway; closed: nobody listens
            os.write(self._write, byte)

    def wait(self, timeout: float | None) -> bytes:
        """Return what was heard within so many seconds."""
        poller = select.poll()
        poller.register(self._read, select.POLLIN)
        return os.read(self._read, 1024) if poller.poll(None if timeout is None else timeout * 1000) else b""
