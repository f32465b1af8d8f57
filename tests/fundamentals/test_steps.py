"""Steps: named parts of a task that are done once, with their results kept."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

import fakeredis
import pytest

from checkpoint_runner import Checkpoint, Task, checkpointed, events
from tests.conftest import Worker, done


def once(what: str) -> str:
    done.append(what)
    return what.upper()


def when() -> datetime:
    done.append("when")
    return datetime(2024, 2, 29, 12, tzinfo=UTC)


def unstorable() -> object:
    return object()


@checkpointed
def at_top(checkpoint: Checkpoint, fails: bool = False) -> list[str]:
    first = checkpoint.step("first", once, "a")
    moment = checkpoint.step("when", when)
    second = checkpoint.step("second", once, "b")
    if fails and checkpoint.attempt == 1:
        raise RuntimeError("late")
    return [first, moment.isoformat(), second]


@checkpointed
def in_items(checkpoint: Checkpoint) -> list[str]:
    results = []
    for number in checkpoint.each(range(3)):
        results.append(checkpoint.step("charge", once, f"charge {number}"))
        results.append(checkpoint.step("mail", once, f"mail {number}"))
    return results


@checkpointed
def in_nested_items(checkpoint: Checkpoint) -> None:
    for row in checkpoint.each(range(2)):
        checkpoint.step("open", once, f"open {row}")
        for column in checkpoint.each(range(2), name="columns"):
            checkpoint.step("cell", once, f"cell {row} {column}")
        checkpoint.step("close", once, f"close {row}")


@checkpointed
def fails_between(checkpoint: Checkpoint) -> None:
    for number in checkpoint.each(range(3)):
        checkpoint.step("charge", once, f"charge {number}")
        if number == 1 and checkpoint.attempt == 1:
            raise RuntimeError("after the charge, before the item's end")


@checkpointed
def keeps_unstorable(checkpoint: Checkpoint) -> None:
    checkpoint.step("bad", unstorable)


@checkpointed
def reads_state_inside(checkpoint: Checkpoint, first: bool) -> int:
    if not first:
        checkpoint.state["size"] = 3
    size: int = checkpoint.step("read", lambda: checkpoint.state.get("size", 7))
    return size


@checkpointed
def changes_state_inside(checkpoint: Checkpoint) -> None:
    def work() -> None:
        checkpoint.state["done"] = True

    checkpoint.step("write", work)
    done.append("behind")


@checkpointed
def tries_a_step_again(checkpoint: Checkpoint) -> str:
    answers: list[str | None] = [None, "ok"]

    def flaky() -> str:
        answer = answers.pop(0)
        if answer is None:
            raise TimeoutError
        return answer

    for _ in range(2):
        try:
            return checkpoint.step("call", flaky)
        except TimeoutError:
            continue
    return "never"


@dataclass(frozen=True)
class Invoice:
    number: int
    lines: tuple[str, ...]


def make_invoice() -> Invoice:
    done.append("invoice")
    return Invoice(7, ("a", "b"))


@checkpointed
def typed_step(checkpoint: Checkpoint) -> str:
    invoice = checkpoint.step("invoice", make_invoice)
    assert isinstance(invoice, Invoice)
    if checkpoint.attempt == 1:
        raise RuntimeError("late")
    return ",".join(invoice.lines)


def kept(client: fakeredis.FakeRedis, job_id: str) -> list[str]:
    return sorted(key.decode() for key in client.hkeys(f"ckpt:job:{job_id}:steps"))


@pytest.mark.parametrize("stop_after", [1, 2])
def test_a_step_is_done_once(worker: Worker, stop_after: int) -> None:
    """A customer would be charged twice because of a deploy."""
    job = at_top.start()
    worker.run_until_idle(stop_after=stop_after)
    assert done == ["a", "when", "b"]
    assert job.refresh().result == ["A", "2024-02-29T12:00:00+00:00", "B"]


def test_a_step_is_not_done_again_after_an_exception(worker: Worker) -> None:
    """retry() would repeat what had been done before the exception."""
    job = at_top.start(fails=True)
    assert worker.run() == "failed"
    job.retry()
    assert worker.run() == "finished"
    assert done == ["a", "when", "b"]


@pytest.mark.parametrize("stop_after", [None, 1, 2, 3])
def test_steps_in_items(worker: Worker, stop_after: int | None) -> None:
    """The step of one item would be taken for the step of another."""
    in_items.start()
    worker.run_until_idle(stop_after=stop_after)
    assert done == ["charge 0", "mail 0", "charge 1", "mail 1", "charge 2", "mail 2"]


@pytest.mark.parametrize("stop_after", [None, 1, 2, 3, 4])
def test_steps_in_nested_items(worker: Worker, stop_after: int | None) -> None:
    """A step around or inside an inner loop would be repeated or skipped."""
    in_nested_items.start()
    worker.run_until_idle(stop_after=stop_after)
    wanted = []
    for row in range(2):
        wanted += [f"open {row}", f"cell {row} 0", f"cell {row} 1", f"close {row}"]
    assert done == wanted


def test_a_step_of_an_item_that_failed_is_kept(worker: Worker) -> None:
    """The item that failed behind its charge would charge again when it is retried."""
    job = fails_between.start()
    worker.run()
    job.retry()
    worker.run()
    assert done == ["charge 0", "charge 1", "charge 2"]


@pytest.mark.parametrize("task", [in_items, in_nested_items], ids=["flat", "nested"])
def test_results_of_finished_items_are_dropped(
    worker: Worker, redis_client: fakeredis.FakeRedis, task: Task[[], object]
) -> None:
    """A job with a million items would fill Redis with results that nobody will ask for."""
    job = task.start()
    counts: list[int] = []
    unsubscribe = events.subscribe(
        lambda event: (
            counts.append(len(kept(redis_client, job.id))) if isinstance(event, events.CheckpointSaved) else None
        )
    )
    worker.run_and(lambda attempt: setattr(attempt.control, "raised", True), after=5)
    unsubscribe()
    assert counts == [1], "only that of the item in work"


def test_an_interruption_leaves_no_results_of_finished_items(worker: Worker, redis_client: fakeredis.FakeRedis) -> None:
    """Each deploy would leave results behind that nothing removes before the job's retention."""
    job = in_items.start()
    worker.run(stop_after=4)
    assert {path.split('"charge"')[0].split('"mail"')[0] for path in kept(redis_client, job.id)} == {'[["",1],'}


