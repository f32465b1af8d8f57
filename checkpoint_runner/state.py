"""A task's own state: decoded when it is first read, encoded at the end of each item from then on."""

from __future__ import annotations

import typing
from collections.abc import Callable
from typing import Any

from checkpoint_runner.codec import Typed
from checkpoint_runner.errors import UnstorableValue


class StateType:
    """What kind of state a task declares: a dict, or an annotated dataclass or struct."""

    def __init__(self, annotation: Any, task: str, most: int | None = None) -> None:
        self.typed = Typed(annotation, most)
        kind = typing.get_origin(annotation) or annotation
        self._make: Callable[[], Any] = dict if kind in (Any, None, object) else kind
        self._task = task

    def first(self) -> Any:
        """Return the state of a job that has none yet. Raises UnstorableValue where it needs arguments."""
        try:
            return self._make()
        except TypeError as error:
            raise UnstorableValue(
                f"The state of task {self._task} can't be made without arguments ({error}). Give every field a default."
            ) from None


class State:
    """The state of one attempt. While nobody reads it, it costs nothing."""

    __slots__ = ("_encoded", "_type", "_value", "read")

    def __init__(self, state_type: StateType, encoded: bytes | None) -> None:
        self._type = state_type
        self._encoded = encoded
        self._value: Any = None
        self.read = False

    @property
    def value(self) -> Any:
        """The live object. Raises UnstorableValue where the stored one does not fit the annotation."""
        if not self.read:
            self._value = self._stored()
            self.read = True
        return self._value

    def replace(self, value: Any) -> None:
        self._value = value
        self.read = True

    def encode(self) -> bytes | None:
        """Return the state as it is now. Raises UnstorableValue where it would not come back the same."""
        return self._type.typed.encode(self._value, "state") if self.read else self._encoded

    def freeze(self) -> bytes | None:
        """Return what `changed_since` compares with."""
        return self.encode() if self.read else None

    def changed_since(self, frozen: bytes | None) -> bool:
        """Whether the state is another one than at `freeze`; that somebody has read it since is no change."""
        if not self.read:
            return False
        return self.encode() != (self._type.typed.encode(self._stored(), "state") if frozen is None else frozen)

    def _stored(self) -> Any:
        stored = self._encoded
        return self._type.first() if stored is None else self._type.typed.decode(stored, "state")
