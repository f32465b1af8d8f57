"""A job worker of your own: `python -m workers.rq_worker [QUEUES]`.

It does what `checkpoint-runner worker --tasks workers.tasks` does; start from here where a worker has
to set something up first. The server comes from CHECKPOINT_RUNNER_REDIS_URL, RQ_REDIS_URL or REDIS_URL.
"""

from __future__ import annotations

import sys

from checkpoint_runner.console import start_logging
from checkpoint_runner.errors import CheckpointRunnerError
from checkpoint_runner.settings import Settings
from checkpoint_runner.worker_process import run_worker


def main(queues: tuple[str, ...]) -> None:
    """Serve `queues` (none: those of the registered tasks) until a signal comes."""
    start_logging()
    run_worker(Settings.read(tasks=("workers.tasks",)), queues)


if __name__ == "__main__":
    try:
        main(tuple(sys.argv[1:]))
    except CheckpointRunnerError as error:
        sys.exit(str(error))
