"""A warm process that forks victims, and what makes a victim die at a chosen command.

Run as a program it reads one order per line from its input, forks a child for each, and writes one
line about how the child ended. It has one thread and no connection, so that a fork is clean and
takes milliseconds.
"""

from __future__ import annotations

import gc
import json
import os
import signal
import subprocess
import sys
import traceback
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Order:
    """One victim: what it does, and where it dies. Point 0 is nowhere, it then says how many commands it sent."""

    scenario: str
    url: str
    notebook: str
    ids: list[str]
    point: int = 0
    phase: str = "before"
    elsewhere: bool = False


@dataclass(frozen=True)
class Fate:
    """How a victim ended: the signal that killed it or 0, how many commands it sent and replies it got.

    `answer` is what its call returned, `trouble` what it raised.
    """

    killed_by: int
    sent: int
    answered: int
    answer: Any
    trouble: str


class WarmProcess:
    """The forking process, seen from the test."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.ladder.victims"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=ROOT,
            text=True,
            start_new_session=True,
        )

    def run(self, order: Order) -> Fate:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(asdict(order)) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        assert line, "the warm process is gone"
        return Fate(**json.loads(line))

    def stop(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()


def _serve() -> None:
    _warm_up()
    gc.freeze()
    for line in sys.stdin:
        order = Order(**json.loads(line))
        read_end, write_end = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.close(read_end)
            _live_and_die(order, write_end)
        os.close(write_end)
        with os.fdopen(read_end, "rb") as pipe:
            told = pipe.read()
        _, status = os.waitpid(pid, 0)
        killed_by = os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0
        rest = json.loads(told) if told else {"sent": 0, "answered": 0, "answer": None, "trouble": ""}
        print(json.dumps({"killed_by": killed_by, **rest}), flush=True)


def _warm_up() -> None:
    """Load what a victim needs, so that it does not each time."""
    from checkpoint_runner import backend, processes, scripts
    from tests.ladder import scenarios  # noqa: F401

    backend.rq_prefix()
    processes.host()
    processes.boot()
    for file in (ROOT / "checkpoint_runner" / "lua").glob("*.lua"):
        if file.stem != "prelude":
            scripts.script(file.stem)


def _live_and_die(order: Order, write_end: int) -> None:
    """Do what the order says in this fresh process, and end it."""
    from checkpoint_runner import Runner, configure, events, processes
    from tests.ladder.ladder_tasks import notebook
    from tests.ladder.ladder_world import KEYS, LEASE
    from tests.ladder.scenarios import SCENARIOS

    told: dict[str, Any] = {"sent": 0, "answered": 0, "answer": None, "trouble": ""}
    try:
        notebook.path = Path(order.notebook)
        events.subscribe(_note_saved)
        if order.elsewhere:
            processes.host = lambda: "elsewhere"  # type: ignore[assignment]
        counter = _die_at(order.point, order.phase)
        runner = configure(Runner(order.url, namespace=KEYS.namespace, lease=LEASE))
        told["answer"] = SCENARIOS[order.scenario].act(runner, order.ids)
        told["sent"], told["answered"] = counter
    except BaseException:
        told["trouble"] = traceback.format_exc()
    finally:
        os.write(write_end, json.dumps(told).encode())
        os._exit(0)


def _note_saved(event: Any) -> None:
    from checkpoint_runner import events
    from tests.ladder.ladder_tasks import notebook

    if isinstance(event, events.CheckpointSaved):
        notebook.write(f"saved {event.position}")


def _die_at(point: int, phase: str) -> list[int]:
    """Have this process killed before it sends command `point`, or after it has read its reply."""
    from redis.connection import AbstractConnection

    counter = [0, 0]
    send, read = AbstractConnection.send_packed_command, AbstractConnection.read_response

    def send_packed_command(self: Any, command: Any, check_health: bool = True) -> None:
        if not self._sock:
            self.connect_check_health(check_health=False)  # its own commands come first
        counter[0] += 1
        if phase == "before" and counter[0] == point:
            os.kill(os.getpid(), signal.SIGKILL)
        send(self, command, check_health)

    def read_response(self: Any, *arguments: Any, **named: Any) -> Any:
        try:
            return read(self, *arguments, **named)
        finally:
            counter[1] += 1
            if phase == "after" and counter[1] == point:
                os.kill(os.getpid(), signal.SIGKILL)

    AbstractConnection.send_packed_command = send_packed_command  # type: ignore[method-assign]
    AbstractConnection.read_response = read_response  # type: ignore[method-assign]
    return counter


if __name__ == "__main__":
    _serve()
