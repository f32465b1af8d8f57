"""Bad input is refused at the door: with what was found, what was expected, what to do, and nothing left behind."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import fakeredis
import pytest

from checkpoint_runner import Checkpoint, CheckpointRunnerError, Runner, checkpointed, specs
from checkpoint_runner.errors import (
    DuplicateTask,
    RedisUnavailable,
    UnknownTask,
    UnstorableValue,
    WrongArguments,
    WrongDeclaration,
    WrongName,
    WrongSetting,
)
from tests.conftest import Worker, done


@checkpointed
def anything(checkpoint: Checkpoint, value: Any) -> None:
    done.append(value)


@checkpointed
def unannotated(checkpoint, value=None, *rest, **options):  # type: ignore[no-untyped-def]
    done.append((value, rest, options))


@checkpointed
def typed(checkpoint: Checkpoint, count: int, name: str = "", *, ratio: float = 1.0) -> None:
    done.append((count, name, ratio))


@dataclass
class Order:
    number: int
    due: date


@checkpointed
def many_types(checkpoint: Checkpoint, order: Order, moments: tuple[datetime, ...], *amounts: Decimal) -> None:
    done.append((order, moments, amounts))


@checkpointed
def takes_a_list(checkpoint: Checkpoint, rows: list, options: dict) -> None:  # type: ignore[type-arg]
    done.append((rows, options))


class Connection:
    pass


def _cycle() -> list[Any]:
    cycle: list[Any] = []
    cycle.append(cycle)
    return cycle


def _deep(depth: int) -> list[Any]:
    deep: list[Any] = []
    for _ in range(depth):
        deep = [deep]
    return deep


UNSTORABLE: dict[str, tuple[Any, str, str]] = {
    "object": (Connection(), "argument value is of type tests.fundamentals.test_bad_input.Connection", "Write"),
    "nested": ({"rows": [1, {"conn": Connection()}]}, "argument value.rows[1].conn is of type", "annotate a type"),
    "nan": (float("nan"), "argument value is nan", "finite number"),
    "infinity": ([float("-inf")], "argument value[0] is -inf", "finite number"),
    "tuple": ((1, 2), "argument value is of type tuple", "a list, or annotate"),
    "set": ({1}, "argument value is of type set", "a sorted list, or annotate"),
    "bytes": (b"x", "argument value is of type bytes", "text, or annotate"),
    "datetime": (datetime(2024, 1, 1, tzinfo=UTC), "argument value is of type datetime.datetime", "isoformat()"),
    "decimal": (Decimal(1), "argument value is of type decimal.Decimal", "str(value)"),
    "uuid": (UUID(int=0), "argument value is of type uuid.UUID", "str(value)"),
    "int keys": ({"a": {1: "x"}}, "argument value.a has the key 1 of type int", "str(key)"),
    "function": (print, "argument value is of type builtin_function_or_method", "Write"),
    "class": (Connection, "argument value is of type type", "Write"),
    "lone surrogate": ("caf\udce9", "argument value", "surrogate"),
    "cycle": (_cycle(), "argument value", ""),
    "too deep": (_deep(100_000), "argument value", ""),
}


@pytest.mark.parametrize("kind", UNSTORABLE)
def test_arguments_that_cannot_be_stored(runner: Runner, redis_client: fakeredis.FakeRedis, kind: str) -> None:
    """The worker would get something else than was sent, or the caller an error 500 without advice."""
    value, found, advice = UNSTORABLE[kind]
    with pytest.raises(UnstorableValue) as caught:
        anything.start(value)
    message = str(caught.value)
    assert found in message
    assert advice in message
    assert len(message) < 500
    assert redis_client.keys("*") == []


WRONG_CALLS: dict[str, tuple[Callable[[], Any], str]] = {
    "missing": (typed.start, "missing a required argument: 'count'"),  # type: ignore[call-arg]
    "too many": (lambda: typed.start(1, "a", 2.0), "too many positional arguments"),  # type: ignore[call-arg]
    "unknown": (lambda: typed.start(1, nmae="x"), "got an unexpected keyword argument 'nmae'"),  # type: ignore[call-arg]
    "twice": (lambda: typed.start(1, count=2), "multiple values for argument 'count'"),  # type: ignore[call-arg]
    "checkpoint": (lambda: typed.start(1, checkpoint=2), "'checkpoint'"),  # type: ignore[call-arg]
    "text for a number": (lambda: typed.start("1"), "argument count does not fit int"),  # type: ignore[arg-type]
    "bool for a number": (lambda: typed.start(True), "argument count does not fit int"),
    "None for a number": (lambda: typed.start(None), "argument count does not fit int"),  # type: ignore[arg-type]
    "number for a text": (lambda: typed.start(1, 2), "argument name does not fit str"),  # type: ignore[arg-type]
    "text for a float": (lambda: typed.start(1, ratio="x"), "argument ratio does not fit float"),  # type: ignore[arg-type]
    "nan for a float": (lambda: typed.start(1, ratio=float("nan")), "argument ratio"),
    "text for a list": (lambda: takes_a_list.start("abc", {}), "argument rows does not fit list"),
    "list for a dict": (lambda: takes_a_list.start([], []), "argument options does not fit dict"),
    "dict for a dataclass": (lambda: many_types.start({"number": 1}, ()), "argument order does not fit"),  # type: ignore[arg-type]
    "rest": (lambda: many_types.start(Order(1, date(2024, 1, 1)), (), "abc"), "argument amounts"),  # type: ignore[arg-type]
}


@pytest.mark.parametrize("kind", WRONG_CALLS)
def test_calls_that_do_not_fit_the_function(runner: Runner, redis_client: fakeredis.FakeRedis, kind: str) -> None:
    """A typing error would be found by the worker, hours later, instead of by the caller."""
    call, message = WRONG_CALLS[kind]
    with pytest.raises((WrongArguments, UnstorableValue), match=None) as caught:
        call()
    assert message in str(caught.value)
    assert redis_client.keys("*") == []


def test_bind_checks_as_start_does() -> None:
    """A call that is bound today and started tomorrow would be refused only then."""
    with pytest.raises(WrongArguments):
        typed.bind("1")  # type: ignore[arg-type]
    call = typed.bind(1, ratio=2)
    assert call.task == typed.name


def test_typed_arguments_arrive_as_they_were_sent(worker: Worker) -> None:
    """A worker would get text for dates, lists for tuples and dicts for dataclasses."""
    order, moments = Order(7, date(2024, 2, 29)), (datetime(2024, 1, 1, tzinfo=UTC),)
    many_types.start(order, moments, Decimal("1.10"), Decimal(2))
    worker.run()
    assert done == [(order, moments, (Decimal("1.10"), Decimal(2)))]


def test_any_shape_of_call_arrives(worker: Worker) -> None:
    """Positional, keyword and variadic arguments would be mixed up."""
    unannotated.start()
    unannotated.start(1, 2, 3, a=4)
    unannotated.start(value=[1], b={"c": None})
    worker.run_until_idle()
    assert done == [(None, (), {}), (1, (2, 3), {"a": 4}), ([1], (), {"b": {"c": None}})]


def make(**options: Any) -> Callable[[Any], Any]:
    return checkpointed(**options)  # type: ignore[no-any-return]


async def asynchronous(checkpoint: Checkpoint) -> None:
    pass


async def asynchronous_generator(checkpoint: Checkpoint) -> Any:
    yield 1


def generator(checkpoint: Checkpoint) -> Any:
    yield 1


def no_parameters() -> None:
    pass


def no_checkpoint(path: str) -> None:
    pass


def checkpoint_second(path: str, checkpoint: Checkpoint) -> None:
    pass


def keyword_checkpoint(*, checkpoint: Checkpoint) -> None:
    pass


def variadic(*checkpoint: Checkpoint) -> None:
    pass


class Tasks:
    def method(self, checkpoint: Checkpoint) -> None:
        pass

    @staticmethod
    def static(checkpoint: Checkpoint) -> None:
        pass


DECLARATIONS: dict[str, tuple[Any, tuple[str, ...]]] = {
    "async def": (asynchronous, ("async function", "asyncio.run")),
    "async generator": (asynchronous_generator, ("async function", "asyncio.run")),
    "generator": (generator, ("yields", "checkpoint.each")),
    "no parameters": (no_parameters, ("no parameters", "def no_parameters(checkpoint: Checkpoint, ...)")),
    "no checkpoint": (no_checkpoint, ("path: ", "def no_checkpoint(checkpoint: Checkpoint, ...)")),
    "checkpoint second": (checkpoint_second, ("path: ", "checkpoint first")),
    "keyword checkpoint": (keyword_checkpoint, ("checkpoint first",)),
    "variadic": (variadic, ("checkpoint first",)),
    "class": (Tasks, ("type", "plain function")),
    "method": (Tasks.method, ("self", "checkpoint first")),
    "bound method": (Tasks().method, ("method", "plain function")),
    "static method object": (Tasks.__dict__["static"], ("staticmethod", "plain function")),
    "builtin": (len, ("builtin_function_or_method", "plain function")),
    "text": ("name", ("str", "plain function")),
}


@pytest.mark.usefixtures("registry")
@pytest.mark.parametrize("kind", DECLARATIONS)
def test_what_cannot_be_a_task(kind: str) -> None:
    """The module would be imported and the mistake found by the first worker."""
    function, parts = DECLARATIONS[kind]
    for decorate in (checkpointed, make()):
        with pytest.raises(WrongDeclaration) as caught:
            decorate(function)
        for part in (*parts, "expected"):
            assert part in str(caught.value)


def plain(checkpoint: Checkpoint) -> None:
    pass


def other(checkpoint: Checkpoint) -> None:
    pass


@pytest.mark.usefixtures("registry")
@pytest.mark.parametrize(
    "options",
    [
        *({"name": name} for name in ("", "a b", "new\nline", "\x1b[31m", "x" * 10_000, 5)),
        *({"queue": queue} for queue in ("", "a b", "new\nline", "x" * 10_000, None)),
        *({"aliases": aliases} for aliases in ("old_name", ("a b",), (5,))),
        *({"save_every": value} for value in (-1, "1", float("nan"), None)),
        *({"version": value} for value in (0, -1, 1.5, "2", True)),
        *({"max_crashes": value} for value in (0, 2.0, None)),
        *({"retention": value} for value in (-1, float("inf"), "7d", 1e300)),
    ],
    ids=lambda options: repr(options)[:40],
)
def test_options_that_make_no_sense(options: dict[str, Any]) -> None:
    """A misspelt option would work in some other way than intended, or break the first job at its end."""
    with pytest.raises((WrongDeclaration, WrongName, WrongSetting)) as caught:
        make(**options)(plain)
    assert "expected" in str(caught.value)
    assert len(str(caught.value)) < 400


@pytest.mark.usefixtures("registry")
def test_an_unknown_option_is_a_type_error() -> None:
    """An option that is not built yet would silently do nothing."""
    with pytest.raises(TypeError, match="time_slice"):
        make(time_slice=5)


@pytest.mark.usefixtures("registry")
def test_a_duplicate_name() -> None:
    """One of two tasks would run with the other one's arguments."""
    make(name="twice")(plain)
    with pytest.raises(DuplicateTask) as caught:
        make(name="twice")(other)
    for part in ("'twice'", "test_bad_input.plain", "test_bad_input.other", "@checkpointed(name=...)"):
        assert part in str(caught.value)
    with pytest.raises(DuplicateTask):
        make(name="third", aliases=("twice",))(other)
    assert specs.find("third") is None, "nothing half-made is left"


