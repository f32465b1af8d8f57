"""crash_everywhere in earnest: a real server, a process for each attempt, and SIGKILL."""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypedDict

from checkpoint_runner.deliveries import Delivery
from checkpoint_runner.embedded import EmbeddedValkey
from checkpoint_runner.errors import CheckpointRunnerError
from checkpoint_runner.runner import Runner
from checkpoint_runner.testing.bench import REAL_LEASE, Bench
from checkpoint_runner.testing.comparison import Outcome
from checkpoint_runner.testing.experiment import MOST_DELIVERIES, Experiment
from checkpoint_runner.testing.faults import Fault, Kind
from checkpoint_runner.testing.watch import Watch

KINDS = frozenset({Kind.DEATH_BEFORE_SAVE, Kind.DEATH_AFTER_SAVE})
"""The kinds of fault that are tried here."""

PATIENCE = 300.0
"""Seconds that one attempt may take."""


class LastWords(TypedDict):
    """What a process says before it ends."""

    safe_places: int
    saves: int
    order: list[list[str]]


class Killing:
    """Runs an experiment on a real server; each attempt is a process with a hash seed of its own."""

    def __init__(self, experiment: Experiment, bench: Bench) -> None:
        self._experiment = experiment
        self._bench = bench
        self._seeds = itertools.count(1)

    def run(self, fault: Fault) -> Outcome:
        """Run the job, killed once, resume it until it ends, and return what came of it."""
        watch, saves, safe_places = Watch(time.time), 0, 0
        job = self._experiment.start(self._bench.runner)
        for _ in range(MOST_DELIVERIES):
            delivery = self._bench.take()
            if delivery is None:
                break
            # Only the first process is killed: points are counted from 1.
            said = self._attempt(delivery, Fault(fault.kind, fault.point if not saves else 0))
            saves += said["saves"]
            safe_places += said["safe_places"]
            for key in said["order"]:
                watch.begin(tuple(key))
            fault.where = fault.where or watch.last
            self._bench.store.forget_delivery(delivery.id)
        return self._experiment.outcome(job, watch, fault, saves=saves, safe_places=safe_places)

    def _attempt(self, delivery: Delivery, fault: Fault) -> LastWords:
        """Run one attempt in a process of its own, and return what it did."""
        module = self._experiment.task.spec.function.__module__
        victim = [sys.executable, "-m", "checkpoint_runner.testing.victim"]
        ended = subprocess.run(
            [*victim, self._bench.runner.settings.url, module, delivery.id, fault.kind, str(fault.point)],
            env={
                **os.environ,
                "PYTHONPATH": os.pathsep.join(path or os.getcwd() for path in sys.path),
                "PYTHONHASHSEED": str(next(self._seeds)),
            },
            capture_output=True,
            check=False,
            timeout=PATIENCE,
        )
        if ended.returncode == -signal.SIGKILL:
            self._bench.bury(delivery)
        elif ended.returncode:
            raise CheckpointRunnerError(
                f"The process of an attempt ended with the code {ended.returncode}: "
                f"{ended.stderr.decode('utf-8', 'replace')[-2000:]}"
            )
        said: LastWords = json.loads(ended.stdout.splitlines()[-1])
        return said


@contextmanager
def embedded_killing(experiment: Experiment) -> Iterator[Killing]:
    """Run an embedded server for experiments. Raises WrongSetting where it is not installed."""
    with tempfile.TemporaryDirectory(prefix="ckpt-") as folder:
        valkey = EmbeddedValkey(Path(folder))
        bench = Bench(Runner(valkey.start(), lease=REAL_LEASE))
        try:
            yield Killing(experiment, bench)
        finally:
            bench.runner.close()
            valkey.stop()
