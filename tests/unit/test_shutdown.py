"""The ShutdownCoordinator's logic; real signals to real processes are tested elsewhere."""

from __future__ import annotations

import logging
import os
import signal
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from checkpoint_runner import Checkpoint, Interruption, ShutdownCoordinator, checkpointed
from checkpoint_runner.delivery import Host, run_delivery
from checkpoint_runner.errors import WrongSetting, WrongUse
from checkpoint_runner.interruptions import Reason
from tests.conftest import Worker, done


@checkpointed
def letters(checkpoint: Checkpoint) -> None:
    for letter in checkpoint.each("abc"):
        done.append(letter)


@pytest.fixture
def coordinator() -> Iterator[ShutdownCoordinator]:
    made = ShutdownCoordinator(60.0, signals=(), force=False)
    yield made
    made.stop()


class Resource:
    def __init__(self, name: str, closed: list[str]) -> None:
        self.name = name
        self.closed = closed

    def close(self) -> None:
        self.closed.append(self.name)


def test_last_in_first_out(coordinator: ShutdownCoordinator) -> None:
    """A connection would be closed under the thing that still uses it."""
    closed: list[str] = []
    for name in "abc":
        resource = Resource(name, closed)
        assert coordinator.manage(resource) is resource
    coordinator.close()
    assert closed == ["c", "b", "a"]


def test_closing_twice_is_harmless(coordinator: ShutdownCoordinator) -> None:
    """An explicit close and the one at exit would close everything twice."""
    closed: list[str] = []
    coordinator.manage(Resource("a", closed))
    coordinator.close()
    coordinator.close()
    coordinator.stop()
    coordinator.stop()
    assert closed == ["a"]


def test_a_close_that_fails_does_not_stop_the_others(
    coordinator: ShutdownCoordinator, caplog: pytest.LogCaptureFixture
) -> None:
    """One broken resource would leave all the others open."""
    closed: list[str] = []

    def broken(_: Any) -> None:
        raise OSError("already gone")

    coordinator.manage(Resource("a", closed))
    coordinator.manage(Resource("b", closed), close=broken, name="the broken one")
    coordinator.manage(Resource("c", closed))
    coordinator.request()
    with caplog.at_level(logging.INFO):
        coordinator.close()
    assert closed == ["c", "a"]
    assert "could not close the broken one" in caplog.text
    assert "2 of 3 resources closed" in caplog.text


@pytest.mark.parametrize("method", ["close", "disconnect", "shutdown", "stop"])
def test_ways_to_close(coordinator: ShutdownCoordinator, method: str) -> None:
    """Pools and executors, which name it otherwise, could not be managed."""
    closed: list[str] = []
    resource = type("Thing", (), {method: lambda self: closed.append(method)})()
    coordinator.manage(resource)
    coordinator.close()
    assert closed == [method]


def test_what_cannot_be_closed_is_refused(coordinator: ShutdownCoordinator) -> None:
    """A resource would silently stay open."""
    with pytest.raises(WrongUse, match=r"A object has no close\(\).*manage\(resource, close=...\)"):
        coordinator.manage(object())


def test_callbacks_hear_of_the_shutdown_once(coordinator: ShutdownCoordinator) -> None:
    """A job would be told to stop again and again, or never."""
    heard: list[Interruption] = []
    told = threading.Event()
    coordinator.on_shutdown(heard.append)
    coordinator.on_shutdown(lambda _: told.set())
    coordinator.start()
    assert coordinator.stopping is None
    coordinator.request("test")
    coordinator.request("test")
    assert coordinator.wait(5)
    assert told.wait(5)
    coordinator.stop()
    assert len(heard) == 1
    assert heard[0].reason is Reason.SHUTDOWN
    assert 50 < heard[0].seconds_left <= 60


def test_a_callback_that_comes_late_is_called_at_once(coordinator: ShutdownCoordinator) -> None:
    """A job that begins during the shutdown would not know of it."""
    coordinator.request()
    heard: list[Interruption] = []
    coordinator.on_shutdown(heard.append)
    assert len(heard) == 1


def test_a_callback_that_fails_does_not_stop_the_others(coordinator: ShutdownCoordinator) -> None:
    """One broken callback would keep the jobs from being saved."""
    told = threading.Event()

    def broken(_: Interruption) -> None:
        raise ValueError("no")

    coordinator.on_shutdown(broken)
    coordinator.on_shutdown(lambda _: told.set())
    coordinator.start()
    coordinator.request()
    assert told.wait(5)


def test_a_callback_can_be_taken_back(coordinator: ShutdownCoordinator) -> None:
    """Finished jobs would be told to stop."""
    heard: list[Interruption] = []
    told = threading.Event()
    forget = coordinator.on_shutdown(heard.append)
    coordinator.on_shutdown(lambda _: told.set())
    forget()
    coordinator.start()
    coordinator.request()
    assert told.wait(5)
    assert heard == []


