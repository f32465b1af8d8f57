"""Tasks as the core knows them, and the register in which they are found by name."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from checkpoint_runner.errors import DuplicateTask, UnknownTask, WrongSetting
from checkpoint_runner.signatures import Signature


@dataclass(frozen=True)
class TaskSpec:
    """A decorated function and its options. Durations are in seconds."""

    function: Callable[..., Any]
    name: str
    aliases: tuple[str, ...]
    queue: str
    save_every: float
    version: int
    max_crashes: int
    retention: float
    max_bytes: int
    migrations: dict[int, Callable[[Any], Any]] = field(default_factory=dict)

    @cached_property
    def signature(self) -> Signature:
        """What the function takes and returns; looked at when first needed, so that its names may come later."""
        return Signature(self.function, self.name, self.max_bytes)

    def accepts(self, version: int) -> bool:
        """Say whether this code can go on from a checkpoint of that version."""
        return all(step in self.migrations for step in range(version, self.version)) and version <= self.version

    def migrate(self, state: Any, version: int) -> Any:
        """Return the state of that version as this code's version has it."""
        for step in range(version, self.version):
            state = self.migrations[step](state)
        return state


_by_name: dict[str, TaskSpec] = {}


def register(spec: TaskSpec) -> None:
    """Make a task known under its name and aliases.

    Raises DuplicateTask where another function has one of them. The same function again (a module
    that was reloaded) takes its own place.
    """
    for name in (spec.name, *spec.aliases):
        there = _by_name.get(name)
        if there is not None and _origin(there) != _origin(spec):
            raise DuplicateTask(
                f"Two functions claim the task name {name!r}: {_origin(there)} and {_origin(spec)}. "
                "Give one of them another: @checkpointed(name=...)."
            )
    for name in (spec.name, *spec.aliases):
        _by_name[name] = spec


@contextmanager
def forgetting_local_tasks() -> Iterator[None]:
    """Forget, at the end of the block, the tasks that functions declared in it: they end with their function."""
    before = dict(_by_name)
    try:
        yield
    finally:
        for name, spec in tuple(_by_name.items()):
            if "<locals>" in spec.function.__qualname__ and before.get(name) is not spec:
                del _by_name[name]


def find(name: str) -> TaskSpec | None:
    """Return the task of that name or alias, or None. Never imports anything."""
    return _by_name.get(name)


def require(name: str) -> TaskSpec:
    """Return the task of that name or alias. Raises UnknownTask, which lists the known ones."""
    spec = _by_name.get(name)
    if spec is None:
        known = ", ".join(sorted({spec.name for spec in _by_name.values()})) or "none"
        raise UnknownTask(
            f"No task is named {name[:200]!r}. Known tasks: {known}. "
            "Name the modules that define tasks with --tasks or CHECKPOINT_RUNNER_TASKS."
        )
    return spec


def queues() -> list[str]:
    """Return the queues of all registered tasks, sorted."""
    return sorted({spec.queue for spec in _by_name.values()})


def load(modules: Iterable[str]) -> None:
    """Import the modules that define tasks; the working folder is on the path.

    Raises WrongSetting for a module that can't be found.
    """
    here = str(Path.cwd())
    if here not in sys.path and "" not in sys.path:
        sys.path.insert(0, here)
    for module in modules:
        try:
            importlib.import_module(module)
        except ModuleNotFoundError as error:
            if error.name is None or not (module == error.name or module.startswith(f"{error.name}.")):
                raise
            raise WrongSetting(
                f"The tasks module {module!r} can't be found; expected the dotted name of a module "
                f"that can be imported from {here} or the installed packages."
            ) from None


def _origin(spec: TaskSpec) -> str:
    return f"{spec.function.__module__}.{spec.function.__qualname__}"
