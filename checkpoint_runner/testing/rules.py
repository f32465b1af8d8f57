"""The rules of resumable tasks, and what points to a broken one."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Rule(Enum):
    """A rule that a task must keep to be resumable; the value says what to do."""

    STATE = "What a task counts or collects belongs into checkpoint.state: variables end with their process."
    REPEATABLE = (
        "An item that was cut off begins again after a SIGKILL: write its effect so that it may be repeated "
        "(an upsert by the item's key, or an API call with checkpoint.idempotency_key)."
    )
    STEP = "Code outside items and steps runs in every attempt: put its effect into checkpoint.step(name, function)."
    BATCH = (
        "An item is finished when the loop asks for the next one: what the task keeps aside for later is lost at a "
        "stop. Do all of an item's work in its own turn, or make each batch one item."
    )
    ORDER = "A source must give the same items in the same order in every attempt: sort it, or keep it in a step."
    STILL = "What a loop walks through must not change meanwhile: loop over a copy that a step keeps."
    MADE_ANEW = "An iterator that one attempt has used up is empty in the next: make it anew in each attempt."
    ONE_FOR = "each() must feed one `for`, one item at a time: not zip(), batched(), list() or executor.map()."
    LET_PASS = "Let checkpoint_runner.Interrupted pass: catch Exception, and never BaseException or everything."  # noqa: S105 - no password
    LET_FAIL = (
        "What goes wrong in a source must fail the job, which then can be retried: "
        "catch exceptions inside an item, and not around the loop."
    )
    ONE_PURPOSE = "Each call in an item needs an idempotency key of its own: give idempotency_key two purposes."
    STORABLE = "State, results and arguments must come back from JSON as they went in."
    ROUND_TRIP = (
        "After a resume the state is what JSON made of it: one list or dict in two places comes back as two. "
        "Keep it in one place."
    )
    BOUNDED = "The state is stored with every save: keep totals and positions in it, and collections elsewhere."
    GRACE = "An item must end within the grace, or a shutdown kills it: make items smaller, or look at stopping."


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that was seen in the task and breaks a rule, whether or not it changed the outcome.

    `where` says in which item or line, `seen` what was found there.
    """

    rule: Rule
    where: str
    seen: str

    def __str__(self) -> str:
        return f"{self.where}: {self.seen}. {self.rule.value}"
