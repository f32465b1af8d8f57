"""The ShutdownCoordinator on its own, in plain scripts, under real signals."""

from __future__ import annotations

import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from checkpoint_runner import Runner
from checkpoint_runner.embedded import EmbeddedValkey
from checkpoint_runner.errors import RedisUnavailable
from tests.process import process_tasks as tasks
from tests.process.conftest import ROOT, eventually

HEAD = """
import logging, os, signal, sys, time, threading
from checkpoint_runner import ShutdownCoordinator
logging.basicConfig(level=logging.INFO, stream=sys.stdout, format="%(message)s")

class Pool:
    def __init__(self, name, error=None, pause=0.0):
        self.name, self.error, self.pause = name, error, pause
    def close(self):
        time.sleep(self.pause)
        print("closed", self.name, flush=True)
        if self.error: raise self.error
"""


class Script:
    """A script in a process of its own."""

    def __init__(self, folder: Path, body: str) -> None:
        path = folder / "script.py"
        path.write_text(HEAD + textwrap.dedent(body), "utf-8")
        self.output = folder / "output"
        with self.output.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, str(path)], cwd=ROOT, stdout=output, stderr=output, env={"PYTHONPATH": str(ROOT)}
            )

    def says(self, text: str) -> None:
        eventually(lambda: text in self.output.read_text("utf-8"), what=f"the script says {text!r}")

    def lines(self) -> list[str]:
        return self.output.read_text("utf-8").splitlines()


@pytest.mark.parametrize("sig", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_closes_everything_in_reverse_order(sig: signal.Signals, tmp_path: Path) -> None:
    """If this fails, a pool is closed while what uses it is still open, or not at all."""
    script = Script(
        tmp_path,
        """
        with ShutdownCoordinator(grace=5) as coordinator:
            coordinator.manage(Pool("first"), name="first")
            coordinator.manage(Pool("broken", error=OSError("no")), name="broken")
            coordinator.manage(Pool("last"), name="last")
            coordinator.on_shutdown(lambda stop: print("told", stop.reason, round(stop.seconds_left), flush=True))
            print("ready", flush=True)
            while coordinator.stopping is None:
                time.sleep(0.01)
        print("left", flush=True)
        """,
    )
    script.says("ready")
    script.process.send_signal(sig)
    assert script.process.wait(5) == 0
    lines = script.lines()
    assert "told shutdown 5" in lines
    assert [line for line in lines if line in ("closed first", "closed broken", "closed last")] == [
        "closed last",
        "closed broken",
        "closed first",
    ]
    (summary,) = [line for line in lines if f"shutdown ({sig.name}) took" in line]
    assert "2 of 3 resources closed" in summary
    assert lines[-1] == "left"


def test_atexit_is_the_second_assurance(tmp_path: Path) -> None:
    """If this fails, a script that ends by an exception leaves its connections to the server's timeout."""
    script = Script(
        tmp_path,
        """
        coordinator = ShutdownCoordinator(grace=5)
        coordinator.manage(Pool("pool"))
        if os.fork() == 0:
            sys.exit(0)  # a child: these are its parent's
        os.wait()
        raise SystemExit(3)
        """,
    )
    assert script.process.wait(5) == 3
    assert script.lines().count("closed pool") == 1


def test_a_script_that_does_not_leave_is_ended_inside_its_grace(tmp_path: Path) -> None:
    """If this fails, a script that hangs is killed by its orchestrator with everything open."""
    script = Script(
        tmp_path,
        """
        with ShutdownCoordinator(grace=1) as coordinator:
            coordinator.manage(Pool("pool"))
            print("ready", flush=True)
            time.sleep(60)
        """,
    )
    script.says("ready")
    script.process.send_signal(signal.SIGTERM)
    began = time.monotonic()
    assert script.process.wait(5) == 1
    assert time.monotonic() - began <= 1.3
    assert "closed pool" in script.lines()


def test_a_second_signal_hurries_and_an_early_repeat_does_not(tmp_path: Path) -> None:
    """If this fails, the signal that a terminal and a parent both send costs the job its orderly end."""
    script = Script(
        tmp_path,
        """
        with ShutdownCoordinator(grace=30) as coordinator:
            coordinator.on_shutdown(lambda stop: print(f"told {stop.seconds_left > 5}", flush=True))
            coordinator.on_last_call(lambda: print("last call", flush=True))
            print("ready", flush=True)
            time.sleep(60)
        """,
    )
    script.says("ready")
    script.process.send_signal(signal.SIGINT)
    script.process.send_signal(signal.SIGTERM)
    script.says("told True")
    for _ in range(100):
        if script.process.poll() is not None or "told False" in script.lines():
            break
        time.sleep(0.1)
        script.process.send_signal(signal.SIGINT)
    assert script.process.wait(10) == 1
    assert script.lines().count("told True") == 1
    assert "last call" in script.lines()


def test_a_thousand_signals_do_no_harm(tmp_path: Path) -> None:
    """If this fails, a handler takes a lock that the interrupted code holds, and the process hangs."""
    script = Script(
        tmp_path,
        """
        with ShutdownCoordinator(grace=20, signals=[signal.SIGUSR1], force=False) as coordinator:
            for _ in range(1000):
                os.kill(os.getpid(), signal.SIGUSR1)
            assert coordinator.wait(5)
        print("left", flush=True)
        """,
    )
    assert script.process.wait(20) == 0
    assert script.lines()[-1] == "left"


def test_the_handlers_that_were_there_come_back(tmp_path: Path) -> None:
    """If this fails, a library user's own Ctrl+C stops working after the first use."""
    script = Script(
        tmp_path,
        """
        before = [signal.getsignal(sig) for sig in (signal.SIGINT, signal.SIGTERM)]
        with ShutdownCoordinator(grace=5):
            assert signal.getsignal(signal.SIGTERM) != before[1]
        assert [signal.getsignal(sig) for sig in (signal.SIGINT, signal.SIGTERM)] == before
        thread = threading.Thread(target=lambda: ShutdownCoordinator(grace=5).__enter__().stop())
        thread.start(); thread.join()
        assert [signal.getsignal(sig) for sig in (signal.SIGINT, signal.SIGTERM)] == before
        """,
    )
    assert script.process.wait(5) == 0, script.lines()


def test_a_frozen_server_costs_a_request_at_most_two_seconds(
    valkey: EmbeddedValkey, real_runner: Runner, tmp_path: Path
) -> None:
    """If this fails, one frozen Redis blocks every thread of the web app."""
    import os

    job = tasks.items.start(str(tmp_path / "items"), 1)
    assert valkey.pid is not None
    os.kill(valkey.pid, signal.SIGSTOP)
    try:
        for call in (job.refresh, lambda: tasks.items.start(str(tmp_path / "items"), 1), job.pause):
            began = time.monotonic()
            with pytest.raises(RedisUnavailable, match=r"valkey\.sock"):
                call()
            assert time.monotonic() - began <= 2.2
    finally:
        os.kill(valkey.pid, signal.SIGCONT)
