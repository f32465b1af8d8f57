"""`each`: the loop that goes on after its last finished item, over every kind of source."""

from __future__ import annotations

import csv
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

import pytest

from checkpoint_runner import Checkpoint, Runner, Status, checkpointed
from checkpoint_runner.errors import WrongSource
from checkpoint_runner.sources import lines
from tests.conftest import Worker, done

calls: list[str] = []


def generated() -> Iterator[str]:
    calls.append("generated")
    yield from "abcde"


def rows() -> list[str]:
    calls.append("rows")
    return list("abcde")


class OnlyGetItem:
    """A sequence in the old protocol."""

    def __getitem__(self, index: int) -> str:
        return "abcde"[index]


class FiveLetters:
    """A source with a cursor of its own."""

    def after(self, cursor: str | None) -> Iterator[tuple[str, str]]:
        for letter in "abcde":
            if cursor is None or letter > cursor:
                yield letter, letter


SOURCES: dict[str, Callable[[], Any]] = {
    "list": lambda: list("abcde"),
    "tuple": lambda: tuple("abcde"),
    "text": lambda: "abcde",
    "dict": lambda: dict.fromkeys("abcde", 1),
    "dict keys": lambda: dict.fromkeys("abcde", 1).keys(),
    "dict values": dict(enumerate("abcde")).values,
    "ordered dict": lambda: OrderedDict.fromkeys("abcde").keys(),
    "deque": lambda: deque("abcde"),
    "generator": generated,
    "iterator": lambda: iter("abcde"),
    "map": lambda: map(str, "abcde"),
    "factory of a list": lambda: rows,
    "factory of a generator": lambda: generated,
    "source": FiveLetters,
    "factory of a source": lambda: FiveLetters,
}


@checkpointed
def letters(checkpoint: Checkpoint, kind: str) -> None:
    for letter in checkpoint.each(SOURCES[kind]()):
        done.append(letter)


@checkpointed
def numbers(checkpoint: Checkpoint, start: int, stop: int, step: int) -> None:
    for number in checkpoint.each(range(start, stop, step)):
        done.append(number)


@checkpointed
def read_lines(checkpoint: Checkpoint, path: str) -> None:
    for line in checkpoint.each(lines(path)):
        done.append(line)


@checkpointed
def read_csv(checkpoint: Checkpoint, path: str) -> None:
    with Path(path).open(encoding="utf-8", newline="") as file:
        for row in checkpoint.each(csv.reader(file)):
            done.append(row)


@checkpointed
def two_loops(checkpoint: Checkpoint) -> None:
    for letter in checkpoint.each(rows):
        done.append(letter)
    for letter in checkpoint.each(generated, name="second"):
        done.append(letter.upper())


@checkpointed
def unusable(checkpoint: Checkpoint, kind: str) -> None:
    for _ in checkpoint.each(UNUSABLE[kind]()):
        done.append("walked")


@pytest.fixture(autouse=True)
def _no_calls() -> Iterator[None]:
    calls.clear()
    yield
    while opened:
        opened.pop().close()


@pytest.mark.parametrize("stop_after", [None, 1, 2, 5])
@pytest.mark.parametrize("kind", SOURCES)
def test_every_source_goes_on_behind_the_last_finished_item(worker: Worker, kind: str, stop_after: int | None) -> None:
    """Items would be lost or repeated after a deploy."""
    job = letters.start(kind)
    statuses = worker.run_until_idle(stop_after=stop_after)
    assert done == list("abcde")
    assert statuses[-1] == "finished"
    assert set(statuses[:-1]) <= {"queued"}
    assert job.refresh().interruptions == len(statuses) - 1


@pytest.mark.parametrize("bounds", [(0, 7, 1), (10, 0, -3), (5, 5, 1), (0, 1, 1)])
def test_ranges(worker: Worker, bounds: tuple[int, int, int]) -> None:
    """A range that counts in another way than from 0 upwards would go on at the wrong number."""
    numbers.start(*bounds)
    worker.run_until_idle(stop_after=1)
    assert done == list(range(*bounds))


def test_a_stop_after_the_last_item_costs_no_empty_attempt(worker: Worker) -> None:
    """A job that was through when the deploy came would run once more for nothing."""
    job = letters.start("list")
    assert worker.run(stop_after=5) == "finished"
    assert job.refresh().attempts == 1


