"""A process that runs one delivery, and may be killed by SIGKILL at a save. `killing` starts it.

Arguments: the server's URL, the module of the task, the delivery's id, the kind of fault, its point.
Before it ends, in whatever way, it writes what it did as one line of JSON.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import sys
import time
from collections.abc import Callable
from typing import NoReturn

from checkpoint_runner.testing.bench import REAL_LEASE, Bench, LocalRunner
from checkpoint_runner.testing.faults import Fault, FaultyStore, Kind
from checkpoint_runner.testing.trial import Trial
from checkpoint_runner.testing.watch import Watch


class DeadlyStore(FaultyStore):
    """A store in whose process SIGKILL is SIGKILL."""

    last_words: Callable[[], None]

    def die(self) -> NoReturn:
        self.last_words()
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError("nobody survives SIGKILL")


def main(url: str, module: str, delivery: str, kind: str, point: str) -> None:
    """Run the delivery."""
    importlib.import_module(module)
    bench = Bench(LocalRunner(url, lease=REAL_LEASE), DeadlyStore)
    trial = Trial(bench, Fault(Kind(kind), int(point)), Watch(time.time))

    def say() -> None:
        print(
            json.dumps({"safe_places": trial.safe_places, "saves": trial.saves, "order": trial.watch.order}), flush=True
        )

    assert isinstance(bench.store, DeadlyStore)
    bench.store.last_words = say
    bench.run(delivery, trial.attend, trial.strike)
    say()
    bench.runner.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
