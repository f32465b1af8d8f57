"""Crash a task at every point, and compare what comes out with a run without faults."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from typing import Any

from checkpoint_runner.durations import Duration
from checkpoint_runner.statuses import Status
from checkpoint_runner.tasks import Task
from checkpoint_runner.testing.bench import quiet
from checkpoint_runner.testing.checks import check_source_code, check_watch
from checkpoint_runner.testing.comparison import Outcome, compare
from checkpoint_runner.testing.experiment import Experiment, InThisProcess
from checkpoint_runner.testing.faults import AT_SAVES, Fault, Kind
from checkpoint_runner.testing.memory import Memory
from checkpoint_runner.testing.report import Difference, Report
from checkpoint_runner.testing.rules import Rule

MOST_POINTS = 50
"""Points per kind of fault, by default."""


def crash_everywhere(
    task: Task[..., Any],
    /,
    *args: Any,
    snapshot: Callable[[], Any] | None = None,
    reset: Callable[[], Any] | None = None,
    kinds: Collection[Kind] = tuple(Kind),
    most_points: int = MOST_POINTS,
    grace: Duration | None = None,
    allow: Collection[Rule] = (),
    subprocess: bool = False,
    **kwargs: Any,
) -> Report:
    """Run `task(*args, **kwargs)` without faults, then once per fault point and kind, and compare.

    Each time `reset` makes the outside world new, the job is interrupted at one point and resumed until it
    ends, and its result, what `snapshot` returns of the outside world, and the items that were done again
    are compared with the uninterrupted run. What `snapshot` and `reset` refer to is the outside world;
    every other plain variable that the task's code refers to is put back before each attempt, as in a new
    process. A task with more than `most_points` points is struck at that many, evenly. `grace` (seconds
    or a timedelta) is how long an item may take; `allow` names rules that may be broken.

    Everything runs in this process on fakeredis. With `subprocess` the attempts run in processes of
    their own on an embedded Valkey, and are killed by SIGKILL before and after each save; the task must
    then be at module level, and the outside world in files or on a server.

    Raises WrongArguments and UnstorableValue for arguments that can't be started with.
    """
    experiment = Experiment(task, args, kwargs, snapshot, reset)
    with quiet():
        if subprocess:
            from checkpoint_runner.testing.killing import KINDS, embedded_killing

            with embedded_killing(experiment) as killing:
                return _crash(task, killing.run, KINDS & set(kinds), most_points, grace, allow)
        with Memory(task.spec.function, snapshot, reset) as memory:
            return _crash(task, InThisProcess(experiment, memory, grace).run, kinds, most_points, grace, allow)


def check_task(
    task: Task[..., Any],
    /,
    *args: Any,
    snapshot: Callable[[], Any] | None = None,
    reset: Callable[[], Any] | None = None,
    grace: Duration | None = None,
    allow: Collection[Rule] = (),
    **kwargs: Any,
) -> Report:
    """Look at the task's code, run it twice without faults, and report what it does that can't be resumed.

    The parameters are those of `crash_everywhere`, which checks this too. Raises what that raises.
    """
    return crash_everywhere(task, *args, snapshot=snapshot, reset=reset, kinds=(), grace=grace, allow=allow, **kwargs)


def _crash(
    task: Task[..., Any],
    run: Callable[[Fault], Outcome],
    kinds: Collection[Kind],
    most_points: int,
    grace: Duration | None,
    allow: Collection[Rule],
) -> Report:
    plain = run(Fault(Kind.NONE, 0))
    findings = [*check_source_code(task.spec.function), *check_watch(plain.watch, task.spec, grace)]
    differences: list[Difference] = []
    runs = 0
    if plain.status == Status.FINISHED:
        again = run(Fault(Kind.NONE, 0))
        differences += compare(Kind.NONE, 0, plain, again, findings)
        findings += again.watch.findings
    else:
        differences.append(plain.as_difference())
    if not differences:
        for fault in _faults(kinds, plain, most_points):
            outcome = run(fault)
            runs += bool(outcome.where)
            differences += compare(fault.kind, fault.point, plain, outcome, findings)
            findings += outcome.watch.findings
    return Report(
        task=task.name,
        safe_places=plain.safe_places,
        saves=plain.saves,
        runs=runs,
        result=plain.result,
        findings=[finding for finding in dict.fromkeys(findings) if finding.rule not in allow],
        differences=[difference for difference in differences if difference.rule not in allow],
    )


def _faults(kinds: Collection[Kind], plain: Outcome, most: int) -> Iterator[Fault]:
    for kind in Kind:
        if kind in kinds and kind is not Kind.NONE:
            points = plain.saves if kind in AT_SAVES else plain.safe_places
            for point in evenly(points, most):
                yield Fault(kind, point)


def evenly(points: int, most: int) -> list[int]:
    """Return at most that many of the points 1..`points`, the first and the last among them."""
    if points <= most:
        return list(range(1, points + 1))
    return sorted({1 + round(step * (points - 1) / max(1, most - 1)) for step in range(most)})
