"""Tasks whose every item leaves a line behind, so that a test can count what was lost or repeated."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

from checkpoint_runner import Checkpoint, checkpointed


def note(path: str, checkpoint: Checkpoint, item: object) -> None:
    """Append one line with one write, which survives a SIGKILL of the writer."""
    line = f"{checkpoint.job_id} {item} {checkpoint.attempt}\n"
    file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(file, line.encode())
    finally:
        os.close(file)


@checkpointed
def items(checkpoint: Checkpoint, path: str, count: int, pause: float = 0.01) -> int:
    for item in checkpoint.each(range(count)):
        note(path, checkpoint, item)
        checkpoint.state["items"] = checkpoint.state.get("items", 0) + 1
        time.sleep(pause)
    return checkpoint.state.get("items", 0)


@checkpointed(queue="other")
def items_elsewhere(checkpoint: Checkpoint, path: str, count: int) -> int:
    for item in checkpoint.each(range(count)):
        note(path, checkpoint, item)
    return count


@checkpointed
def outlasts_the_grace(checkpoint: Checkpoint, path: str) -> None:
    for item in checkpoint.each(range(3)):
        note(path, checkpoint, item)
        if item == 1:
            time.sleep(60)


@checkpointed
def ends_early(checkpoint: Checkpoint, path: str) -> str:
    for item in checkpoint.each(range(2)):
        note(path, checkpoint, item)
        while item == 0:
            stopping = checkpoint.stopping
            if stopping is not None:
                note(path, checkpoint, f"{stopping.reason}:{stopping.seconds_left > 0}")
                break
            time.sleep(0.01)
    return "ended"


@checkpointed
def holds_the_gil(checkpoint: Checkpoint, path: str, size: int) -> None:
    for item in checkpoint.each(range(3)):
        note(path, checkpoint, item)
        "x".join(["y" * 10] * 1000)
        sum(range(size))


@checkpointed
def exits(checkpoint: Checkpoint, path: str, how: str) -> int:
    for item in checkpoint.each(range(4)):
        note(path, checkpoint, item)
        if item == 2 and checkpoint.attempt == 1:
            if how == "os._exit(0)":
                os._exit(0)
            if how == "sys.exit(3)":
                sys.exit(3)
            if how == "SIGKILL":
                os.kill(os.getpid(), signal.SIGKILL)
            if how == "SIGSEGV":
                os.kill(os.getpid(), signal.SIGSEGV)
    return 4


@checkpointed(max_crashes=2)
def always_dies(checkpoint: Checkpoint, path: str) -> None:
    for item in checkpoint.each(range(4)):
        note(path, checkpoint, item)
        if item == 2:
            os.kill(os.getpid(), signal.SIGKILL)


@checkpointed
def swallows(checkpoint: Checkpoint, path: str) -> str:
    for _ in range(3):
        try:
            for item in checkpoint.each(range(1000), name=f"loop{_}"):
                note(path, checkpoint, f"{_}:{item}")
                time.sleep(0.01)
        except:  # noqa: E722 - the mistake under test
            pass
    return "swallowed"


@checkpointed
def with_subprocess(checkpoint: Checkpoint, path: str) -> int:
    for item in checkpoint.each(range(200)):
        note(path, checkpoint, item)
        subprocess.run([sys.executable, "-c", "import time; time.sleep(0.05)"], check=True)
    return 200
