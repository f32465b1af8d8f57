"""The fixture `checkpoints`: jobs in this process, faults on order."""

from __future__ import annotations

import pytest

from checkpoint_runner import Checkpoint, checkpointed, default_runner, specs
from checkpoint_runner.errors import JobNotFound, RedisUnavailable, WrongSetting, WrongUse
from checkpoint_runner.testing import Checkpoints
from checkpoint_runner.testing.clock import RealClock
from checkpoint_runner.testing.databases import own_database
from checkpoint_runner.testing.orders import Order, Orders

done: list[int] = []


@checkpointed
def collect(checkpoint: Checkpoint, count: int) -> int:
    """Write down every number, with a step before."""
    checkpoint.step("download", len, "abc")
    for number in checkpoint.each(range(count)):
        done.append(number)
    return len(done)


@pytest.fixture(autouse=True)
def _nothing_done() -> None:
    done.clear()


def test_a_job_runs_to_its_end(checkpoints: Checkpoints) -> None:
    """If `run` did less than a worker, a user's test would prove nothing."""
    job = collect.start(5)
    assert checkpoints.run() == ["finished"]
    assert job.refresh().result == 5


def test_the_runner_is_the_default_one_during_the_test(checkpoints: Checkpoints) -> None:
    """If another runner were the default, `task.start()` in a test would go to the user's own Redis."""
    assert default_runner() is checkpoints.runner


def test_a_task_may_be_defined_inside_the_test(checkpoints: Checkpoints) -> None:
    """If it were refused, small tests would need a module for their task."""

    @checkpointed
    def inside(checkpoint: Checkpoint) -> str:
        return "done"

    job = inside.start()
    assert checkpoints.run() == ["finished"]
    assert job.refresh().result == "done"


def test_a_task_inside_a_test_is_forgotten_after_it() -> None:
    """If it were kept, the next test would serve queues and names of the one before."""
    with specs.forgetting_local_tasks():

        @checkpointed
        def inside(checkpoint: Checkpoint) -> None: ...

        assert specs.find(inside.name)
    assert specs.find(inside.name) is None


def test_an_interruption_after_so_many_items(checkpoints: Checkpoints) -> None:
    """If it came elsewhere, a user would test another place than the one that worries him."""
    checkpoints.interrupt_after(items=3)
    job = collect.start(5)
    assert checkpoints.run() == ["queued", "finished"]
    assert done == [0, 1, 2, 3, 4]
    assert job.refresh().interruptions == 1


def test_orders_are_for_one_attempt_each(checkpoints: Checkpoints) -> None:
    """If the second order came in the first attempt too, sequences of faults could not be tested."""
    checkpoints.interrupt_after(items=3)
    checkpoints.interrupt_after(items=1)
    collect.start(6)
    assert checkpoints.run() == ["queued", "queued", "finished"]
    assert done == [0, 1, 2, 3, 4, 5]


def test_an_order_for_every_attempt(checkpoints: Checkpoints) -> None:
    """If it came once only, a deploy in every minute could not be tested."""
    checkpoints.interrupt_after(items=1, every_attempt=True)
    collect.start(4)
    assert checkpoints.run() == ["queued", "queued", "queued", "finished"]
    assert done == [0, 1, 2, 3]


def test_an_interruption_in_a_step(checkpoints: Checkpoints) -> None:
    """If the step were done again, a download would be paid twice after each deploy."""
    checkpoints.interrupt_at(step="download")
    collect.start(2)
    assert checkpoints.run() == ["queued", "finished"]
    assert done == [0, 1]


def test_a_crash_loses_what_was_not_saved(checkpoints: Checkpoints) -> None:
    """If a crash saved first, tasks that can't repeat an item would pass their tests."""
    checkpoints.crash_after(items=2)
    job = collect.start(4)
    assert checkpoints.run() == ["queued", "finished"]
    assert done == [0, 1, 0, 1, 2, 3]
    assert job.refresh().crashes == 1


def test_a_crash_in_every_attempt_fails_the_job(checkpoints: Checkpoints) -> None:
    """If it did not, a user could not test what becomes of a poisonous item."""
    checkpoints.crash_after(items=1, every_attempt=True)
    collect.start(4)
    assert checkpoints.run()[-1] == "failed"