def test_taking_a_callback_back_twice_is_harmless(coordinator: ShutdownCoordinator) -> None:
    """A `finally` that runs twice would hide the first error behind a ValueError."""
    for forget in (coordinator.on_shutdown(lambda _: None), coordinator.on_last_call(lambda: None)):
        forget()
        forget()


def test_a_fork_does_not_close_its_parents_resources(
    coordinator: ShutdownCoordinator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A forked child would close the sockets that its parent still uses."""
    closed: list[str] = []
    coordinator.manage(Resource("a", closed))
    with monkeypatch.context() as patch:
        patch.setattr(os, "getpid", lambda: -1)
        coordinator.close()
    assert closed == []
    coordinator.close()
    assert closed == ["a"]


def test_signal_handlers_are_restored() -> None:
    """A host would lose its own handlers after the context."""
    before = signal.getsignal(signal.SIGTERM)
    with ShutdownCoordinator(60.0, signals=(signal.SIGTERM,)) as coordinator:
        assert signal.getsignal(signal.SIGTERM) != before
        signal.raise_signal(signal.SIGTERM)
        assert coordinator.wait(5)
        assert coordinator.stopping is not None
    assert signal.getsignal(signal.SIGTERM) == before


def test_chained_handlers_are_called_after_ours() -> None:
    """A host such as RQ would not hear of its own signal."""
    seen: list[object] = []
    before = signal.signal(signal.SIGTERM, lambda *_: seen.append(coordinator.stopping))
    try:
        with ShutdownCoordinator(60.0, signals=(signal.SIGTERM,), chain=True) as coordinator:
            signal.raise_signal(signal.SIGTERM)
            assert coordinator.wait(5)
        assert len(seen) == 1
        assert isinstance(seen[0], Interruption)
    finally:
        signal.signal(signal.SIGTERM, before)


def test_pythons_own_interrupt_is_never_called() -> None:
    """Ctrl+C would raise KeyboardInterrupt in the middle of a Redis command."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with ShutdownCoordinator(60.0, signals=(signal.SIGINT,), chain=True) as coordinator:
            signal.raise_signal(signal.SIGINT)
            assert coordinator.wait(5)
    finally:
        signal.signal(signal.SIGINT, before)


def test_in_another_thread_there_are_no_signals() -> None:
    """A coordinator in a thread would fail to start at all."""
    before = signal.getsignal(signal.SIGTERM)
    result: list[bool] = []

    def run() -> None:
        with ShutdownCoordinator(60.0) as coordinator:
            coordinator.request()
            result.append(coordinator.wait(5) and signal.getsignal(signal.SIGTERM) == before)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert result == [True]


def test_one_summary_line(coordinator: ShutdownCoordinator, caplog: pytest.LogCaptureFixture) -> None:
    """A Ctrl+C could not be read in the log."""
    coordinator.role = "worker"
    coordinator.manage(Resource("a", []), name="redis")
    coordinator.note("3 jobs saved")
    coordinator.request("SIGTERM")
    with caplog.at_level(logging.INFO):
        coordinator.close()
        coordinator.close()
    assert caplog.text.count("closed redis in") == 1
    summary = [record.getMessage() for record in caplog.records if "shutdown (SIGTERM) took" in record.getMessage()]
    assert len(summary) == 1
    assert summary[0].startswith("worker: ")
    assert summary[0].endswith("1 of 1 resources closed; 3 jobs saved")


@pytest.mark.parametrize("grace", [0, -1, "25", None, float("nan")])
def test_an_odd_grace_is_refused(grace: Any) -> None:
    """A process would be killed at once, or never."""
    with pytest.raises(WrongSetting, match="grace"):
        ShutdownCoordinator(grace)


def test_jobs_that_ended_are_forgotten(worker: Worker, coordinator: ShutdownCoordinator) -> None:
    """A process that runs many jobs would keep them all in memory, and tell them all to stop at the end."""
    host = Host(worker.backend, coordinator=coordinator)
    for _ in range(3):
        letters.start()
        delivery = worker._next()
        assert delivery is not None
        assert run_delivery(host, delivery) == "finished"
    assert coordinator._callbacks == []


def test_a_delivery_during_the_shutdown_goes_back(worker: Worker, coordinator: ShutdownCoordinator) -> None:
    """A job that is taken in the last moment would be lost, or begun and broken off."""
    job = letters.start()
    delivery = worker._next()
    assert delivery is not None
    coordinator.request()
    assert run_delivery(Host(worker.backend, coordinator=coordinator), delivery) == "queued"
    assert done == []
    assert job.refresh().attempts == 0
    assert worker.run() == "finished"
