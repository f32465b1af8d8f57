"""What a function's annotations say."""

from __future__ import annotations

import typing
from collections.abc import Callable
from typing import Any


def hints(function: Callable[..., Any]) -> dict[str, Any]:
    """Return the annotations of a function; empty where a name in them can't be resolved."""
    try:
        return typing.get_type_hints(function, include_extras=True)
    except (NameError, TypeError, AttributeError):
        return {}


def return_type(function: Callable[..., Any]) -> Any:
    """Return the annotated return type, or Any."""
    return hints(function).get("return", Any)
