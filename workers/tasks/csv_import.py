"""Write a CSV of many rows, then import it into SQLite: a long job over the lines of one file.

A checkpoint must never be ahead of the database: the lines that it calls finished have to be there
after a SIGKILL. One commit per line keeps that promise at the price of a million commits. So the item
is a chunk of lines, which is committed inside its item, before `each` is asked for the next one. A
chunk that was committed but not yet saved as finished is imported again, and replaces its own rows.
"""

from __future__ import annotations

import csv
import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Annotated

from msgspec import Meta

from checkpoint_runner import Checkpoint, checkpointed
from checkpoint_runner.sources import lines
from workers.data_folder import CSV, DATABASE, data_file

CHUNK = 2_000
"""Lines in one transaction: a few milliseconds of work, so that a stop is heeded at once."""

_SCHEMA = """
CREATE TABLE IF NOT EXISTS people (
    id INTEGER PRIMARY KEY, name TEXT NOT NULL, email TEXT NOT NULL, cents INTEGER NOT NULL
)
"""


@dataclass
class Imported:
    """What has been imported so far; the state and the result of the job."""

    rows: int = 0
    cents: int = 0


class chunks:  # noqa: N801 - it reads as a function
    """The lines of a text file, `size` at a time; the position is that behind a chunk's last line."""

    def __init__(self, path: Path, size: int) -> None:
        self._lines = lines(path)
        self._size = size

    def after(self, cursor: int | None) -> Iterator[tuple[int, list[str]]]:
        """Yield (position, lines) from behind `cursor`. Raises what `lines` raises."""
        remaining = self._lines.after(cursor)
        while chunk := list(islice(remaining, self._size)):
            yield chunk[-1][0], [line for _, line in chunk]


@checkpointed
def import_csv(
    checkpoint: Checkpoint[Imported],
    csv_path: str,
    database: str,
    rows: Annotated[int, Meta(ge=0, le=10_000_000)] = 1_000_000,
) -> Imported:
    """Write `rows` rows to the file `csv_path`, import them into the SQLite file `database`, both in the data folder.

    Raises WrongArguments for a file name that can't be used, OSError, sqlite3.Error.
    """
    source = data_file(csv_path, CSV)
    checkpoint.step("write", _write, source, rows, checkpoint.job_id, checkpoint.attempt)
    with closing(sqlite3.connect(data_file(database, DATABASE), timeout=30)) as connection:
        connection.execute(_SCHEMA)
        for chunk in checkpoint.each(chunks(source, CHUNK)):
            people = [(int(number), name, email, int(cents)) for number, name, email, cents in csv.reader(chunk)]
            with connection:
                connection.executemany("REPLACE INTO people VALUES (?, ?, ?, ?)", people)
            state = checkpoint.state
            state.rows += len(people)
            state.cents += sum(person[3] for person in people)
            checkpoint.progress(done=state.rows, total=rows, message=f"{state.rows:,} rows imported")
    return checkpoint.state


def _write(path: Path, rows: int, job: str, attempt: int) -> int:
    """Write the CSV (id, name, email, cents; no header) as a draft, and put it in place when it is whole.

    Returns its size in bytes.
    """
    for left_behind in path.parent.glob(f"{path.name}.{job}-*.draft"):  # by an attempt that was killed
        left_behind.unlink(missing_ok=True)
    draft = path.with_name(f"{path.name}.{job}-{attempt}.draft")
    with draft.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows(
            (number, f"Person {number}", f"person{number}@example.com", number * 7919 % 100_000)
            for number in range(1, rows + 1)
        )
        file.flush()
        os.fsync(file.fileno())  # the step is kept for good, so the file must be as well
    size = draft.stat().st_size
    draft.replace(path)
    return size