@pytest.mark.usefixtures("registry")
def test_a_module_that_is_loaded_again_may_declare_its_tasks_again() -> None:
    """A development server that reloads code would break at each reload."""
    make(name="again")(plain)
    assert make(name="again")(plain).name == "again"


@pytest.mark.usefixtures("registry")
def test_an_alias_finds_the_task(worker: Worker) -> None:
    """Jobs that were started before a task was renamed would never run."""
    task = make(name="new.name", aliases=["old.name"])(plain)
    assert specs.require("old.name") is task.spec


@pytest.mark.usefixtures("registry")
def test_a_task_inside_a_function_cannot_be_started(runner: Runner, redis_client: fakeredis.FakeRedis) -> None:
    """The job would wait for ever for a worker that can find it."""

    @checkpointed
    def inner(checkpoint: Checkpoint) -> int:
        return 5

    with pytest.raises(WrongDeclaration, match=r"defined inside a function.*Move it to module level"):
        inner.start()
    assert inner() == 5
    assert redis_client.keys("*") == []


@pytest.mark.usefixtures("registry")
def test_a_task_in_main_cannot_be_started(runner: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    """A script would start jobs that no worker can find."""
    monkeypatch.setattr(plain, "__module__", "__main__")
    with pytest.raises(WrongDeclaration, match=r"defined in __main__.*Move it to a module"):
        make(name="in_main")(plain).start()


def test_an_unknown_task_lists_the_known_ones() -> None:
    """A typing error in a URL would be answered without a hint."""
    with pytest.raises(UnknownTask) as caught:
        specs.require("no.such.task" + "x" * 10_000)
    assert anything.name in str(caught.value)
    assert "--tasks" in str(caught.value)
    with pytest.raises(UnknownTask) as caught:
        specs.require("\x1b[31mred\n")
    assert "\x1b" not in str(caught.value)


def test_a_worker_without_the_task_hands_the_job_back(
    worker: Worker, registry: dict[str, specs.TaskSpec], redis_client: fakeredis.FakeRedis
) -> None:
    """In a deploy with two releases the old workers would fail the new release's jobs."""
    job = anything.start(1)
    spec = registry.pop(anything.name)
    registry["another"] = specs._by_name[typed.name]
    assert worker.run() == "waiting"
    assert job.refresh().attempts == 0
    assert "declined: no worker knows the task" in job.refresh().reason
    registry[anything.name] = spec
    redis_client.zadd("ckpt:agenda", {job.id: 1})
    worker.backend.store.wake(worker.backend.store.due(0, 10, 10)[1][0])  # type: ignore[index]
    assert worker.run() == "finished"


@pytest.fixture
def closed_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_an_unreachable_server(closed_port: int) -> None:
    """A request handler would hang, or print the password into its log."""
    runner = Runner(f"redis://user:s3cret@127.0.0.1:{closed_port}/3")
    began = time.monotonic()
    with pytest.raises(RedisUnavailable) as caught:
        typed.options(runner=runner).start(1)
    assert time.monotonic() - began < 2.0
    message = str(caught.value)
    assert f"127.0.0.1:{closed_port}/3" in message
    assert "Expected a reachable, writable server" in message
    assert "s3cret" not in message + repr(caught.value) + repr(caught.value.__cause__)
    began = time.monotonic()
    with pytest.raises(RedisUnavailable):
        runner.job("0" * 32)
    assert time.monotonic() - began < 2.0
    runner.close()


def test_a_server_that_accepts_and_says_nothing() -> None:
    """A frozen server would hold every request handler."""
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        runner = Runner(f"redis://:s3cret@127.0.0.1:{silent.getsockname()[1]}/0")
        began = time.monotonic()
        with pytest.raises(RedisUnavailable) as caught:
            typed.options(runner=runner).start(1)
        assert time.monotonic() - began < 2.2
        assert "s3cret" not in str(caught.value)
        runner.close()


@pytest.mark.parametrize("source", ["http://localhost", "localhost:6379", "", "redis://localhost:port/0", 5, object()])
def test_a_connection_that_makes_no_sense(source: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first request would fail with a message about sockets."""
    if source == "":
        monkeypatch.setenv("CHECKPOINT_RUNNER_REDIS_URL", "redi://x")
    with pytest.raises(WrongSetting, match="expected"):
        Runner(source)


def test_the_tree_of_errors() -> None:
    """`except CheckpointRunnerError` would miss some of them."""
    from checkpoint_runner import errors

    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type)]
    assert all(issubclass(kind, CheckpointRunnerError) for kind in kinds)
    drawn = errors.__doc__ or ""
    for kind in kinds:
        assert kind.__name__ in drawn
        assert kind.__doc__
        assert kind.__doc__.count("\n") == 0 or kind.__name__ == "NotPossibleNow"
