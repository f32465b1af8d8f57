"""Between client and server every command fails once, in each of five ways; every effect is there exactly once.

Every scenario runs once undisturbed to count its commands, and then once for each command and fault.
May take 75 s of one core in all (about 20 ms for a point, beside the pause before sending again).
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from checkpoint_runner import Runner, configure
from checkpoint_runner.errors import JobNotFound, NotPossibleNow, RedisUnavailable
from tests.ladder.ladder_tasks import notebook
from tests.ladder.ladder_world import KEYS, LEASE, World, numbered_ids
from tests.ladder.proxy import Fault, Proxy
from tests.ladder.scenarios import SCENARIOS, Scenario


@pytest.fixture
def proxy(ladder_world: World) -> Iterator[Proxy]:
    made = Proxy(ladder_world.url.removeprefix("unix://"), look=ladder_world.snapshot)
    try:
        yield made
    finally:
        made.close()


class Disturbed:
    """What came of one run: the answer, what stood in Redis then, and what the tasks did."""

    def __init__(self, world: World, proxy: Proxy, scenario: Scenario, point: int, fault: Fault) -> None:
        world.reset(cold=scenario.cold)
        with numbered_ids():
            self.ids = scenario.prepare(world)
            if scenario.cold:
                world.client.script_flush()
            proxy.arm(point, fault)
            runner = configure(Runner(proxy.url, namespace=KEYS.namespace, lease=LEASE))
            try:
                self.answer, self.unavailable = self._act(world, scenario, runner)
            finally:
                self.commands = proxy.count
                runner.close()
                configure(world.runner)
        self.snapshot = world.snapshot()
        self.notes = notebook.lines()

    def _act(self, world: World, scenario: Scenario, runner: Runner) -> tuple[Any, bool]:
        try:
            return scenario.act(runner, self.ids), False
        except RedisUnavailable:
            world.pass_time(leases=False) if scenario.pops else world.steady()
            with contextlib.suppress(NotPossibleNow, JobNotFound):
                if scenario.pops:
                    runner.sweep()
                return scenario.act(runner, self.ids), True
            return None, True


@pytest.mark.parametrize(
    "name",
    list(SCENARIOS),
)
def test_a_lost_reply_at_any_command_changes_nothing(
    ladder_world: World, proxy: Proxy, record_property: Callable[[str, object], None], name: str
) -> None:
    """If a lost, torn or late packet doubled or dropped an effect, a network hiccup would run users' work twice."""
    scenario, world = SCENARIOS[name], ladder_world
    for _ in range(2):  # in the first one the server learns the scripts, where it may
        whole = Disturbed(world, proxy, scenario, 0, Fault.RESET)
    _check_end(world, scenario, whole)
    assert not whole.unavailable
    assert whole.commands >= scenario.least
    faults = [fault for fault in Fault if fault is not Fault.OVERTAKEN or "steps" not in name]
    points = [(point, fault) for point in range(1, whole.commands + 1) for fault in faults]
    for point, fault in points:
        try:
            _check(world, proxy, scenario, whole, point, fault)
        except Exception as error:
            what = (
                b" ".join(proxy.commands[point - 1].split(b"\r\n")[2:9:2])[:200] if len(proxy.commands) >= point else ""
            )
            error.add_note(f"{fault} command {point} of {whole.commands} ({what!r})")
            raise
    record_property("lost replies", len(points))


def test_a_step_that_was_overtaken_is_not_kept_again(ladder_world: World, proxy: Proxy) -> None:
    """If a late packet kept a step again, it would count as progress, and a deadly item would get more victims."""
    scenario = SCENARIOS["work with steps"]
    for _ in range(2):
        whole = Disturbed(ladder_world, proxy, scenario, 0, Fault.RESET)
    for point in range(1, whole.commands + 1):
        _check(ladder_world, proxy, scenario, whole, point, Fault.OVERTAKEN)


def _check(world: World, proxy: Proxy, scenario: Scenario, whole: Disturbed, point: int, fault: Fault) -> None:
    run = Disturbed(world, proxy, scenario, point, fault)
    world.check()
    if not run.unavailable:
        assert run.answer == whole.answer
    assert run.notes == whole.notes
    assert not proxy.changed, "a command that was overtaken had an effect"
    if run.unavailable and scenario.pops:
        _check_end(world, scenario, run)  # the sweep made a new delivery for the one that was lost
        return
    assert run.snapshot == whole.snapshot
    if fault in (Fault.LATE, Fault.OVERTAKEN):
        proxy.deliver_late()
        assert world.snapshot() == whole.snapshot, "a late command had an effect"
    # The same world has the same future: its end was looked at once, after the undisturbed run.


def _check_end(world: World, scenario: Scenario, run: Disturbed) -> None:
    """Let everybody go on to the end; be sure of what came of it, and that it can be removed without a rest."""
    scenario.release(world, run.ids)
    world.settle(leases=False)
    if scenario.mend is not None:
        scenario.mend(world, run.ids)
        world.settle(leases=False)
    jobs = {job.id: job for job in world.jobs()}
    assert tuple(job.status for job in jobs.values()) == scenario.ends
    if scenario.ends == ("finished",):
        assert [job.result for job in jobs.values()] == [scenario.result]
        items = [line for line in notebook.lines() if line.startswith("item ")]
        assert len(items) == len(set(items)), f"an item was done twice: {items}"
    world.check()
    assert not world.remove_all()
