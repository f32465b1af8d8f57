"""Values to JSON and back."""

from __future__ import annotations

import enum
from collections import Counter, OrderedDict, defaultdict
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from checkpoint_runner.codec import Typed, require_plain
from checkpoint_runner.errors import UnstorableValue

plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)

anything = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters())
    | st.binary()
    | st.dates()
    | st.decimals()
    | st.uuids(),
    lambda inner: (
        st.lists(inner)
        | st.tuples(inner, inner)
        | st.dictionaries(st.text() | st.integers() | st.none(), inner)
        | st.frozensets(st.integers())
    ),
)


def same(left: Any, right: Any) -> bool:
    """Equal in value and in type, all the way down."""
    if type(left) is not type(right):
        return False
    if isinstance(left, list):
        return len(left) == len(right) and all(map(same, left, right))
    if isinstance(left, dict):
        return list(left) == list(right) and all(same(left[key], right[key]) for key in left)
    return bool(left == right)


@given(plain)
def test_plain_values_come_back_as_they_went_in(value: Any) -> None:
    """State, arguments and results would change on their way through Redis."""
    typed = Typed(Any)
    assert same(typed.decode(typed.encode(value, "value"), "value"), value)


@given(anything)
def test_everything_else_comes_back_the_same_or_is_refused(value: Any) -> None:
    """Some odd value would be changed without a word."""
    typed = Typed(Any)
    try:
        encoded = typed.encode(value, "value")
    except UnstorableValue as error:
        assert str(error).startswith("value")  # noqa: PT017 - most values are not refused
    else:
        assert same(typed.decode(encoded, "value"), value)


class Colour(enum.Enum):
    RED = "red"


class Level(enum.IntEnum):
    LOW = 1


class Word(str):
    __slots__ = ()


@pytest.mark.parametrize(
    "value",
    [Colour.RED, Level.LOW, Word("x"), OrderedDict(a=1), defaultdict(int), Counter("a"), Path("x"), range(3), 1j, ...],
    ids=repr,
)
def test_near_relatives_of_plain_values_are_refused(value: Any) -> None:
    """A subclass would come back as its base, without its methods."""
    with pytest.raises(UnstorableValue, match=r"value\.a\[0\] is of type"):
        require_plain({"a": [value]}, "value")


@dataclass
class Point:
    x: int
    y: float = 0.0


class Pair(msgspec.Struct, frozen=True):
    left: int
    right: tuple[int, ...] = ()


@pytest.mark.parametrize(
    ("annotation", "value"),
    [
        (datetime, datetime(2024, 2, 29, 12, 30, 1, 5, tzinfo=UTC)),
        (datetime, datetime(2024, 2, 29, 12, tzinfo=timezone(timedelta(hours=-3)))),
        (datetime, datetime(2024, 2, 29)),
        (date, date(2024, 2, 29)),
        (time, time(1, 2, 3)),
        (timedelta, timedelta(days=1, microseconds=5)),
        (Decimal, Decimal("1.10")),
        (UUID, UUID(int=7)),
        (bytes, b"\x00\xff"),
        (tuple[int, str], (1, "a")),
        (tuple[int, ...], (1, 2, 3)),
        (set[int], {1, 2}),
        (frozenset[str], frozenset({"a"})),
        (Point, Point(1, 2.5)),
        (Pair, Pair(1, (2, 3))),
        (Colour, Colour.RED),
        (Level, Level.LOW),
        (dict[int, str], {1: "a"}),
        (dict[str, Point], {"a": Point(1)}),
        (list[Decimal], [Decimal("0.1")]),
        (int | None, None),
        (int | str, "a"),
        (float, 3),
        (Any, {"any": 1}),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_annotated_types_come_back(annotation: Any, value: Any) -> None:
    """A type that the task annotates would come back as text or list."""
    typed = Typed(annotation)
    back = typed.decode(typed.encode(value, "value"), "value")
    assert back == value
    if annotation is not float:
        assert type(back) is type(value)


@pytest.mark.parametrize(
    ("annotation", "value"),
    [
        (int, "1"),
        (int, 1.5),
        (str, UUID(int=7)),
        (Point, {"x": "a"}),
        (tuple[int, str], (1, 2)),
        (list[int], (1, 2)),
        (float, float("nan")),
        (dict[str, Any], {"a": (1, 2)}),
        (Colour, "blue"),
        (Point, Point(1, float("inf"))),
        (list, "abc"),
        (dict, []),
        (list[Any], {}),
        (dict[str, Any], []),
    ],
    ids=repr,
)
def test_what_does_not_fit_its_annotation_is_refused(annotation: Any, value: Any) -> None:
    """A worker would get a value of another type than its function says."""
    typed = Typed(annotation)
    with pytest.raises(UnstorableValue, match="value"):
        typed.decode(typed.encode(value, "value"), "value")


def test_a_dataclass_without_equality_can_be_stored() -> None:
    """A dataclass with eq=False would be refused with a message that says it comes back as it is."""

    @dataclass(eq=False)
    class Plain:
        x: int = 0

    typed = Typed(Plain)
    assert typed.decode(typed.encode(Plain(5), "value"), "value").x == 5


def test_an_annotation_that_cannot_be_stored_is_told() -> None:
    """The message would be the JSON library's."""
    with pytest.raises(UnstorableValue, match=r"annotation .* can't be stored"):
        Typed(Point | Pair)


def test_messages_stay_short() -> None:
    """A value of megabytes would be copied into logs and error pages."""
    with pytest.raises(UnstorableValue) as caught:
        Typed(int).encode("x" * 1_000_000, "value")
    assert len(str(caught.value)) < 500
    with pytest.raises(UnstorableValue) as caught:
        require_plain({("x" * 1_000_000, 1): 2}, "value")
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize("encoded", [b"", b"{", b"\xff", b"[" * 100_000, b'"\\ud800"'])
def test_broken_json_is_refused(encoded: bytes) -> None:
    """Garbage in Redis would come out as an exception from deep inside."""
    with pytest.raises(UnstorableValue, match="value"):
        Typed(Any).decode(encoded, "value")
