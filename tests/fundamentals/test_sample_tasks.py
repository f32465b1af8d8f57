"""The sample tasks: what they compute, and that an interruption loses and repeats nothing."""

from __future__ import annotations

import csv
import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import fakeredis
import pytest

from checkpoint_runner import Runner, Status
from checkpoint_runner.errors import WrongArguments
from workers.tasks import csv_import, import_csv, index_stdlib, stdlib_index

FILES = 12
ROWS = 95


@pytest.fixture(autouse=True)
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CHECKPOINT_RUNNER_DATA", str(tmp_path / "data"))
    return tmp_path / "data"


@pytest.fixture
def runner() -> Iterator[Runner]:
    runner = Runner(fakeredis.FakeRedis(server=fakeredis.FakeServer()))
    yield runner
    runner.close()


def rows(database: Path, query: str) -> list[Any]:
    with closing(sqlite3.connect(database)) as connection:
        return connection.execute(query).fetchall()


def failing_at(call: int, function: Callable[..., Any]) -> Callable[..., Any]:
    """Return `function`, which raises at that one call."""
    calls = iter(range(1, 1_000_000))

    def wrapped(*args: Any) -> Any:
        if next(calls) == call:
            raise OSError("the disk is full")
        return function(*args)

    return wrapped


class TestIndex:
    def test_the_direct_call_equals_plain_python(self, data: Path, tmp_path: Path) -> None:
        """A task called in a script or a unit test would compute something else than its code says."""
        assert index_stdlib("index.db", limit=FILES) == stdlib_index.index_plainly(tmp_path / "plain.db", FILES)
        query = "SELECT * FROM files ORDER BY path"
        assert rows(data / "index.db", query) == rows(tmp_path / "plain.db", query)

    def test_a_job_equals_plain_python(self, runner: Runner, tmp_path: Path) -> None:
        """A job run by a worker would compute something else than the same code without the library."""
        job = index_stdlib.options(runner=runner).start("index.db", limit=FILES)
        runner.work("default")
        job = job.refresh()
        assert job.status is Status.FINISHED
        assert job.result == stdlib_index.index_plainly(tmp_path / "plain.db", FILES)
        assert (job.progress.done, job.progress.total) == (FILES, FILES)
        assert job.message == stdlib_index.source_files(FILES)[-1]

    def test_a_failed_file_is_the_only_one_visited_again(
        self, runner: Runner, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A retry would count files twice, leave files out, or begin from zero."""
        monkeypatch.setattr(stdlib_index, "index_file", failing_at(6, stdlib_index.index_file))
        job = index_stdlib.options(runner=runner).start("index.db", limit=FILES)
        runner.work("default")
        job = job.refresh()
        assert job.status is Status.FAILED
        assert job.error is not None
        assert job.error.message == "the disk is full"
        assert job.progress.done == 5

        job.retry()
        runner.work("default")
        job = job.refresh()
        assert job.result == stdlib_index.index_plainly(tmp_path / "plain.db", FILES)
        visits = rows(data / "index.db", "SELECT path, attempt, job FROM visits ORDER BY at")
        assert [path for path, _, _ in visits] == stdlib_index.source_files(FILES)
        assert [attempt for _, attempt, _ in visits] == [1] * 5 + [2] * 7
        assert {by for _, _, by in visits} == {job.id}

    def test_a_repeated_file_changes_no_result_but_shows(self, data: Path) -> None:
        """After a killed worker the index would hold a file twice, or nobody could tell what was done again."""
        first = index_stdlib("index.db", limit=FILES)
        assert index_stdlib("index.db", limit=FILES) == first
        assert rows(data / "index.db", "SELECT count(*) FROM files") == [(FILES,)]
        assert rows(data / "index.db", "SELECT DISTINCT count(*) FROM visits GROUP BY path") == [(2,)]

    def test_the_source_files_are_the_standard_librarys_own(self) -> None:
        """The index would hold installed packages, and come out differently in each environment."""
        files = stdlib_index.source_files()
        assert "json/decoder.py" in files
        assert files == sorted(files)
        assert not [path for path in files if "site-packages" in path or "__pycache__" in path]

    @pytest.mark.parametrize(
        ("source", "facts"),
        [
            (b"# one\ndef f():  # two\n    return 'def # no'\n", (3, 1, 2)),
            (b"class A:\n    async def g(self): ...\n    h = lambda: 0\n", (3, 1, 0)),
            (b"", (0, 0, 0)),
            (b"# fine\ndef f(:\n  '''never closed", (3, 1, 1)),
            (b"# -*- coding: nonsense -*-\n", (1, 0, 0)),
        ],
    )
    def test_one_file_is_counted_by_its_tokens(self, source: bytes, facts: tuple[int, int, int]) -> None:
        """Words in strings would be counted as code, or one unreadable file would end the whole job."""
        found = stdlib_index.examine(source)
        assert (found.lines, found.functions, found.comments) == facts

    @pytest.mark.parametrize("arguments", [{"delay": -1.0}, {"delay": 1e9}, {"limit": -1}])
    def test_senseless_numbers_are_refused_at_start(self, runner: Runner, arguments: dict[str, Any]) -> None:
        """A typing error would be found out hours later in a worker, or hold one for ever."""
        with pytest.raises(WrongArguments):
            index_stdlib.options(runner=runner).start("index.db", **arguments)
        assert runner.jobs() == []


class TestImport:
    @pytest.fixture(autouse=True)
    def small_chunks(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(csv_import, "CHUNK", 10)

    def test_every_row_arrives(self, runner: Runner, data: Path) -> None:
        """The import would lose or change rows without any interruption."""
        job = import_csv.options(runner=runner).start("people.csv", "people.db", rows=ROWS)
        runner.work("default")
        job = job.refresh()
        assert job.result == csv_import.Imported(ROWS, sum(n * 7919 % 100_000 for n in range(1, ROWS + 1)))
        assert (job.progress.done, job.progress.total) == (ROWS, ROWS)
        assert rows(data / "people.db", "SELECT count(*), sum(cents), max(id) FROM people") == [
            (ROWS, job.result.cents, ROWS)
        ]
        assert rows(data / "people.db", "SELECT name, email FROM people WHERE id = 7") == [
            ("Person 7", "person7@example.com")
        ]

    def test_an_interrupted_import_goes_on_where_it_was(
        self, runner: Runner, data: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A retry would write the file again, import lines twice, or count them twice."""
        monkeypatch.setattr("workers.tasks.csv_import.csv.reader", failing_at(5, csv.reader))
        job = import_csv.options(runner=runner).start("people.csv", "people.db", rows=ROWS)
        runner.work("default")
        job = job.refresh()
        assert (job.status, job.progress.done) == (Status.FAILED, 40)
        assert rows(data / "people.db", "SELECT count(*) FROM people") == [(40,)]
        written = (data / "people.csv").stat()

        job.retry()
        runner.work("default")
        job = job.refresh()
        assert job.result is not None
        assert job.result.rows == ROWS
        assert rows(data / "people.db", "SELECT count(*), sum(cents) FROM people") == [(ROWS, job.result.cents)]
        assert (data / "people.csv").stat() == written

    def test_a_chunk_that_was_committed_but_not_saved_is_replaced(self, data: Path) -> None:
        """After a kill between the database's commit and the checkpoint rows would be doubled, or refused."""
        assert import_csv("people.csv", "people.db", ROWS) == import_csv("people.csv", "people.db", ROWS)
        assert rows(data / "people.db", "SELECT count(*) FROM people") == [(ROWS,)]

    def test_a_failed_write_leaves_no_csv(self, runner: Runner, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A half-written file would be imported as if it were whole, and drafts would pile up."""
        monkeypatch.setattr("workers.tasks.csv_import.os.fsync", failing_at(1, os.fsync))
        job = import_csv.options(runner=runner).start("people.csv", "people.db", rows=ROWS)
        runner.work("default")
        assert job.refresh().status is Status.FAILED
        assert not (data / "people.csv").exists()

        job.refresh().retry()
        runner.work("default")
        assert job.refresh().status is Status.FINISHED
        assert sorted(path.name for path in data.iterdir()) == ["people.csv", "people.db"]

    def test_chunks_resume_behind_the_last_line_of_a_chunk(self, tmp_path: Path) -> None:
        """A resumed import would skip the first line of a chunk, or take the last one again."""
        path = tmp_path / "lines.txt"
        path.write_text("".join(f"{n}\n" for n in range(7)))
        found = list(csv_import.chunks(path, 3).after(None))
        assert [chunk for _, chunk in found] == [["0", "1", "2"], ["3", "4", "5"], ["6"]]
        for index, (cursor, _) in enumerate(found):
            assert list(csv_import.chunks(path, 3).after(cursor)) == found[index + 1 :]


@pytest.mark.parametrize(
    "name", ["../x.db", "/tmp/x.db", "a/b.db", "", ".db", "x", "x.csv", "x.db\n", "x.db\0", "a" * 101 + ".db", "ü.db"]
)
def test_a_file_outside_the_data_folder_is_never_touched(name: str, data: Path) -> None:
    """Whoever may start a job could overwrite any file that the worker can write."""
    with pytest.raises(WrongArguments, match="without a folder"):
        index_stdlib(name, limit=1)
    assert not data.exists()
