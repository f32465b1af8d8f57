"""Tasks of the enumerating rungs. Each writes what it did into a notebook that outlives its process."""

from __future__ import annotations

import os
from pathlib import Path

from checkpoint_runner import Checkpoint, checkpointed
from checkpoint_runner.runner import default_runner

ITEMS = 3
QUEUE = "ladder"
AT_EVERY_ITEM = 0.01
"""A `save_every` below the pulse's tick: every finished item is saved."""

MENDED = "mended"
"""The note after which a task that failed or asked for a person goes on."""


class Notebook:
    """A file of lines; each is one write, so that a killed process leaves no half ones."""

    def __init__(self) -> None:
        self.path = Path(os.devnull)

    def write(self, line: str) -> None:
        pages = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        try:
            os.write(pages, f"{line}\n".encode())
        finally:
            os.close(pages)

    def lines(self) -> list[str]:
        return self.path.read_text("utf-8").splitlines() if self.path.exists() else []


notebook = Notebook()


@checkpointed(name="ladder.count", queue=QUEUE, save_every=AT_EVERY_ITEM)
def count(checkpoint: Checkpoint, items: int = ITEMS) -> int:
    for item in checkpoint.each(range(items)):
        notebook.write(f"item {item}")
        checkpoint.state["sum"] = checkpoint.state.get("sum", 0) + item
    return checkpoint.state.get("sum", 0)


@checkpointed(name="ladder.lazy", queue=QUEUE, save_every=60.0)
def lazy(checkpoint: Checkpoint, items: int = ITEMS) -> int:
    for item in checkpoint.each(range(items)):
        notebook.write(f"item {item}")
        checkpoint.state["sum"] = checkpoint.state.get("sum", 0) + item
    return checkpoint.state.get("sum", 0)


@checkpointed(name="ladder.steps", queue=QUEUE, save_every=AT_EVERY_ITEM)
def steps(checkpoint: Checkpoint) -> int:
    def done(name: str, value: int) -> int:
        notebook.write(f"step {name} {value}")
        return value

    total = checkpoint.step("first", done, "first", 10)
    notebook.write("kept first 10")
    for item in checkpoint.each(range(2)):
        notebook.write(f"item {item}")
        checkpoint.state["sum"] = checkpoint.state.get("sum", 0) + checkpoint.step("of_item", done, "of_item", item + 1)
        notebook.write(f"kept of_item {item + 1}")
    total += checkpoint.step("last", done, "last", 100)
    notebook.write("kept last 100")
    return total + checkpoint.state["sum"]


@checkpointed(name="ladder.fails", queue=QUEUE, save_every=AT_EVERY_ITEM)
def fails(checkpoint: Checkpoint) -> int:
    for item in checkpoint.each(range(ITEMS)):
        if item == 1 and MENDED not in notebook.lines():
            raise ValueError("row 1 is broken")
        notebook.write(f"item {item}")
    return ITEMS


@checkpointed(name="ladder.asks", queue=QUEUE, save_every=AT_EVERY_ITEM)
def asks(checkpoint: Checkpoint) -> int:
    for item in checkpoint.each(range(ITEMS)):
        if item == 1 and MENDED not in notebook.lines():
            checkpoint.pause("look at row 1")
        notebook.write(f"item {item}")
    return ITEMS


@checkpointed(name="ladder.stops_itself", queue=QUEUE, save_every=AT_EVERY_ITEM)
def stops_itself(checkpoint: Checkpoint, verb: str) -> int:
    """Somebody asks the job to stop while its second item runs."""
    for item in checkpoint.each(range(ITEMS)):
        if item == 1 and MENDED not in notebook.lines():
            getattr(default_runner().job(checkpoint.job_id), verb)()
        notebook.write(f"item {item}")
    return ITEMS
