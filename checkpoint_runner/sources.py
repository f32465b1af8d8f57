"""What `each` can walk through and come back to.

Every source obeys one rule: it yields (cursor, item) and, given the cursor of the last finished
item, goes on with the item behind it. Counted sources have no cursor of their own: their position
is how many items are finished.
"""

from __future__ import annotations

import inspect
import io
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set, Sized
from hashlib import blake2b
from itertools import islice
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar, runtime_checkable

from checkpoint_runner.errors import InputChanged, WrongSource

HEAD = 4096
"""Bytes at the beginning of a file by which it is recognised."""

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


@runtime_checkable
class Source(Protocol[T_co]):
    """A source with a cursor of its own. The cursor is a plain JSON value."""

    def after(self, cursor: Any) -> Iterator[tuple[Any, T_co]]:
        """Yield (cursor, item) from behind `cursor`; None means from the beginning."""
        ...


@runtime_checkable
class Recognisable(Protocol):
    """A source that can tell whether its input is the one that it was."""

    def fingerprint(self) -> str:
        """Return what tells this input from another one, for people too."""
        ...

    def recognises(self, fingerprint: str) -> bool:
        """Say whether the input is the one of that fingerprint, or has only grown where that does no harm."""
        ...


def fingerprint(source: Any) -> str:
    """Return what tells this source's input from another one; "" where nothing does."""
    return source.fingerprint() if isinstance(source, Recognisable) else ""


def recognises(source: Any, stored: str) -> bool:
    """Say whether a source's input is the one of that fingerprint."""
    return source.recognises(stored) if isinstance(source, Recognisable) else True


class Counted(Generic[T]):
    """A source whose position is the number of finished items."""

    def __init__(self, items: Iterable[T]) -> None:
        self.items = items
        self.total = len(items) if isinstance(items, Sized) else None

    def fingerprint(self) -> str:
        """Return the number of items, where it is known: a position that is a count means nothing in another list."""
        return "" if self.total is None else f"{self.total} items"

    def recognises(self, fingerprint: str) -> bool:
        """Say whether there are as many items as there were."""
        return self.fingerprint() == fingerprint

    def after(self, count: int) -> Iterator[T]:
        """Return the items behind the first `count`."""
        items: Any = self.items
        if not count:
            return iter(items)
        if isinstance(items, range):
            rest: Iterator[Any] = iter(items[count:])
            return rest
        if isinstance(items, Sequence) and not isinstance(items, list | tuple | str):
            return map(items.__getitem__, range(count, len(items)))  # skipped items may be dear to make
        return islice(items, count, None)


def resolve(source: Any) -> Source[Any] | Counted[Any]:
    """Return what `each` was given as a source it can resume.

    Raises WrongSource, which says what to give instead.
    """
    if is_factory(source):
        source = _made_by(source)
    if isinstance(source, Source | Counted):
        return source
    if isinstance(source, Set) and not isinstance(source, Mapping) and not _is_view(source):
        raise WrongSource(
            f"each() was given a {type(source).__name__}, whose order changes from run to run. Give it sorted(the_set)."
        )
    if isinstance(source, io.IOBase):
        name = getattr(source, "name", "path")
        raise WrongSource(
            f"each() was given an open file ({name!r}), which can't be resumed. "
            "Give it checkpoint_runner.sources.lines(path)."
        )
    if inspect.isgenerator(source) and inspect.getgeneratorstate(source) != inspect.GEN_CREATED:
        raise WrongSource(
            f"each() was given the generator {source.__name__}, which has been started before. "
            "Make it anew in each attempt: each(make_items())."
        )
    if not isinstance(source, Iterable):
        raise WrongSource(
            f"each() was given {type(source).__name__}; expected a sequence, a range, a dict, "
            "a generator or other iterable made anew in each attempt, or a source such as lines(path)."
        )
    return Counted(source)


def is_factory(source: Any) -> bool:
    """Say whether `each` was given a function that makes the source."""
    return isinstance(source, type) or (callable(source) and not isinstance(source, Source | Iterable))


def _made_by(factory: Callable[[], Any]) -> Any:
    try:
        inspect.signature(factory).bind()
    except TypeError:
        raise WrongSource(
            f"each() was given {getattr(factory, '__qualname__', factory)!r}, which needs arguments. "
            "Give it a source, or a function without parameters that makes one."
        ) from None
    except ValueError:
        pass  # a built-in that tells nothing of its parameters
    return factory()


def _is_view(source: object) -> bool:
    return isinstance(source, type({}.keys()) | type({}.items()))


class lines:  # noqa: N801 - it reads as a function
    """The lines of a text file, without their line ends; resumed by seeking.

    `path` is opened when the loop begins, read as `encoding` (one in which the byte 10 ends a
    line, as in UTF-8 and the ISO 8859 family), and closed when the loop ends.
    Raises OSError where it can't be opened, UnicodeDecodeError for a line that is not of that
    encoding, and InputChanged where the file has become shorter than the position it was left at.
    """

    def __init__(self, path: str | os.PathLike[str], *, encoding: str = "utf-8") -> None:
        self.path = Path(path)
        self.encoding = encoding

    def fingerprint(self) -> str:
        """Return how many bytes the file begins with that are looked at, and their digest. The file may grow."""
        return self._head(HEAD)

    def recognises(self, fingerprint: str) -> bool:
        """Say whether the file begins as it did."""
        size = fingerprint.partition(" ")[0]
        return size.isdigit() and self._head(min(int(size), HEAD)) == fingerprint

    def _head(self, most: int) -> str:
        with self.path.open("rb") as file:
            head = file.read(most)
        return f"{len(head)} bytes of {blake2b(head, digest_size=8).hexdigest()}"

    def after(self, cursor: int | None) -> Iterator[tuple[int, str]]:
        position = cursor or 0
        encoding = self.encoding
        with self.path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            if position > size:
                raise InputChanged(
                    f"{self.path} has {size} bytes, but {position} of them are done: it is not the file it was. "
                    "Put the file back, or cancel the job and start a new one."
                )
            file.seek(position)
            for line in file:
                position += len(line)
                yield position, line.decode(encoding).removesuffix("\n").removesuffix("\r")
