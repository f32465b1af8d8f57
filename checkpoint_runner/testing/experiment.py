"""A call of a task, and the outside world that it works on: what is done to it, and what comes out."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from checkpoint_runner.durations import Duration
from checkpoint_runner.jobs import Job
from checkpoint_runner.runner import Runner
from checkpoint_runner.statuses import Status
from checkpoint_runner.tasks import Task
from checkpoint_runner.testing.bench import bench_in_memory
from checkpoint_runner.testing.comparison import Outcome
from checkpoint_runner.testing.faults import Fault, Kind
from checkpoint_runner.testing.memory import Memory
from checkpoint_runner.testing.trial import Trial
from checkpoint_runner.testing.watch import Watch

MOST_DELIVERIES = 20
"""Deliveries after which a job that does not end is given up."""


@dataclass(frozen=True)
class Experiment:
    """What is tried again and again."""

    task: Task[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    snapshot: Callable[[], Any] | None
    reset: Callable[[], Any] | None

    def start(self, runner: Runner) -> Job[Any]:
        """Make the outside world new, and start the job."""
        if self.reset is not None:
            self.reset()
        return self.task.options(runner=runner).start(*self.args, **self.kwargs)

    def outcome(
        self,
        job: Job[Any],
        watch: Watch,
        fault: Fault,
        *,
        saves: int,
        safe_places: int = 0,
        variables: Iterable[str] = (),
    ) -> Outcome:
        """Look at the job and at the world when all is done."""
        job = job.refresh()
        return Outcome(
            status=job.status,
            reason=job.error.message if job.error else job.reason,
            error=job.error.type if job.error else "",
            result=job.result,
            snapshot=None if self.snapshot is None else self.snapshot(),
            watch=watch,
            safe_places=safe_places,
            saves=saves,
            variables=sorted(set(variables)),
            where=fault.where,
        )


@dataclass(frozen=True)
class InThisProcess:
    """Runs an experiment on a server in memory; before each attempt the process forgets what it knew."""

    experiment: Experiment
    memory: Memory
    grace: Duration | None

    def run(self, fault: Fault) -> Outcome:
        """Run the job with one fault, resume it until it ends, and return what came of it."""
        self.memory.put_back()
        variables: list[str] = []
        with bench_in_memory(grace=self.grace) as bench:
            trial = Trial(bench, fault, Watch(bench.clock.time))
            job = self.experiment.start(bench.runner)
            with trial.listening():
                while len(trial.statuses) < MOST_DELIVERIES and trial.deliver():
                    variables += self.memory.changed
                    self.memory.put_back()
                    if fault.kind is Kind.EXCEPTION and trial.statuses == [Status.FAILED]:
                        job.refresh().retry()
            return self.experiment.outcome(
                job, trial.watch, fault, saves=trial.saves, safe_places=trial.safe_places, variables=variables
            )
