"""Seeded mistakes, each caught and named; and tasks without one, which pass."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from checkpoint_runner import Checkpoint, Task, checkpointed, specs
from checkpoint_runner.sources import lines
from checkpoint_runner.testing import Kind, Report, Rule, check_task, crash_everywhere
from checkpoint_runner.testing.checks import check_watch
from checkpoint_runner.testing.crash import evenly
from checkpoint_runner.testing.faults import AT_SAVES
from checkpoint_runner.testing.watch import Watch


@dataclass
class Tally:
    lines: int = 0


rows: list[Any] = []
table: dict[Any, Any] = {}
paid: dict[str, int] = {}


def world() -> Any:
    return list(rows), dict(table), dict(paid)


def new_world() -> None:
    rows.clear()
    table.clear()
    paid.clear()


@pytest.fixture(autouse=True)
def _local_tasks_are_forgotten() -> Iterator[None]:
    with specs.forgetting_local_tasks():
        yield
    new_world()


def crash(task: Task[..., Any], *args: Any, **options: Any) -> Report:
    """Crash a task of this module everywhere."""
    return crash_everywhere(task, *args, snapshot=world, reset=new_world, **options)


def caught(report: Report, rule: Rule) -> str:
    """The report is bad, and names that rule; return what it says."""
    with pytest.raises(AssertionError) as raised:
        report.check()
    assert rule.value in str(raised.value)
    return str(raised.value)


# Tasks that are right.


def test_a_task_that_writes_by_key_and_counts_in_the_state_passes() -> None:
    """If a right task were blamed, nobody would believe the report of a wrong one."""

    @checkpointed
    def right(checkpoint: Checkpoint, count: int) -> int:
        name = checkpoint.step("name", str, "table")
        for number in checkpoint.each(range(count)):
            table[number] = name
            checkpoint.state["rows"] = checkpoint.state.get("rows", 0) + 1
        checkpoint.step("end", table.__setitem__, "end", name)
        return int(checkpoint.state["rows"])

    report = crash(right, 4)
    report.check()
    assert report.result == 4
    assert report.runs > 4 * 7


def test_nested_loops_pass() -> None:
    """If outer bodies that run again were called a mistake, nested loops could not be tested."""

    @checkpointed
    def nested(checkpoint: Checkpoint) -> int:
        for outer in checkpoint.each("ab", name="outer"):
            for inner in checkpoint.each(range(2), name="inner"):
                table[outer + str(inner)] = 1
        return len(table)

    crash(nested).check()


def test_steps_in_items_pass() -> None:
    """If an item whose step stops it were called a repetition, steps in items could not be tested."""

    @checkpointed
    def stepping(checkpoint: Checkpoint) -> None:
        for letter in checkpoint.each("abc"):
            key = checkpoint.idempotency_key("pay")
            paid.setdefault(key, checkpoint.step("double", len, letter * 2))
            checkpoint.step("end", len, letter)

    crash_everywhere(stepping, snapshot=lambda: len(paid), reset=new_world).check()


def test_a_hand_written_loop_passes() -> None:
    """If only `each` could be tested, loops over `here()` would stay unproved."""

    @checkpointed
    def hand_written(checkpoint: Checkpoint) -> int:
        checkpoint.state.setdefault("next", 0)
        while checkpoint.state["next"] < 4:
            table[checkpoint.state["next"]] = 1
            checkpoint.state["next"] += 1
            checkpoint.here()
        return int(checkpoint.state["next"])

    report = crash(hand_written)
    report.check()
    assert report.safe_places == 4


def test_a_file_and_a_typed_state_pass(tmp_path: Path) -> None:
    """If sources with cursors could not be watched, imports of files would stay unproved."""
    path = tmp_path / "names.txt"
    path.write_text("ann\nbob\ncem\n")

    @checkpointed
    def load(checkpoint: Checkpoint[Tally], name: str) -> int:
        for line in checkpoint.each(lambda: lines(name)):
            table[line] = 1
            checkpoint.state.lines += 1
        return checkpoint.state.lines

    report = crash(load, str(path))
    report.check()
    assert report.result == 3


def test_what_a_crash_left_in_variables_is_gone_after_the_test() -> None:
    """If it stayed, the tests after this one would begin with the counts of this one."""

    @checkpointed
    def counting(checkpoint: Checkpoint) -> None:
        global counter
        counter += 1

    crash(counting)
    assert counter == 0


# Seeded mistakes.

counter = 0


def test_a_counter_outside_the_state_is_caught() -> None:
    """If it were not, a count would begin at zero after each deploy, unnoticed."""

    @checkpointed
    def wrong(checkpoint: Checkpoint) -> int:
        global counter
        for number in checkpoint.each(range(4)):
            table[number] = 1
            counter += 1
        return counter

    said = caught(crash(wrong), Rule.STATE)
    assert "counter" in said
    assert "shutdown" in said


def test_a_counter_in_an_enclosing_function_is_caught() -> None:
    """If only globals were looked at, a task inside a test could not be caught."""
    counts = {"n": 0}

    @checkpointed
    def wrong(checkpoint: Checkpoint) -> int:
        for _ in checkpoint.each(range(4)):
            counts["n"] += 1
        return counts["n"]

    assert "counts" in caught(crash(wrong), Rule.STATE)


def test_an_effect_before_a_step_is_caught() -> None:
    """If it were not, a mail would be sent again by each attempt."""

    @checkpointed
    def wrong(checkpoint: Checkpoint) -> None:
        rows.append("mail")
        checkpoint.step("one", len, "a")
        checkpoint.step("two", len, "ab")

    assert "'mail', 'mail'" in caught(crash(wrong), Rule.STEP)


def test_an_effect_that_can_not_be_repeated_is_caught() -> None:
    """If it were not, rows would be written twice after a SIGKILL."""

    @checkpointed
    def wrong(checkpoint: Checkpoint) -> None:
        for number in checkpoint.each("abc"):
            rows.append(number)

    said = caught(crash(wrong), Rule.REPEATABLE)
    assert "process death before the save" in said
    assert "item 'a'" in said


def test_an_order_that_changes_is_caught() -> None:
    """If it were not, items would be skipped and repeated by a resume."""
    turn = itertools.count()

    @checkpointed
    def wrong(checkpoint: Checkpoint) -> None:
        for number in checkpoint.each([1, 2, 3, 4] if next(turn) % 2 else [4, 3, 2, 1]):
            table[number] = 1

    caught(crash(wrong), Rule.ORDER)


def test_an_order_that_changes_on_resume_only_is_caught() -> None:
    """If only whole runs were compared, a source that is reversed by a resume would pass."""

    @checkpointed
    def wrong(checkpoint: Checkpoint) -> None:
        items = [1, 2, 3, 4]
        if checkpoint.resumed:
            items.reverse()
        for number in checkpoint.each(items):
            table[number] = 1

    caught(crash(wrong), Rule.ORDER)


def test_a_source_that_changes_under_the_loop_is_caught() -> None:
    """If it were not, a work list that shrinks would lose every second entry."""

    @checkpointed
    def wrong(checkpoint: Checkpoint) -> None:
        todo = checkpoint.step("todo", list, "abcdef")
        for letter in checkpoint.each(todo):
            table[letter] = 1
            todo.remove(letter)

    assert "had 6 items when the loop began and has 5" in caught(crash(wrong), Rule.STILL)


def test_a_swallowed_interruption_is_caught() -> None:
    """If it were not, work after the loop would be done at each stop."""

    @checkpointed
    def wrong(checkpoint: Checkpoint) -> None:
        try:
            for letter in checkpoint.each("abc"):
                table[letter] = 1
        except BaseException:
            rows.append("gave up")

    caught(crash(wrong), Rule.LET_PASS)


def test_an_exception_that_is_swallowed_around_the_loop_is_caught() -> None:
    """If it were not, a database that is away for a moment would end the job as finished, with half of its items."""

    @checkpointed
    def wrong(checkpoint: Checkpoint) -> None:
        try:
            for letter in checkpoint.each("abc"):
                table[letter] = 1
        except Exception:
            rows.append("gave up")

    said = caught(crash(wrong), Rule.LET_FAIL)
    assert "exception, point 1 (after the beginning)" in said


def test_a_state_that_can_not_be_stored_is_caught() -> None:
    """If it were not, the first save in production would be the first to say so."""

    @checkpointed
    def wrong(checkpoint: Checkpoint) -> None:
        for letter in checkpoint.each("abc"):
            checkpoint.state["lock"] = threading.Lock()
            table[letter] = 1

    assert "state.lock" in caught(crash(wrong), Rule.STORABLE)


def test_one_key_for_two_calls_is_caught() -> None:
    """If it were not, the second payment would be taken for a repetition of the first."""

    @checkpointed
    def wrong(checkpoint: Checkpoint) -> None:
        for amount in checkpoint.each([10, 20]):
            paid.setdefault(checkpoint.idempotency_key("pay"), amount)
            paid.setdefault(checkpoint.idempotency_key("pay"), amount)

    assert "item 10: idempotency_key('pay')" in caught(crash(wrong), Rule.ONE_PURPOSE)


def test_a_batch_that_is_kept_aside_is_caught() -> None:
    """If it were not, the items since the last full batch would be lost at each stop."""

    @checkpointed
    def wrong(checkpoint: Checkpoint) -> None:
        batch = []
        for number in checkpoint.each(range(6)):
            batch.append(number)
            if len(batch) == 3:
                table.update(dict.fromkeys(batch))
                batch.clear()

    caught(crash(wrong), Rule.BATCH)


@pytest.mark.parametrize(
    ("consume", "name"),
    [
        (lambda loop: list(zip("abcd", loop, strict=False)), "zip"),
        (list, "list"),
    ],
    ids=["zip", "list"],
)
def test_items_taken_ahead_by_a_helper_are_caught(consume: Callable[[Any], Any], name: str) -> None:
    """If only the task's own lines were looked at, a helper that takes all items at once would pass."""

    @checkpointed
    def wrong(checkpoint: Checkpoint) -> None:
        for entry in consume(checkpoint.each(range(4))):
            table[str(entry)] = 1

    assert not crash(wrong)


