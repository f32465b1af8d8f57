"""A real process is killed before and after every command that it sends to Redis; then the promises are checked.

Every scenario runs once undisturbed to count its commands, and then once for each command and phase.
May take 80 s of one core in all (about 45 ms for a point); nothing here waits for time to pass.
"""

from __future__ import annotations

import contextlib
import signal
from collections import Counter
from collections.abc import Callable

import pytest

from checkpoint_runner.errors import JobNotFound, NotPossibleNow
from tests.ladder.ladder_tasks import notebook
from tests.ladder.ladder_world import World
from tests.ladder.scenarios import SCENARIOS, Scenario
from tests.ladder.victims import Fate, Order, WarmProcess

KILLED = "killed"
"""The note between what the victim did and what others did after it."""


@pytest.mark.parametrize(
    ("name", "elsewhere"),
    [(name, False) for name in SCENARIOS]
    # On a lost machine: only where the victim holds a job does it make a difference where it ran.
    + [(name, True) for name, scenario in SCENARIOS.items() if scenario.pops and not scenario.cold],
    ids=lambda value: value if isinstance(value, str) else "lost machine" if value else "same machine",
)
def test_a_process_may_be_killed_at_any_command(
    ladder_world: World,
    warm_process: WarmProcess,
    record_property: Callable[[str, object], None],
    name: str,
    elsewhere: bool,
) -> None:
    """If a kill at some command lost, doubled or wedged a job, users would find it after the next OOM or power cut."""
    scenario = SCENARIOS[name]
    points = _points(ladder_world, warm_process, scenario, elsewhere=elsewhere)
    record_property("crash points", len(points))


def _points(world: World, warm_process: WarmProcess, scenario: Scenario, *, elsewhere: bool) -> list[tuple[int, str]]:
    """Kill a victim at every point of the scenario; return the points."""
    for _ in range(2):  # in the first one the server learns the scripts, where it may
        whole = _run(world, warm_process, scenario, 0, "before", elsewhere=elsewhere)
    assert not whole.trouble, whole.trouble
    assert whole.sent >= scenario.least
    points = [(point, "before") for point in range(1, whole.sent + 1)]
    points += [(point, "after") for point in range(1, whole.answered + 1)]
    for point, phase in points:
        try:
            fate = _run(world, warm_process, scenario, point, phase, elsewhere=elsewhere)
            assert fate.killed_by == signal.SIGKILL, f"the victim never got there: {fate}"
        except Exception as error:
            error.add_note(f"killed {phase} command {point} of {whole.sent}; notebook: {notebook.lines()}")
            raise
    return points


def _run(
    world: World,
    warm_process: WarmProcess,
    scenario: Scenario,
    point: int,
    phase: str,
    *,
    elsewhere: bool,
) -> Fate:
    """Prepare, have a victim act, and check everything that must hold afterwards."""
    world.reset(cold=scenario.cold)
    ids = scenario.prepare(world)
    if scenario.cold:
        world.client.script_flush()
    prepared = notebook.lines()
    order = Order(scenario.name, world.url, str(notebook.path), ids, point, phase, elsewhere)
    fate = warm_process.run(order)
    notebook.write(KILLED)
    world.check(damaged=scenario.damaged)
    started = [line.removeprefix("started ") for line in notebook.lines() if line.startswith("started ")]
    assert set(started) <= set(world.ids()), "an acknowledged start was lost"
    marks = {job_id: (world.mark(job_id), world.finished_items(job_id)) for job_id in world.ids()}
    if scenario.again and point:
        world.steady()
        with contextlib.suppress(NotPossibleNow, JobNotFound):
            scenario.act(world.runner, ids)
        world.check(damaged=scenario.damaged)
    for job_id in set(marks) & set(world.ids()):
        assert world.mark(job_id) >= marks[job_id][0], "a checkpoint went back"
    scenario.release(world, ids)
    world.settle(leases=elsewhere)
    world.check()
    if scenario.mend is not None:
        scenario.mend(world, ids)
        world.settle(leases=elsewhere)
        world.check()
    for job_id in set(marks) & set(world.ids()):
        assert world.mark(job_id) >= marks[job_id][0], "a checkpoint went back"
    expected = scenario.ends
    if scenario.made_by_act and not scenario.again and not marks:
        expected = ()  # the start never reached the server, and nobody was told that it had
    jobs = {job.id: job for job in world.jobs()}
    order_of_making = [*ids, *sorted(set(jobs) - set(ids))]
    assert tuple(jobs[job_id].status for job_id in order_of_making if job_id in jobs) == expected
    if len(expected) == 1 and expected[0] == "finished":
        (job,) = jobs.values()
        assert job.result == scenario.result
        _check_work(notebook.lines()[len(prepared) :], marks.get(job.id, ((0, 0), 0))[1], scenario)
    left = world.remove_all()
    assert not left, f"keys that nobody will ever remove: {sorted(left)}"
    return fate


def _check_work(lines: list[str], stored: int, scenario: Scenario) -> None:
    """Compare what was done before the kill with what was done after it.

    `stored` is how many items the checkpoint said were finished when the process was dead.
    """
    cut = lines.index(KILLED)
    before, later = lines[:cut], lines[cut + 1 :]
    acknowledged = max([int(line.rpartition(" ")[2]) for line in before if line.startswith("saved item ")], default=0)
    assert stored >= acknowledged, "an acknowledged checkpoint is not there"
    items = [int(line.removeprefix("item ")) for line in before if line.startswith("item ")]
    others = [int(line.removeprefix("item ")) for line in later if line.startswith("item ")]
    assert not [item for item in others if item < stored], "a finished item was done again"
    assert max(Counter(items).values(), default=0) <= 1
    assert max(Counter(others).values(), default=0) <= 1
    repeated = set(items) & set(others)
    assert not scenario.at_every_item or len(repeated) <= 1, f"more than the item in flight was repeated: {repeated}"
    kept = {line.removeprefix("kept ") for line in before if line.startswith("kept ")}
    again = {line.removeprefix("step ") for line in later if line.startswith("step ")}
    assert not kept & again, f"steps were done again: {kept & again}"
