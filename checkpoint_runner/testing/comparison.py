"""An interrupted run beside the uninterrupted one: what differs, and which rule that points to."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from checkpoint_runner.statuses import Status
from checkpoint_runner.testing.faults import CUTTING_OFF, Kind
from checkpoint_runner.testing.report import Difference, shortened
from checkpoint_runner.testing.rules import Finding, Rule
from checkpoint_runner.testing.watch import Key, Watch

_BY_ERROR = {
    "CheckpointTooLarge": Rule.BOUNDED,
    "InputChanged": Rule.STILL,
    "UnstorableValue": Rule.STORABLE,
    "WrongSource": Rule.MADE_ANEW,
}


@dataclass(frozen=True)
class Outcome:
    """What came of one run. `variables` are those that the task changed in its process."""

    status: str
    reason: str
    error: str
    result: Any
    snapshot: Any
    watch: Watch
    safe_places: int
    saves: int
    variables: list[str]
    where: str

    @property
    def end(self) -> str:
        """The status, and why."""
        return f"{self.status} ({self.error}: {self.reason})" if self.error else f"{self.status} ({self.reason})"

    def as_difference(self) -> Difference:
        """Return what is wrong with an uninterrupted run that did not finish."""
        rule = _BY_ERROR.get(self.error)
        return Difference(Kind.NONE, 0, self.watch.last, "status", "finished", self.end, rule)


def compare(kind: Kind, point: int, plain: Outcome, found: Outcome, findings: list[Finding]) -> list[Difference]:
    """Return the first thing that differs, in a list, or nothing."""
    differs = next(_differences(kind, plain, found), None)
    if differs is None:
        return []
    rule, hint = next(_clues(kind, plain, found, [*findings, *found.watch.findings]), (None, ""))
    return [Difference(kind, point, found.where or found.watch.last, *differs, rule, hint)]


def _differences(kind: Kind, plain: Outcome, found: Outcome) -> Iterator[tuple[str, str, str]]:
    """Yield what differs: what, what was expected, what was found."""
    if found.status != Status.FINISHED:
        yield "status", "finished", found.end
    if found.result != plain.result:
        yield "result", shortened(plain.result), shortened(found.result)
    if found.snapshot != plain.snapshot:
        yield "snapshot", shortened(plain.snapshot), shortened(found.snapshot)
    if kind is Kind.NONE and found.watch.order != plain.watch.order:
        yield "items", _listed(plain.watch.order), _listed(found.watch.order)
    if missing := _missing(plain, found):
        yield "items", "every item", f"left out: {_listed(missing)}"
    repeated = _repeated(plain, found)
    if kind in CUTTING_OFF and len(repeated) > 1:
        yield "items", "one item again, the one that was cut off", f"again: {_listed(repeated)}"
    elif kind not in CUTTING_OFF and repeated:
        yield "items", "every item once", f"again: {_listed(repeated)}"


def _missing(plain: Outcome, found: Outcome) -> list[Key]:
    return list((plain.watch.begun - found.watch.begun).elements())


def _repeated(plain: Outcome, found: Outcome) -> list[Key]:
    """Return the innermost items that were done more often than without faults; bodies around them run again."""
    around = plain.watch.outer | found.watch.outer
    more: Counter[Key] = found.watch.begun - plain.watch.begun
    return [key for key in more.elements() if key not in around]


def _clues(kind: Kind, plain: Outcome, found: Outcome, findings: list[Finding]) -> Iterator[tuple[Rule | None, str]]:
    """Yield the rules that a difference points to, and what was seen that makes it so; the surest first."""
    missing, repeated = _missing(plain, found), _repeated(plain, found)
    if found.error in _BY_ERROR:
        yield _BY_ERROR[found.error], ""
    if found.status == Status.PAUSED and "The input of the loop" in found.reason:
        yield Rule.STILL, ""
    for finding in findings:
        yield finding.rule, f"{finding.where}: {finding.seen}"
    if kind is Kind.NONE and found.watch.order != plain.watch.order:
        yield Rule.ORDER, f"first {_listed(plain.watch.order)}, then {_listed(found.watch.order)}"
    if kind is Kind.NONE:
        yield None, "two runs without faults differ: compare only what does not depend on time, chance or the job's id"
    yield from _missing_clues(kind, missing, repeated)
    if found.variables:
        names = ", ".join(found.variables)
        yield Rule.STATE, f"the process that ended had changed {names}, which is not in checkpoint.state"
    if found.result != plain.result and found.snapshot == plain.snapshot is not None:
        yield Rule.STATE, "the outside world is the same, so the result was made of what the process remembered"
    if _size(found.snapshot) < _size(plain.snapshot):
        yield Rule.BATCH, "every item was begun, and the effects of some are missing"
    if repeated:
        yield Rule.REPEATABLE, f"begun again: {_listed(repeated)}"
    if found.snapshot != plain.snapshot and kind is not Kind.DOUBLED_DELIVERY:
        yield Rule.STEP, "no item was begun twice, so this was done outside of items and steps"


def _missing_clues(kind: Kind, missing: list[Key], repeated: list[Key]) -> Iterator[tuple[Rule, str]]:
    """Yield what it points to that items were never begun."""
    if missing and repeated:
        yield Rule.ORDER, f"begun again: {_listed(repeated)}; never begun: {_listed(missing)}"
    elif missing and kind is Kind.EXCEPTION:
        yield Rule.LET_FAIL, f"the task caught the exception and went on; never begun: {_listed(missing)}"
    elif missing:
        yield Rule.ONE_FOR, f"never begun: {_listed(missing)}"


def _size(world: Any) -> int:
    """Return how many values there are in a snapshot."""
    if isinstance(world, dict):
        return len(world) + sum(map(_size, world.values()))
    return 1 + sum(map(_size, world)) if isinstance(world, list | tuple | set | frozenset) else 1


def _listed(keys: Iterable[Key]) -> str:
    texts = [" > ".join(key) for key in keys]
    return ", ".join(texts[:5]) + (f" and {len(texts) - 5} more" if len(texts) > 5 else "")
