"""Tasks whose outside world is a folder, for processes that are really killed."""

from __future__ import annotations

import os
from pathlib import Path

from checkpoint_runner import Checkpoint, checkpointed

count = 0


@checkpointed
def write_by_name(checkpoint: Checkpoint, folder: str) -> int:
    """Write one file per number; writing it again changes nothing."""
    for number in checkpoint.each(range(3)):
        (Path(folder) / str(number)).write_text("x")
        checkpoint.state["files"] = checkpoint.state.get("files", 0) + 1
    return int(checkpoint.state["files"])


@checkpointed
def count_in_a_global(checkpoint: Checkpoint, folder: str) -> int:
    """Count the files where only this process can see it."""
    global count
    for number in checkpoint.each(range(3)):
        (Path(folder) / str(number)).write_text("x")
        count += 1
    return count


@checkpointed
def walk_a_set(checkpoint: Checkpoint, folder: str) -> int:
    """Walk through names in the order of their hashes, which is another one in each process."""
    for name in checkpoint.each(list({"anna", "bert", "carl", "dora", "emil", "finn"})):
        with (Path(folder) / name).open("a") as file:
            file.write(f"{os.getpid()}"[:0])
    return len(os.listdir(folder))
