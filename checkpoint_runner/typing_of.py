"""What a function's annotations say."""

from __future__ import annotations

import typing
from collections.abc import Callable
from typing import Any


def hints(function: Callable[..., Any]) -> dict[str, Any]:
    """Return the annotations of a function, without those in which a name can't be resolved."""
    try:
        return typing.get_type_hints(function, include_extras=True)
    except (NameError, TypeError, AttributeError):
        return _hints_one_by_one(function)


def return_type(function: Callable[..., Any]) -> Any:
    """Return the annotated return type, or Any."""
    return hints(function).get("return", Any)


def _hints_one_by_one(function: Callable[..., Any]) -> dict[str, Any]:
    names = getattr(function, "__globals__", {})
    found: dict[str, Any] = {}
    for name, annotation in getattr(function, "__annotations__", {}).items():
        try:
            one = type("One", (), {"__annotations__": {name: annotation}})
            found |= typing.get_type_hints(one, globalns=names, include_extras=True)
        except (NameError, TypeError, AttributeError, SyntaxError):
            continue  # imported for the type checker only
    return found
