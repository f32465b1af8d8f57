"""Sources: (cursor, item), and on from behind a cursor."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from checkpoint_runner.errors import InputChanged, WrongSource
from checkpoint_runner.sources import Counted, Source, lines, resolve


class Dear(Sequence[int]):
    """A sequence whose items are dear to make."""

    def __init__(self, length: int) -> None:
        self.length = length
        self.made: list[int] = []

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: Any) -> Any:
        if index >= self.length:
            raise IndexError(index)
        self.made.append(index)
        return index * index


@given(st.lists(st.integers(), max_size=20), st.integers(0, 25))
def test_counted_sources_go_on_behind_what_is_done(items: list[int], done: int) -> None:
    """One kind of source would be off by one."""
    for source in (items, tuple(items), deque(items), dict.fromkeys(items), iter(items), range(len(items))):
        whole = list(range(len(items))) if isinstance(source, range) else list(source) if source is not None else []
        again = iter(items) if not hasattr(source, "__len__") else source
        assert list(Counted(again).after(done)) == whole[done:]


def test_skipped_items_of_a_dear_sequence_are_not_made() -> None:
    """Resuming at item 1,000,000 would load a million rows for nothing."""
    dear = Dear(10)
    assert list(Counted(dear).after(8)) == [64, 81]
    assert dear.made == [8, 9]


@pytest.mark.parametrize(
    ("source", "total"), [([1, 2], 2), (range(5), 5), ({"a": 1}, 1), (iter([1]), None), ({"a": 1}.items(), 1)]
)
def test_totals(source: Any, total: int | None) -> None:
    """A progress bar would lack its end, or have a wrong one."""
    resolved = resolve(source)
    assert isinstance(resolved, Counted)
    assert resolved.total == total


@pytest.mark.parametrize("factory", [lambda: [1], list, lambda: iter([1]), lambda: lines("x")])
def test_factories_are_called(factory: Any) -> None:
    """A function that makes the source would be taken for the source."""
    assert isinstance(resolve(factory), Counted | Source)


def test_a_source_given_as_its_class_is_told() -> None:
    """`each(lines)` without a path would end in a message about a missing `self`."""
    with pytest.raises((WrongSource, TypeError)) as caught:
        list(resolve(lines).after(None))
    assert "self" not in str(caught.value)
    assert "cursor" not in str(caught.value)


@given(
    st.lists(st.text(st.characters(exclude_characters="\n\r", exclude_categories=["Cs"]), max_size=8)), st.booleans()
)
def test_lines_from_every_position(tmp_path_factory: pytest.TempPathFactory, wanted: list[str], closed: bool) -> None:
    """A line with odd characters (form feed, line separator) would be split, or a cursor lie inside a line."""
    path = tmp_path_factory.mktemp("lines") / "file"
    content = "\n".join(wanted) + ("\n" if closed and wanted else "")
    path.write_bytes(content.encode())
    expected = content.split("\n")
    if expected[-1] == "":
        expected.pop()
    read = list(lines(path).after(None))
    assert [line for _, line in read] == expected
    for index, (cursor, _) in enumerate(read):
        assert [line for _, line in lines(path).after(cursor)] == expected[index + 1 :]


def test_lines_in_another_encoding(tmp_path: Path) -> None:
    """Files of older programs could not be read."""
    path = tmp_path / "latin"
    path.write_bytes("zwölf\nelf\n".encode("latin-1"))
    assert [line for _, line in lines(path, encoding="latin-1").after(None)] == ["zwölf", "elf"]
    with pytest.raises(UnicodeDecodeError):
        list(lines(path).after(None))


def test_lines_of_what_is_not_there(tmp_path: Path) -> None:
    """A typing error in a path would be an empty import."""
    with pytest.raises(FileNotFoundError):
        list(lines(tmp_path / "no").after(None))
    with pytest.raises(IsADirectoryError):
        list(lines(tmp_path).after(None))


def test_lines_of_a_shorter_file(tmp_path: Path) -> None:
    """Another file of the same name would be taken for the one that was begun."""
    path = tmp_path / "rows"
    path.write_text("a\n")
    assert list(lines(path).after(2)) == []
    with pytest.raises(InputChanged, match="has 2 bytes, but 3 of them are done"):
        list(lines(path).after(3))


def test_the_file_is_closed(tmp_path: Path) -> None:
    """A worker would run out of file descriptors."""
    path = tmp_path / "rows"
    path.write_text("a\nb\n")
    walk = lines(path).after(None)
    next(walk)
    walk.close()  # type: ignore[attr-defined] # warnings are errors: an open file would be told
