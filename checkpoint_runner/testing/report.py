"""What crash_everywhere found out."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from checkpoint_runner.testing.faults import Kind
from checkpoint_runner.testing.rules import Finding, Rule


@dataclass(frozen=True, slots=True)
class Difference:
    """One thing that is not as in the uninterrupted run.

    `kind` and `point` say which fault came when (the points of a kind are counted from 1), `where` after
    which item or step; `what` is "status", "result", "snapshot" or "items"; `rule` is the one that it
    points to, where there is one, and `hint` what was seen that makes it so.
    """

    kind: Kind
    point: int
    where: str
    what: str
    expected: str
    found: str
    rule: Rule | None = None
    hint: str = ""

    def __str__(self) -> str:
        when = f"{self.kind}, point {self.point} (after {self.where})" if self.point else "without faults"
        text = (
            f"{when}: the {self.what} {'differ' if self.what == 'items' else 'differs'}.\n"
            f"  expected: {self.expected}\n"
            f"  found:    {self.found}"
        )
        if self.hint:
            text += f"\n  seen:     {self.hint}"
        return text + (f"\n  rule:     {self.rule.value}" if self.rule else "")


@dataclass(frozen=True)
class Report:
    """The comparison of a task's interrupted runs with its uninterrupted one. It is true where all is well.

    `safe_places` and `saves` are those of the uninterrupted run, `runs` the interrupted ones.
    """

    task: str
    safe_places: int = 0
    saves: int = 0
    runs: int = 0
    result: Any = None
    findings: list[Finding] = field(default_factory=list)
    differences: list[Difference] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether no run differed and no rule was seen to be broken."""
        return not self.findings and not self.differences

    def check(self) -> None:
        """Raise AssertionError, with the first point that differs, unless all is well."""
        if not self.ok:
            raise AssertionError(str(self))

    def __bool__(self) -> bool:
        return self.ok

    def __str__(self) -> str:
        head = (
            f"{self.task}: {self.runs} interrupted runs ({self.safe_places} safe places, {self.saves} saves), "
            f"{len(self.differences)} of which differ from the uninterrupted one"
        )
        parts = [head + ("." if self.ok else ":")]
        parts += [f"The first: {difference}" for difference in self.differences[:1]]
        parts += [f"Seen in {finding}" for finding in self.findings]
        return "\n".join(parts)

    __repr__ = __str__


def shortened(value: object) -> str:
    """Return a value as a report shows it."""
    text = repr(value)
    return text if len(text) <= 200 else f"{text[:140]} ... {text[-50:]}"