def test_a_step_at_the_top_is_kept_until_the_end(worker: Worker, redis_client: fakeredis.FakeRedis) -> None:
    """A step outside of loops would be repeated in a later attempt."""
    job = at_top.start()
    worker.run(stop_after=2)
    assert kept(redis_client, job.id) == ['["first"]', '["when"]']


def test_a_typed_result(worker: Worker) -> None:
    """The code behind a step would get a dict in a later attempt where it got an Invoice in the first."""
    job = typed_step.start()
    worker.run()
    job.retry()
    worker.run()
    assert done == ["invoice"]
    assert job.refresh().result == "a,b"


def test_a_result_that_cannot_be_stored_is_refused(worker: Worker) -> None:
    """A step would come back with something else than it returned."""
    job = keeps_unstorable.start()
    assert worker.run() == "failed"
    error = job.refresh().error
    assert error is not None
    assert error.type == "UnstorableValue"
    assert "the result of step 'bad' is of type object" in error.message


@pytest.mark.parametrize("first", [True, False], ids=["never read before", "read before"])
def test_the_state_can_be_read_inside_a_step(worker: Worker, first: bool) -> None:
    """A step that only looks at the state would be refused."""
    job = reads_state_inside.start(first)
    assert worker.run() == "finished", job.refresh().error
    assert job.refresh().result == (7 if first else 3)


def test_a_change_of_the_state_inside_a_step_is_refused(worker: Worker) -> None:
    """The change would be lost when the finished step is skipped in a later attempt."""
    job = changes_state_inside.start()
    assert worker.run() == "failed"
    error = job.refresh().error
    assert error is not None
    assert error.type == "WrongUse"
    assert "'write' changed the state, which is read-only inside a step" in error.message


def test_a_step_that_was_refused_is_not_taken_for_done(worker: Worker) -> None:
    """A retry would silently go on without the change that was refused before."""
    job = changes_state_inside.start()
    worker.run()
    job.retry()
    assert worker.run() == "failed"
    assert done == []


def test_a_step_that_raised_can_be_tried_again_in_the_same_attempt(worker: Worker) -> None:
    """`for _ in range(3): try: checkpoint.step(...)`, the usual way to try again, would be an error."""
    job = tries_a_step_again.start()
    worker.run()
    assert job.refresh().result == "ok"
