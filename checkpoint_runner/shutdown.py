"""The ShutdownCoordinator: one bounded, ordered way out for any process.

Signal handlers only record and wake. Callbacks run on the coordinator's own thread, which hears of a
signal at once, even while the main thread is inside a long call in C. Resources are closed last in,
first out, each error contained; atexit is the second assurance.
"""

from __future__ import annotations

import atexit
import logging
import os
import signal
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterable
from functools import partial
from types import FrameType, TracebackType
from typing import Any, TypeVar

from checkpoint_runner import keys
from checkpoint_runner.durations import Duration, seconds
from checkpoint_runner.interruptions import Interruption, Reason
from checkpoint_runner.resources import Resources, flush_logs
from checkpoint_runner.wakeup import WakeUp, leave_signals_to_main_thread

log = logging.getLogger(__name__)

LAST_CALL = 0.9
"""The part of the grace after which whoever has not stopped is ended by force."""

REPEAT_AFTER = 0.5
"""Seconds within which a second signal is taken for a repeat, as when a terminal and a parent both send one."""

HURRY = 0.2
"""Seconds from a second signal until what has not stopped is ended by force."""

EXIT_OVERRUN = 1
"""Exit code of a process that had to be ended because its grace was over."""

T = TypeVar("T")
Handler = Callable[[int, FrameType | None], Any] | int | None


_REQUEST, _END = b"\x00", b"\xff"
"""Bytes on the wake-up pipe that stand for no signal: `request()` was called; the thread is to end."""