def test_zip_is_named_with_its_line() -> None:
    """If the line were not named, a user would have to look for it."""

    @checkpointed
    def wrong(checkpoint: Checkpoint) -> None:
        numbers = checkpoint.each(range(4))
        for letter, number in zip("abcd", numbers, strict=True):
            table[letter] = number

    said = caught(crash(wrong), Rule.ONE_FOR)
    assert "each() is given to zip()" in said
    assert "line " in said


def test_an_iterator_that_two_attempts_share_is_caught() -> None:
    """If it were not, a resumed job would find nothing left to do and finish."""
    numbers = iter(())

    def begin() -> None:
        nonlocal numbers
        new_world()
        numbers = iter(range(4))

    @checkpointed
    def wrong(checkpoint: Checkpoint) -> None:
        for number in checkpoint.each(numbers):
            table[number] = 1

    caught(crash_everywhere(wrong, snapshot=world, reset=begin), Rule.MADE_ANEW)


def test_a_state_that_grows_is_caught() -> None:
    """If it were not, the job would die at `max_bytes` after a night's work."""

    @checkpointed
    def wrong(checkpoint: Checkpoint) -> None:
        for number in checkpoint.each(range(8)):
            checkpoint.state.setdefault("seen", []).append(number)

    assert "the state grew from" in caught(check_task(wrong), Rule.BOUNDED)
    assert check_task(wrong, allow={Rule.BOUNDED})


