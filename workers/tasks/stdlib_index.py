"""Index the running Python's standard library: a long job over many files, whose items can be told apart.

Each file is one item. Its effect is idempotent (the row of a file is replaced), so that an item that
was cut off may begin again; the table `visits` keeps count of how often that happened.
"""

from __future__ import annotations

import io
import sqlite3
import sysconfig
import time
import tokenize
from collections.abc import Sequence
from contextlib import closing, suppress
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import Annotated

from msgspec import Meta

from checkpoint_runner import Checkpoint, checkpointed
from workers.data_folder import DATABASE, data_file

_NOT_OURS = {"site-packages", "dist-packages", "__pycache__"}

_SCHEMA = """
CREATE TABLE IF NOT EXISTS files (
    path TEXT PRIMARY KEY, lines INTEGER NOT NULL, functions INTEGER NOT NULL, comments INTEGER NOT NULL,
    sha256 TEXT NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS visits (path TEXT NOT NULL, job TEXT NOT NULL, attempt INTEGER NOT NULL, at REAL NOT NULL);
"""


@dataclass
class Totals:
    """What has been counted so far; the state of the job."""

    files: int = 0
    lines: int = 0
    functions: int = 0
    comments: int = 0

    def add(self, facts: Facts) -> None:
        """Count one file."""
        self.files += 1
        self.lines += facts.lines
        self.functions += facts.functions
        self.comments += facts.comments


@dataclass(frozen=True)
class Facts:
    """What is known of one file."""

    lines: int
    functions: int
    comments: int
    sha256: str


@dataclass(frozen=True)
class Summary:
    """The totals, and a digest over the rows of all files in their order."""

    files: int
    lines: int
    functions: int
    comments: int
    digest: str


@checkpointed
def index_stdlib(
    checkpoint: Checkpoint[Totals],
    database: str,
    delay: Annotated[float, Meta(ge=0, le=60)] = 0.0,
    limit: Annotated[int, Meta(ge=0, le=1_000_000)] | None = None,
) -> Summary:
    """Index the standard library (its first `limit` files) into the SQLite file `database` of the data folder.

    `delay` is how many seconds each file takes longer, to have time to watch and to interrupt.
    Raises WrongArguments for a file name that can't be used, OSError, sqlite3.Error.
    """
    target = data_file(database, DATABASE)
    # The loop's position is a count, which means something in one and the same list only: so the list is kept.
    paths = checkpoint.step("list the files", source_files, limit)
    with closing(_open(target)) as connection:
        for path in checkpoint.each(paths):
            time.sleep(delay)
            checkpoint.state.add(index_file(connection, path, checkpoint.job_id, checkpoint.attempt))
            checkpoint.progress(message=path)
        return _summary(connection, checkpoint.state, paths)


def index_plainly(database: str | Path, limit: int | None = None) -> Summary:
    """Do the same in plain Python, in one go, into the SQLite file at that path: what a job is compared with."""
    paths, totals = source_files(limit), Totals()
    with closing(_open(Path(database))) as connection:
        for path in paths:
            totals.add(index_file(connection, path, "plain", 1))
        return _summary(connection, totals, paths)


def source_files(limit: int | None = None) -> list[str]:
    """Return the standard library's source files, relative to its folder, sorted."""
    root = _root()
    paths = (path.relative_to(root) for path in root.rglob("*.py"))
    return sorted(path.as_posix() for path in paths if _NOT_OURS.isdisjoint(path.parts))[:limit]


def index_file(connection: sqlite3.Connection, path: str, job: str, attempt: int) -> Facts:
    """Put the facts of one file into the database, in one transaction, and return them."""
    facts = examine((_root() / path).read_bytes())
    with connection:
        connection.execute(
            "REPLACE INTO files VALUES (?, ?, ?, ?, ?)",
            (path, facts.lines, facts.functions, facts.comments, facts.sha256),
        )
        connection.execute("INSERT INTO visits VALUES (?, ?, ?, ?)", (path, job, attempt, time.time()))
    return facts


def examine(source: bytes) -> Facts:
    """Return the facts of one file; of a file that Python can't read (tests have some), as far as it can."""
    functions = comments = 0
    with suppress(tokenize.TokenError, SyntaxError, UnicodeDecodeError):
        for token in tokenize.tokenize(io.BytesIO(source).readline):
            functions += token.type == tokenize.NAME and token.string == "def"
            comments += token.type == tokenize.COMMENT
    return Facts(len(source.splitlines()), functions, comments, sha256(source).hexdigest())


def _root() -> Path:
    return Path(sysconfig.get_path("stdlib"))


def _open(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=30)
    connection.executescript(_SCHEMA)
    return connection


def _summary(connection: sqlite3.Connection, totals: Totals, paths: Sequence[str]) -> Summary:
    digest = sha256()
    for path in paths:
        row = connection.execute("SELECT * FROM files WHERE path = ?", (path,)).fetchone()
        digest.update(repr(row).encode())
    return Summary(**asdict(totals), digest=digest.hexdigest())