def test_a_stop_before_the_first_item(worker: Worker) -> None:
    """A job that is interrupted at its very beginning would lose its first item."""
    letters.start("list")
    assert worker.run(stop_after=0) == "queued"
    assert done == []
    assert worker.run() == "finished"
    assert done == list("abcde")


def test_an_empty_source(runner: Runner) -> None:
    """A job without work would hang or fail."""
    job = numbers.start(0, 0, 1)
    runner.work()
    assert job.refresh().status is Status.FINISHED


@pytest.mark.parametrize("ending", ["\n", "\r\n"])
@pytest.mark.parametrize("last", ["", "end"], ids=["closed", "open"])
def test_lines_of_a_file(worker: Worker, tmp_path: Path, ending: str, last: str) -> None:
    """A line would be split, lost or repeated when a file import is interrupted."""
    wanted = ["first", "", "zwölf €", "x" * 5000]
    path = tmp_path / "rows.txt"
    path.write_bytes((ending.join(wanted) + ending + last).encode())
    read_lines.start(str(path))
    worker.run_until_idle(stop_after=1)
    assert done == wanted + ([last] if last else [])


def test_lines_of_a_file_that_shrank(worker: Worker, tmp_path: Path) -> None:
    """A job would go on in the middle of another file without a word."""
    path = tmp_path / "rows.txt"
    path.write_text("one\ntwo\nthree\n")
    job = read_lines.start(str(path))
    worker.run(stop_after=2)
    path.write_text("one\n")
    assert worker.run() == "paused"
    assert "The input of the loop without a name has changed since item 2" in job.refresh().reason
    path.write_text("one\ntwo\nthree\n")
    job.refresh().resume()
    assert worker.run() == "finished"
    assert done == ["one", "two", "three"]


def test_the_library_of_ones_choice_on_a_file_opened_anew(worker: Worker, tmp_path: Path) -> None:
    """csv.reader on a file that the task opens would not go on where it was."""
    path = tmp_path / "rows.csv"
    path.write_text('a,1\n"b\nb",2\nc,3\n')
    read_csv.start(str(path))
    worker.run_until_idle(stop_after=1)
    assert done == [["a", "1"], ["b\nb", "2"], ["c", "3"]]


def test_a_factory_is_not_called_for_a_loop_that_is_done(worker: Worker) -> None:
    """The expensive query of a finished loop would run again in every attempt."""
    two_loops.start()
    worker.run(stop_after=7)
    assert calls == ["rows", "generated"]
    worker.run()
    assert calls == ["rows", "generated", "generated"]
    assert done == [*"abcde", *"ABCDE"]


def _started() -> Iterator[str]:
    generator = generated()
    next(generator)
    return generator


opened: list[IO[Any]] = []


def _open(*how: str, **encoding: str) -> IO[Any]:
    opened.append(Path(__file__).open(*how, **encoding))  # type: ignore[call-overload] # noqa: SIM115 - closed behind the test
    return opened[-1]


async def _asynchronous() -> Any:
    yield 1


UNUSABLE: dict[str, Callable[[], Any]] = {
    "set": lambda: {1, 2},
    "frozenset": lambda: frozenset({1, 2}),
    "started generator": _started,
    "open file": lambda: _open(encoding="utf-8"),
    "open binary file": lambda: _open("rb"),
    "number": lambda: 5,
    "None": lambda: None,
    "async generator": _asynchronous,
    "factory of a set": lambda: lambda: {1, 2},
    "factory of a factory": lambda: lambda: rows,
}

ADVICE = {
    "set": ("set", "sorted("),
    "frozenset": ("frozenset", "sorted("),
    "started generator": ("generated", "anew in each attempt"),
    "open file": (Path(__file__).name, "lines(path)"),
    "open binary file": (Path(__file__).name, "lines(path)"),
    "number": ("int", "expected a sequence"),
    "None": ("NoneType", "expected a sequence"),
    "async generator": ("async_generator", "expected a sequence"),
    "factory of a set": ("set", "sorted("),
    "factory of a factory": ("function", "expected a sequence"),
}


@pytest.mark.parametrize("kind", UNUSABLE)
def test_what_cannot_be_resumed_is_refused(runner: Runner, kind: str) -> None:
    """A job would skip and repeat at random, since its source comes in another order or can't be sought."""
    job = unusable.start(kind)
    runner.work()
    error = job.refresh().error
    assert error is not None
    assert error.type == WrongSource.__name__
    for part in ADVICE[kind]:
        assert part in error.message
    assert done == []