def test_a_pause_by_a_person(checkpoints: Checkpoints) -> None:
    """If the pause came late, a user could not test what is done before it."""
    checkpoints.pause_after(items=2)
    job = collect.start(4)
    assert checkpoints.run() == ["paused"]
    assert done == [0, 1]
    job.refresh().resume()
    assert checkpoints.run() == ["finished"]
    assert done == [0, 1, 2, 3]


@pytest.mark.parametrize("items", [0, -1])
def test_an_order_for_no_item_is_refused(checkpoints: Checkpoints, items: int) -> None:
    """If it were taken, it would never happen, and the test would pass without its fault."""
    with pytest.raises(WrongUse, match="at least 1"):
        checkpoints.interrupt_after(items=items)


def test_a_delay_follows_the_clock(checkpoints: Checkpoints) -> None:
    """If it did not, a test of a delayed job would have to wait."""
    collect.options(delay=3600).start(1)
    assert checkpoints.run() == []
    checkpoints.clock.move(3599)
    assert checkpoints.run() == []
    checkpoints.clock.move(2)
    assert checkpoints.run() == ["finished"]


def test_retention_follows_the_clock(checkpoints: Checkpoints) -> None:
    """If it did not, nobody could test what a page says of a job that was removed."""
    job = collect.start(1)
    checkpoints.run()
    checkpoints.clock.move(8 * 24 * 3600)
    with pytest.raises(JobNotFound):
        job.refresh()


def test_a_lease_follows_the_clock(checkpoints: Checkpoints) -> None:
    """If it did not, a test could not take a job from a worker that hangs."""

    @checkpointed
    def hang(checkpoint: Checkpoint) -> int:
        for number in checkpoint.each(range(3)):
            done.append(number)
            if checkpoint.attempt == 1 and number == 1:
                checkpoints.clock.move(30)
        return len(done)

    job = hang.start()
    assert checkpoints.run() == ["lost", "finished"]
    assert job.refresh().lost == 1


def test_an_outage(checkpoints: Checkpoints) -> None:
    """If the server answered in an outage, a view's error page would go untested."""
    with checkpoints.outage(), pytest.raises(RedisUnavailable):
        collect.start(1)
    collect.start(1)
    assert checkpoints.run() == ["finished"]


def test_a_fault_that_never_came_fails_the_test() -> None:
    """If it did not, a test whose fault comes after the last item would pass and prove nothing."""
    orders = Orders()
    order = Order("crash_after", lambda attempt: None, 30, None, False)
    orders.add(order)
    with pytest.raises(AssertionError, match=r"checkpoints.crash_after\(items=30\) was ordered and never came"):
        orders.require_kept()
    order.came = True
    orders.require_kept()


def test_a_task_that_never_ends_is_given_up(checkpoints: Checkpoints, monkeypatch: pytest.MonkeyPatch) -> None:
    """If it were not, a test of a task without progress would never end."""
    monkeypatch.setattr("checkpoint_runner.testing.checkpoints.MOST_DELIVERIES", 3)
    checkpoints.interrupt_after(items=1, every_attempt=True)
    collect.start(10)
    with pytest.raises(AssertionError, match="3 attempts were run and there are still more"):
        checkpoints.run()


def test_the_queue_of_an_option_is_served(checkpoints: Checkpoints) -> None:
    """If only the tasks' own queues were served, a job with options would never run."""
    collect.options(queue="elsewhere").start(1)
    assert checkpoints.run() == ["finished"]


def test_a_real_servers_clock_does_not_move() -> None:
    """If it moved nothing in silence, a test would pass on fakeredis only and nobody would know why."""
    with pytest.raises(WrongUse, match="real server"):
        RealClock().move(1)


@pytest.mark.parametrize(
    ("worker", "database"), [("", "redis://h:1/4"), ("gw0", "redis://h:1/4"), ("gw3", "redis://h:1/7")]
)
def test_each_xdist_worker_has_a_database(worker: str, database: str) -> None:
    """If two workers shared one, each would empty the other's."""
    assert own_database("redis://h:1/4", worker) == database


@pytest.mark.parametrize("url", ["h:1", "redis://h/x", "embeded"])
def test_a_server_that_can_not_be_is_refused(url: str) -> None:
    """If it were taken, the tests would run on another server than was meant."""
    with pytest.raises(WrongSetting, match="expected memory, embedded, or redis"):
        own_database(url, "")
