"""Loops inside loops: the innermost item is exact; outer bodies run again."""

from __future__ import annotations

import itertools

import pytest

from checkpoint_runner import Checkpoint, Job, checkpointed
from checkpoint_runner.events import AttemptBegan, Event
from tests.conftest import Worker, done

OUTER, INNER = range(3), range(4)
ALL = list(itertools.product(OUTER, INNER))

bodies: list[int] = []


@checkpointed
def grid(checkpoint: Checkpoint) -> None:
    for row in checkpoint.each(OUTER):
        bodies.append(row)
        for column in checkpoint.each(INNER, name="columns"):
            done.append((row, column))


@checkpointed
def grid_with_state(checkpoint: Checkpoint) -> int:
    for row in checkpoint.each(OUTER):
        for column in checkpoint.each(INNER, name="columns"):
            done.append((row, column))
            checkpoint.state["cells"] = checkpoint.state.get("cells", 0) + 1
    return checkpoint.state["cells"]  # type: ignore[no-any-return]


@checkpointed
def cube(checkpoint: Checkpoint) -> None:
    for x in checkpoint.each(range(2)):
        for y in checkpoint.each(range(2), name="y"):
            for z in checkpoint.each(range(2), name="z"):
                done.append((x, y, z))


@checkpointed
def two_inside(checkpoint: Checkpoint) -> None:
    for row in checkpoint.each(range(2)):
        for left in checkpoint.each(range(2), name="left"):
            done.append((row, "left", left))
        for right in checkpoint.each(range(2), name="right"):
            done.append((row, "right", right))
        done.append((row, "end"))


@checkpointed
def only_even(checkpoint: Checkpoint) -> None:
    for row in checkpoint.each(range(6)):
        if row % 2:
            done.append((row, None))
            continue
        for column in checkpoint.each(range(2), name="columns"):
            done.append((row, column))


skipped: set[int] = set()


@checkpointed
def skips_what_is_known(checkpoint: Checkpoint) -> None:
    for row in checkpoint.each(range(3)):
        if row in skipped:
            continue
        for column in checkpoint.each(range(3), name="columns"):
            done.append((row, column))


@pytest.fixture(autouse=True)
def _reset() -> None:
    bodies.clear()
    skipped.clear()


def test_nested_loops_run(worker: Worker) -> None:
    """Two loops inside each other would not work at all."""
    grid.start()
    assert worker.run() == "finished"
    assert done == ALL


@pytest.mark.parametrize("stop_after", [1, 2, 3, 4, 5, 7])
def test_the_innermost_item_is_exact(worker: Worker, stop_after: int) -> None:
    """Cells would be lost or repeated when a deploy comes in the middle of a row."""
    grid.start()
    worker.run_until_idle(stop_after=stop_after)
    assert done == ALL


@pytest.mark.parametrize("stop_after", [1, 2, 3])
def test_three_levels(worker: Worker, stop_after: int) -> None:
    """The path of cursors would be wrong from the third level on."""
    cube.start()
    worker.run_until_idle(stop_after=stop_after)
    assert done == list(itertools.product(range(2), range(2), range(2)))


@pytest.mark.parametrize("stop_after", [1, 2, 3, 5])
def test_state_counts_each_innermost_item_once(worker: Worker, stop_after: int) -> None:
    """A count kept in the state would not agree with what was done."""
    job: Job[int] = grid_with_state.start()
    worker.run_until_idle(stop_after=stop_after)
    assert done == ALL
    assert job.refresh().result == len(ALL)


def test_the_body_around_runs_again(worker: Worker) -> None:
    """Users rely on what the documentation says of outer bodies: they begin again, with the inner loop where it was."""
    grid.start()
    worker.run(stop_after=6)
    assert bodies == [0, 1]
    worker.run()
    assert bodies == [0, 1, 1, 2]


def test_a_stop_before_the_inner_loop_is_reached_keeps_its_position(worker: Worker) -> None:
    """A second deploy right after the first would send the inner loop back to its beginning."""
    grid.start()
    worker.run(stop_after=6)
    assert [worker.run(stop_after=0) for _ in range(3)] == ["queued"] * 3
    worker.run()
    assert done == ALL


@pytest.mark.parametrize("stop_after", [1, 2, 3, 4])
def test_two_inner_loops_one_after_the_other(worker: Worker, stop_after: int) -> None:
    """The second loop of a row would be skipped, or the first repeated."""
    two_inside.start()
    worker.run_until_idle(stop_after=stop_after)
    ends = [entry for entry in done if entry[1] == "end"]
    cells = [entry for entry in done if entry[1] != "end"]
    assert cells == [(row, side, item) for row in range(2) for side in ("left", "right") for item in range(2)]
    assert set(ends) == {(0, "end"), (1, "end")}


@pytest.mark.parametrize("stop_after", [1, 2, 3, 4])
def test_an_inner_loop_that_not_every_item_has(worker: Worker, stop_after: int) -> None:
    """The position of one item's inner loop would be taken for another item's."""
    only_even.start()
    worker.run_until_idle(stop_after=stop_after)
    assert done == [(0, 0), (0, 1), (1, None), (2, 0), (2, 1), (3, None), (4, 0), (4, 1), (5, None)]


@pytest.mark.parametrize("stop_after", [2, 3])
def test_an_open_inner_loop_that_is_left_out_after_the_restart(worker: Worker, stop_after: int) -> None:
    """The next row would inherit the position of the row that was skipped, and lose its first cells."""
    skips_what_is_known.start()
    worker.run(stop_after=stop_after)
    skipped.add(0)
    worker.run()
    assert done == [(0, column) for column in range(stop_after)] + list(itertools.product((1, 2), range(3)))


def test_the_position_is_told_for_people(worker: Worker, seen: list[Event]) -> None:
    """The log would not say where a job goes on."""
    grid.start()
    worker.run(stop_after=6)
    worker.run()
    assert [event.position for event in seen if isinstance(event, AttemptBegan)] == ["", "item 1 > columns 2"]


@pytest.mark.parametrize("stop_after", [1, 5, 9])
def test_progress_counts_the_outermost_loop(worker: Worker, stop_after: int) -> None:
    """A progress bar would jump back and forth with every inner loop."""
    job = grid.start()
    worker.run(stop_after=stop_after)
    progress = job.refresh().progress
    assert (progress.done, progress.total) == (stop_after // 4, 3)
