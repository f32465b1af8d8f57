"""Values to JSON and back, without a silent change.

Plain JSON values (None, bool, int, finite float, str, list, dict with str keys) come back as they
went in. Every other type that msgspec knows (datetime, Decimal, UUID, bytes, tuple, set, dataclass,
struct, enum) comes back where the task annotates it. Anything else is refused with its path.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import msgspec

from checkpoint_runner.errors import CheckpointTooLarge, UnstorableValue

_SCALARS = frozenset({type(None), bool, int, str})
_ADVICE = {
    "tuple": "a list, or annotate the type",
    "set": "a sorted list, or annotate the type",
    "frozenset": "a sorted list, or annotate the type",
    "bytes": "text, or annotate the type",
    "datetime": "value.isoformat(), or annotate the type",
    "date": "value.isoformat(), or annotate the type",
    "Decimal": "str(value), or annotate the type",
    "UUID": "str(value), or annotate the type",
    "PosixPath": "str(path)",
    "defaultdict": "dict(value)",
    "Counter": "dict(value)",
    "OrderedDict": "dict(value)",
}

encode: Callable[[Any], bytes] = msgspec.json.Encoder().encode


def require_plain(value: Any, path: str) -> None:
    """Raise UnstorableValue, with the path, where JSON would change `value` or can't hold it."""
    kind = type(value)
    if kind in _SCALARS:
        return
    if kind is float:
        if not math.isfinite(value):
            raise UnstorableValue(f"{path} is {value!r}; expected a finite number (JSON has no {value!r}).")
    elif kind is list:
        for index, item in enumerate(value):
            require_plain(item, f"{path}[{index}]")
    elif kind is dict:
        for key, item in value.items():
            if type(key) is not str:
                raise UnstorableValue(
                    f"{path} has the key {_short(key)} of type {kind_name(type(key))}; expected str keys. "
                    "Write str(key)."
                )
            require_plain(item, f"{path}.{key}")
    else:
        advice = _ADVICE.get(
            kind.__name__, "the plain values that it is made of, or annotate a type that msgspec knows"
        )
        raise UnstorableValue(
            f"{path} is of type {kind_name(kind)}, which would not come back from JSON as it went in. Write {advice}."
        )


def _require_plain_throughout(value: Any, path: str) -> None:
    try:
        require_plain(value, path)
    except RecursionError:
        raise UnstorableValue(f"{path} is nested too deep, or contains itself; expected a value with an end.") from None


def is_plain(annotation: Any) -> bool:
    """Say whether values of that annotation are stored by the rule for plain values."""
    return annotation is object or annotation in (None, Any, dict, list, dict[str, Any], list[Any])


class Typed:
    """Encodes and decodes values of one annotated type."""

    def __init__(self, annotation: Any, most: int | None = None) -> None:
        self.annotation = annotation
        self.most = most
        self.plain = is_plain(annotation)
        try:
            self._decoder = msgspec.json.Decoder(Any if annotation in (None, object) else annotation)
        except TypeError as error:
            raise UnstorableValue(f"The annotation {_short(annotation)} can't be stored: {error}.") from None

    def encode(self, value: Any, path: str) -> bytes:
        """Return `value` as JSON, and be sure that it comes back the same.

        Raises UnstorableValue.
        """
        if self.plain:
            _require_plain_throughout(value, path)
        encoded = self.encode_unchecked(value, path)
        if not self.plain and not _same(back := self.decode(encoded, path), value, encoded):
            raise UnstorableValue(
                f"{path} is {_short(value)}, but as {_short(self.annotation)} it would come back as {_short(back)}."
            )
        if self.most is not None and len(encoded) > self.most:
            raise CheckpointTooLarge(
                f"{path} takes {len(encoded):,} bytes; expected at most {self.most:,} (max_bytes). "
                f"{_largest(encoded, path)} Keep it elsewhere and store where it is, or raise max_bytes."
            )
        return encoded

    def encode_unchecked(self, value: Any, path: str) -> bytes:
        """Return `value` as JSON, trusting that it comes back the same."""
        try:
            return encode(value)
        except (TypeError, ValueError, RecursionError) as error:
            if self.plain:
                _require_plain_throughout(value, path)  # it knows the path and has better advice
            raise UnstorableValue(f"{path} is {_short(value)}, which can't be stored: {error}.") from None

    def decode(self, encoded: bytes | msgspec.Raw, path: str) -> Any:
        """Return the value. Raises UnstorableValue where the JSON does not fit the annotation."""
        try:
            return self._decoder.decode(encoded)
        except (msgspec.DecodeError, RecursionError) as error:
            expected = kind_name(self.annotation) if isinstance(self.annotation, type) else str(self.annotation)
            raise UnstorableValue(f"{path} does not fit {expected}: {error}.") from None


def _largest(encoded: bytes, path: str) -> str:
    """Return a sentence about the largest part of a value, where it has parts."""
    value = msgspec.json.decode(encoded)
    match value:
        case dict() if value:
            name, size = max(((name, len(encode(part))) for name, part in value.items()), key=lambda part: part[1])
            return f"The largest part is {path}.{name} with {size:,} bytes."
        case list() if value:
            index, size = max(((i, len(encode(part))) for i, part in enumerate(value)), key=lambda part: part[1])
            return f"It has {len(value):,} entries, of which {path}[{index}] is the largest with {size:,} bytes."
        case _:
            return ""


def _same(back: Any, value: Any, encoded: bytes) -> bool:
    # A class without equality of its own: what it is stored as tells.
    if getattr(type(value), "__eq__", None) is getattr(object, "__eq__", None):
        return type(back) is type(value) and encode(back) == encoded
    return bool(back == value)


def kind_name(kind: type) -> str:
    """Return a type's name as people write it."""
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."