class ShutdownCoordinator:
    """Takes a process down in order, within `grace` seconds of the first signal or request.

    Use it as a context manager: entering installs the signal handlers (in the main thread; elsewhere
    only `request` works), leaving restores them and closes what is managed. `chain` says whether the
    handlers that were there before are called after ours has recorded (for hosts such as RQ's
    SimpleWorker; never Python's own SIGINT handler, which raises into running code). `force` says
    whether a second signal hurries, and whether the process is ended where it has not left the context
    by the end of its grace; a horse leaves both to its parent. `reload_on` is a signal that asks for a
    reload instead. `last` says that the process ends with the context: after a shutdown its signals are
    ignored from then on, so that a late repeat does not turn a clean exit into a killed one.
    """

    def __init__(
        self,
        grace: Duration = keys.GRACE,
        *,
        signals: Iterable[signal.Signals] = (signal.SIGTERM, signal.SIGINT),
        chain: bool = False,
        force: bool = True,
        reload_on: signal.Signals | None = None,
        last: bool = False,
        role: str = "process",
    ) -> None:
        self.grace = seconds(grace, "grace", least=0.1)
        self.role = role
        self._signals = tuple(signals)
        self._chain = chain
        self._chaining = False
        self._force = force
        self._reload_on = reload_on
        self._last = last
        self._pid = os.getpid()
        self._wake = WakeUp()
        self._reasons: deque[str] = deque()
        self._previous: dict[signal.Signals, Handler] = {}
        self._interruption: Interruption | None = None
        self._requested_at: float | None = None
        self._source = ""
        self._callbacks: list[Callable[[Interruption], Any]] = []
        self._reloads: list[Callable[[], Any]] = []
        self._last_calls: list[Callable[[], Any]] = []
        self._resources = Resources()
        self._notes: list[str] = []
        self._thread: threading.Thread | None = None
        self._stopped = threading.Event()
        self._closing = threading.Lock()
        self._closed = False
        self._entered = False
        self._registered = False

    @property
    def stopping(self) -> Interruption | None:
        """The shutdown that was asked for, with the seconds left; None until then."""
        return self._interruption

    def manage(self, resource: T, close: Callable[[T], Any] | None = None, *, name: str | None = None) -> T:
        """Close `resource` on the way out, after everything that was managed later; return it.

        `close` is called with the resource; by default that is its `close`, `disconnect`, `shutdown`
        or `stop` method, the first that it has. Raises WrongUse where it has none.
        """
        self._resources.add(resource, close, name)
        self._register_at_exit()
        return resource

    def on_shutdown(self, callback: Callable[[Interruption], Any]) -> Callable[[], None]:
        """Call `callback(interruption)` on the coordinator's thread when shutdown begins.

        It is called again, with a nearer deadline, when a second signal asks to hurry. Where shutdown
        has begun already it is called at once. An exception is logged and goes no further. The
        returned function takes the callback back.
        """
        self._callbacks.append(callback)
        if self._interruption is not None:
            self._contain(partial(callback, self._interruption))
        return partial(_forget, self._callbacks, callback)

    def on_reload(self, callback: Callable[[], Any]) -> None:
        """Call `callback()` on the coordinator's thread whenever the signal `reload_on` comes."""
        self._reloads.append(callback)

    def on_last_call(self, callback: Callable[[], Any]) -> Callable[[], None]:
        """Call `callback()` on the coordinator's thread when nine tenths of the grace are over: end by force.

        The returned function takes the callback back.
        """
        self._last_calls.append(callback)
        return partial(_forget, self._last_calls, callback)

    def note(self, text: str) -> None:
        """Add a fact to the summary line, such as "3 jobs saved"."""
        self._notes.append(text)

    def request(self, reason: str = "request") -> None:
        """Begin the shutdown, as a signal would. May be called from any thread, again and again."""
        self._record(reason)
        self._reasons.append(reason)
        self._wake.send(_REQUEST)

    def wait(self, timeout: float | None = None) -> bool:
        """Sleep until shutdown begins or `timeout` seconds are over; return whether it has begun."""
        return self._stopped.wait(timeout)

    def start(self) -> None:
        """Install the signal handlers and start the thread. Entering the context calls this."""
        if self._entered:
            return
        self._entered = True
        self._pid = os.getpid()
        self._wake.open()
        if self._reasons:
            self._wake.send(_REQUEST)  # asked for before it was started
        _started.add(self)
        self._thread = threading.Thread(target=self._run, name="shutdown-coordinator", daemon=True)
        self._thread.start()
        self._register_at_exit()
        if threading.current_thread() is threading.main_thread():
            for sig in (*self._signals, *((self._reload_on,) if self._reload_on else ())):
                self._previous[sig] = signal.signal(sig, self._on_signal)
            self._wake.listen_to_signals()

    def close(self) -> None:
        """Close what is managed, last in first out, flush the logs, write the summary. Harmless when repeated."""
        if os.getpid() != self._pid:
            return  # a forked child: these are its parent's
        with self._closing:
            if self._closed:
                return
            self._closed = True
            atexit.unregister(self.close)
            began = time.monotonic()
            level = self._level
            closed, managed = self._resources.close(level)
            self._summarise(level, closed, managed, began)
            flush_logs()

    def __enter__(self) -> ShutdownCoordinator:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """Restore the signal handlers, close what is managed, end the thread. Leaving the context calls this."""
        self.close()
        self._restore_signals()
        _started.discard(self)
        self._wake.send(_END)
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(timeout=1.0)
            self._thread = None
            self._wake.close()

    def _restore_signals(self) -> None:
        if threading.current_thread() is threading.main_thread():
            self._wake.leave_signals()
            for sig, previous in self._previous.items():
                if signal.getsignal(sig) != self._on_signal:
                    continue
                if self._last and self._interruption is not None and os.getpid() == self._pid:
                    signal.signal(sig, signal.SIG_IGN)
                else:
                    signal.signal(sig, previous if previous is not None else signal.SIG_DFL)
            self._previous.clear()

    # In the signal handler: record and wake, nothing else. Locks would deadlock here.

    def _on_signal(self, signum: int, frame: FrameType | None) -> None:
        news = signum != self._reload_on and self._interruption is None
        if signum != self._reload_on:
            self._record(signal.Signals(signum).name)
        self._wake.send_signal(signum, news=news)
        previous = self._previous.get(signal.Signals(signum))
        if self._chain and callable(previous) and previous is not signal.default_int_handler:
            self._call_previous(previous, signum, frame)

    def _call_previous(
        self, previous: Callable[[int, FrameType | None], Any], signum: int, frame: FrameType | None
    ) -> None:
        """Call the host's handler, but never inside itself: on Ctrl+C gunicorn's takes a lock and gets a SIGQUIT."""
        if self._chaining:
            return
        self._chaining = True
        try:
            previous(signum, frame)
        finally:
            self._chaining = False

    def _record(self, source: str) -> None:
        if self._interruption is None:
            now = time.monotonic()
            self._requested_at = now
            self._source = source
            self._interruption = Interruption(Reason.SHUTDOWN, now + self.grace)

    # On the coordinator's thread.

    def _run(self) -> None:
        leave_signals_to_main_thread()
        begun_at: float | None = None
        called_last = False
        while True:
            heard = self._wake.wait(self._patience(called_last))
            if not heard:
                if called_last:
                    self._overrun()
                    return
                called_last = True
                self._contain_all(self._last_calls)
            for byte in heard:
                if byte == _END[0]:
                    return
                if byte == self._reload_on:
                    self._contain_all(self._reloads)
                    continue
                source = self._source_of(byte)
                if source is None:
                    continue
                self._record(source)
                now = time.monotonic()
                if begun_at is None:
                    begun_at = now
                    self._begin(source)
                elif self._force and now - begun_at > REPEAT_AFTER:
                    self._hurry(source)

    def _source_of(self, byte: int) -> str | None:
        """Return what a byte on the pipe stands for; None for a signal that is not ours."""
        if byte == _REQUEST[0]:
            return self._reasons.popleft() if self._reasons else "request"
        return signal.Signals(byte).name if byte in self._signals else None

    def _patience(self, called_last: bool) -> float | None:
        """Return the seconds until the next rung of the ladder; None where none is due."""
        interruption = self._interruption
        if interruption is None or not self._force:
            return None
        left = interruption.seconds_left - 0.05 * self.grace  # what the very last rung takes
        return max(0.0, left if called_last else left - (1 - LAST_CALL - 0.05) * self.grace)

    def _begin(self, source: str) -> None:
        self._stopped.set()
        log.info("%s: %s received; stopping within %.1f s", self.role, source, self.grace)
        self._tell()

    def _hurry(self, source: str) -> None:
        interruption = self._interruption
        assert interruption is not None
        hurried = time.monotonic() + min(HURRY, 0.1 * self.grace)
        if interruption.deadline is None or interruption.deadline <= hurried + 0.1 * self.grace:
            return
        log.warning("%s: %s received again; going to the end of the shutdown now", self.role, source)
        self._interruption = Interruption(Reason.SHUTDOWN, hurried + 0.1 * self.grace)
        self._tell()

    def _tell(self) -> None:
        interruption = self._interruption
        assert interruption is not None
        for callback in tuple(self._callbacks):
            self._contain(partial(callback, interruption))

    def _contain_all(self, callbacks: list[Callable[[], Any]]) -> None:
        for callback in tuple(callbacks):
            self._contain(callback)

    @staticmethod
    def _contain(callback: Callable[[], Any]) -> None:
        try:
            callback()
        except Exception:
            log.exception("A shutdown callback failed; the shutdown goes on")

    def _overrun(self) -> None:
        log.error("%s: the grace of %.1f s is over; closing what is open and ending the process", self.role, self.grace)
        closer = threading.Thread(target=self.close, daemon=True)  # a close that hangs must not hold this up
        closer.start()
        closer.join(timeout=0.04 * self.grace)
        flush_logs()
        os._exit(EXIT_OVERRUN)

    def _summarise(self, level: int, closed: int, managed: int, began: float) -> None:
        since = self._requested_at if self._requested_at is not None else began
        facts = [f"{closed} of {managed} resources closed", *self._notes]
        log.log(
            level,
            "%s: shutdown (%s) took %.2f s: %s",
            self.role,
            self._source or "end of work",
            time.monotonic() - since,
            "; ".join(facts),
        )

    @property
    def _level(self) -> int:
        """A shutdown that was asked for is told; the end of work is not news."""
        return logging.INFO if self._interruption is not None else logging.DEBUG

    def _register_at_exit(self) -> None:
        if not self._registered:
            self._registered = True
            atexit.register(self.close)


_started: weakref.WeakSet[ShutdownCoordinator] = weakref.WeakSet()


def _after_fork_in_child() -> None:
    """A forked child has orders of its own: its parent's handlers and wake-up pipe are not for it."""
    for coordinator in tuple(_started):
        coordinator._restore_signals()
    _started.clear()


os.register_at_fork(after_in_child=_after_fork_in_child)


def _forget(callbacks: list[Any], callback: Any) -> None:
    if callback in callbacks:
        callbacks.remove(callback)
