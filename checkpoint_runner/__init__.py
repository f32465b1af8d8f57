"""Long jobs that survive deploys: checkpoints in Redis, deliveries by RQ, an orderly way out."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from checkpoint_runner.checkpoint import Checkpoint as Checkpoint
    from checkpoint_runner.errors import CheckpointRunnerError as CheckpointRunnerError
    from checkpoint_runner.interruptions import Interrupted as Interrupted
    from checkpoint_runner.interruptions import Interruption as Interruption
    from checkpoint_runner.jobs import Job as Job
    from checkpoint_runner.runner import Runner as Runner
    from checkpoint_runner.runner import configure as configure
    from checkpoint_runner.runner import default_runner as default_runner
    from checkpoint_runner.shutdown import ShutdownCoordinator as ShutdownCoordinator
    from checkpoint_runner.statuses import Status as Status
    from checkpoint_runner.tasks import Task as Task
    from checkpoint_runner.tasks import checkpointed as checkpointed

_HOMES = {
    # Writing tasks
    "checkpointed": "tasks",
    "Task": "tasks",
    "Checkpoint": "checkpoint",
    "Interrupted": "interruptions",
    "Interruption": "interruptions",
    # Starting and following jobs
    "Job": "jobs",
    "Status": "statuses",
    "Runner": "runner",
    "configure": "runner",
    "default_runner": "runner",
    # Going down in order
    "ShutdownCoordinator": "shutdown",
    # What can go wrong: the whole tree is in checkpoint_runner.errors
    "CheckpointRunnerError": "errors",
}

__all__ = list(_HOMES)


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'checkpoint_runner' has no attribute {name!r}")
    return getattr(import_module(f"checkpoint_runner.{home}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
