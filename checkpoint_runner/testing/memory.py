"""The variables that a task has in its process: what a new process would not remember.

Runs of a test share one process. So that a count in a global variable is lost by a crash as it
would be in earnest, the variables that the task's code refers to are put back before each attempt.
What `snapshot` and `reset` refer to is the outside world, and stays.
"""

from __future__ import annotations

import contextlib
import copy
import inspect
import sys
import sysconfig
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, is_dataclass
from types import CellType, CodeType, FunctionType, ModuleType
from typing import Any

Place = dict[str, Any] | CellType
"""Where a variable lives: a module's names, or a cell of an enclosing function."""

_INSTALLED = tuple({sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")})

_CONSTANT = (type(None), bool, int, float, complex, str, bytes, tuple, frozenset)
_REFILLED = (list, dict, set, bytearray, deque)


@dataclass(frozen=True, slots=True)
class Variable:
    """A variable, and what it was in the beginning. `lasting` are the objects of the outside world."""

    name: str
    place: Place
    first: Any
    copied: Any
    lasting: dict[int, Any]

    @property
    def changed(self) -> bool:
        try:
            now = self.place.cell_contents if isinstance(self.place, CellType) else self.place[self.name]
        except (KeyError, ValueError):
            return True  # deleted
        return type(now) is not type(self.first) or bool(_contents(now) != self.copied)

    def put_back(self) -> None:
        if isinstance(self.place, CellType):
            self.place.cell_contents = self.first
        else:
            self.place[self.name] = self.first
        if not isinstance(self.first, _CONSTANT):
            _refill(self.first, copy.deepcopy(self.copied, dict(self.lasting)))


class Memory:
    """The variables of a task, apart from those that stand for the outside world."""

    def __init__(self, function: Callable[..., Any], *world: Callable[..., Any] | None) -> None:
        outside = [found for callable_ in world for found in _world_of(callable_)]
        places = {(name, id(place)) for name, place, _ in outside}
        lasting = {id(value): value for _, _, value in outside if not isinstance(value, _CONSTANT)}
        self.variables = [
            Variable(name, place, value, copied, lasting)
            for name, place, value in _referred(function, set())
            if (name, id(place)) not in places and id(value) not in lasting and _is_data(value)
            for copied in _copied(value, lasting)
        ]

    def __enter__(self) -> Memory:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.put_back()

    def put_back(self) -> None:
        """Be a new process."""
        for variable in self.variables:
            variable.put_back()

    @property
    def changed(self) -> list[str]:
        """The variables that are not what they were."""
        return sorted({variable.name for variable in self.variables if variable.changed})


def _world_of(callable_: Callable[..., Any] | None) -> Iterator[tuple[str, Place, Any]]:
    """Yield what a function of the test refers to; a method refers to its object."""
    owner = getattr(callable_, "__self__", None)
    if owner is not None:
        yield "self", {}, owner
    yield from _referred(callable_, set())


def _referred(callable_: Any, seen: set[int]) -> Iterator[tuple[str, Place, Any]]:
    """Yield (name, place, value) of what a function refers to, also through the functions that it calls."""
    function = inspect.unwrap(getattr(callable_, "__func__", callable_))
    if not isinstance(function, FunctionType) or id(function) in seen or not _is_users(function.__module__):
        return
    seen.add(id(function))
    for name, place, value in [*_enclosing(function), *_global(function)]:
        if isinstance(value, FunctionType) or hasattr(value, "__wrapped__"):
            yield from _referred(value, seen)
        elif not isinstance(value, ModuleType | type):
            yield name, place, value


def _enclosing(function: FunctionType) -> Iterator[tuple[str, Place, Any]]:
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        with contextlib.suppress(ValueError):  # not bound yet
            yield name, cell, cell.cell_contents


def _global(function: FunctionType) -> Iterator[tuple[str, Place, Any]]:
    """Yield what the function's code mentions of its module, and of the modules that it mentions."""
    names = _names(function.__code__)
    held = [value for _, _, value in _enclosing(function)] + list(map(function.__globals__.get, names))
    modules = [value for value in held if isinstance(value, ModuleType) and _is_users(value.__name__)]
    for place in (function.__globals__, *map(vars, modules)):
        yield from ((name, place, place[name]) for name in names if name in place)


def _names(code: CodeType) -> set[str]:
    """Return the names that code and the functions inside it mention."""
    inner = (_names(constant) for constant in code.co_consts if isinstance(constant, CodeType))
    return set(code.co_names).union(*inner)


def _is_users(module: str | None) -> bool:
    """Whether a module is part of the user's project: not this library, and not installed."""
    if module is None or module.partition(".")[0] == "checkpoint_runner":
        return False
    file = getattr(sys.modules.get(module), "__file__", None)
    return file is None or not file.startswith(_INSTALLED)


def _is_data(value: Any) -> bool:
    return isinstance(value, (*_CONSTANT, *_REFILLED)) or (is_dataclass(value) and hasattr(value, "__dict__"))


def _copied(value: Any, lasting: dict[int, Any]) -> Iterator[Any]:
    """Yield a copy of what a variable holds; nothing where that can't be copied: a connection, a lock."""
    with contextlib.suppress(Exception):
        yield copy.deepcopy(_contents(value), dict(lasting))


def _contents(value: Any) -> Any:
    return value if isinstance(value, (*_CONSTANT, *_REFILLED)) else vars(value)


def _refill(value: Any, contents: Any) -> None:
    if isinstance(value, list | bytearray):
        value[:] = contents
        return
    holder: Any = value if isinstance(value, _REFILLED) else vars(value)
    holder.clear()
    if isinstance(holder, deque):
        holder.extend(contents)
    else:
        holder.update(contents)
