"""Tasks and functions that workers in the contract tests import."""

from __future__ import annotations

import os
from pathlib import Path

from checkpoint_runner import Checkpoint, checkpointed


@checkpointed(queue="contract", name="contract.count")
def count(checkpoint: Checkpoint, items: int) -> int:
    for item in checkpoint.each(range(items)):
        checkpoint.state["sum"] = checkpoint.state.get("sum", 0) + item
    return checkpoint.state.get("sum", 0)


def mark(*_arguments: object, **_named: object) -> None:
    """Leave a mark: an ordinary RQ job, or what a forged delivery wants to have called."""
    with Path(os.environ["CONTRACT_MARK"]).open("a") as file:
        file.write("ran\n")