def test_one_list_in_two_places_of_the_state_is_caught() -> None:
    """If it were not, a resume would make two of it, and only one would go on."""

    @checkpointed
    def wrong(checkpoint: Checkpoint) -> int:
        for number in checkpoint.each(range(3)):
            state = checkpoint.state
            if number == 0:
                state["all"] = state["open"] = []
            state["open"].append(1)
        return len(checkpoint.state["all"])

    assert "state['all'] and state['open'] are one object" in caught(crash(wrong), Rule.ROUND_TRIP)


def test_an_item_that_outlasts_the_grace_is_caught() -> None:
    """If it were not, each deploy would kill that item and begin it anew."""

    @checkpointed
    def slow(checkpoint: Checkpoint) -> None: ...

    watch = Watch(lambda: 0.0, longest=(30.0, "item 3"))
    (finding,) = check_watch(watch, slow.spec, None)
    assert finding.rule is Rule.GRACE
    assert str(finding).startswith("item 3: it took 30.0 s, and the grace is 25.0 s.")
    assert check_watch(watch, slow.spec, 60) == []


def test_a_task_that_fails_without_faults_is_reported() -> None:
    """If it were not, the comparison would be with a failure, and all would seem well."""

    @checkpointed
    def wrong(checkpoint: Checkpoint) -> None:
        raise ValueError("no such table")

    report = crash(wrong)
    assert not report
    assert "ValueError: no such table" in str(report)


def test_a_task_that_depends_on_chance_is_reported_as_such() -> None:
    """If a crash were blamed for it, a user would look for a mistake that is not there."""
    turn = itertools.count()

    @checkpointed
    def wrong(checkpoint: Checkpoint) -> int:
        return next(turn)

    report = crash(wrong)
    assert not report
    assert "two runs without faults differ" in str(report)


@pytest.mark.parametrize("kind", [kind for kind in Kind if kind is not Kind.NONE])
def test_each_kind_comes_at_each_point(kind: Kind) -> None:
    """If a kind never came, the report would say of a task what nobody tried."""

    @checkpointed
    def right(checkpoint: Checkpoint) -> None:
        for letter in checkpoint.each("abc"):
            table[letter] = 1

    report = crash(right, kinds={kind})
    report.check()
    assert (report.safe_places, report.saves) == (3, 4)
    assert report.runs == (4 if kind in AT_SAVES else 3)


def test_kinds_can_be_chosen() -> None:
    """If they could not, a user who knows of one fault could not say so."""

    @checkpointed
    def appends(checkpoint: Checkpoint) -> None:
        for letter in checkpoint.each("abc"):
            rows.append(letter)

    crash(appends, kinds={Kind.SHUTDOWN}).check()
    assert not crash(appends, kinds={Kind.LOST_LEASE})


def test_many_points_are_thinned_out_evenly() -> None:
    """If each of a thousand points were tried, a test would take an hour."""
    assert evenly(3, 5) == [1, 2, 3]
    assert evenly(100, 3) == [1, 51, 100]
    assert evenly(100, 1) == [1]
