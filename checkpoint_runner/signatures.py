"""What a task's function takes and returns, and how its arguments travel."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable
from typing import Any

import msgspec

from checkpoint_runner.codec import Typed, encode
from checkpoint_runner.errors import UnstorableValue, WrongArguments, WrongDeclaration
from checkpoint_runner.state import StateType
from checkpoint_runner.typing_of import hints

MAX_BYTES = 1_000_000
"""Bytes of JSON that one value of a task may take, unless the task says otherwise."""

_Stored = tuple[list[msgspec.Raw], dict[str, msgspec.Raw]]
_decode_stored = msgspec.json.Decoder(_Stored).decode


class Signature:
    """The parameters behind the checkpoint, the state and the result, as the function annotates them."""

    def __init__(self, function: Callable[..., Any], task: str, most: int = MAX_BYTES) -> None:
        known = hints(function)
        checkpoint, *parameters = inspect.signature(function).parameters.values()
        self._task = task
        self.most = most
        self._signature = inspect.Signature(parameters)
        self._types = {
            parameter.name: Typed(Any if annotation in (None, inspect.Parameter.empty) else annotation, most)
            for parameter in parameters
            for annotation in [known.get(parameter.name, Any)]
        }
        self.state = StateType(_state_annotation(known.get(checkpoint.name)), task, most)
        self.result = Typed(known.get("return", Any), most)

    def encode(self, positional: tuple[Any, ...], named: dict[str, Any]) -> bytes:
        """Return a call's arguments as they are stored.

        Raises WrongArguments where they do not fit the parameters or their annotations, and
        UnstorableValue where one would not come back as it went in.
        """
        try:
            bound = self._signature.bind(*positional, **named)
        except TypeError as error:
            raise WrongArguments(
                f"Task {self._task} can't be called so: {error}. It takes {self._signature}."
            ) from None
        args = [self._encode_one(self._positional_name(i), value) for i, value in enumerate(bound.args)]
        kwargs = {name: self._encode_one(name, value) for name, value in bound.kwargs.items()}
        return encode((args, kwargs))

    def decode(self, encoded: bytes) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return the arguments of a stored call. Raises UnstorableValue where they do not fit any more."""
        try:
            args, kwargs = _decode_stored(encoded)
        except msgspec.DecodeError as error:
            raise UnstorableValue(f"The stored arguments of task {self._task} can't be read: {error}.") from None
        positional = tuple(self._decode_one(self._positional_name(i), raw) for i, raw in enumerate(args))
        named = {name: self._decode_one(name, raw) for name, raw in kwargs.items()}
        try:
            self._signature.bind(*positional, **named)
        except TypeError as error:
            raise UnstorableValue(
                f"The stored arguments do not fit task {self._task} any more: {error}. It takes {self._signature}."
            ) from None
        return positional, named

    def _encode_one(self, name: str, value: Any) -> msgspec.Raw:
        typed = self._type(name)
        path = f"argument {name}"
        encoded = typed.encode_unchecked(value, path)
        try:
            typed.decode(encoded, path)
        except UnstorableValue as error:
            raise WrongArguments(f"Task {self._task}: {error}") from None
        return msgspec.Raw(typed.encode(value, path))

    def _decode_one(self, name: str, raw: msgspec.Raw) -> Any:
        return self._type(name).decode(raw, f"argument {name}")

    def _type(self, name: str) -> Typed:
        found = self._types.get(name)
        if found is not None:
            return found
        return self._types[self._variadic(inspect.Parameter.VAR_KEYWORD)]

    def _positional_name(self, index: int) -> str:
        parameters = list(self._signature.parameters.values())
        if index < len(parameters) and parameters[index].kind is not inspect.Parameter.VAR_POSITIONAL:
            return parameters[index].name
        return self._variadic(inspect.Parameter.VAR_POSITIONAL)

    def _variadic(self, kind: inspect._ParameterKind) -> str:
        names = [parameter.name for parameter in self._signature.parameters.values() if parameter.kind is kind]
        if not names:
            raise UnstorableValue(
                f"The stored arguments do not fit task {self._task} any more. It takes {self._signature}."
            )
        return names[0]


def check_declared(function: Any) -> None:
    """Raise WrongDeclaration where `function` can't be a task: judged when it is decorated."""
    if not inspect.isfunction(function):
        kind = type(function).__name__
        raise WrongDeclaration(f"@checkpointed was put on a {kind}; expected a plain function (def, at module level).")
    name = function.__qualname__
    if inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function):
        raise WrongDeclaration(
            f"{name} is an async function; expected a plain one. RQ runs tasks in processes without an event loop: "
            "write `def` and call asyncio.run(...) inside an item or a step."
        )
    if inspect.isgeneratorfunction(function):
        raise WrongDeclaration(
            f"{name} yields; expected a plain function that loops with `for item in checkpoint.each(...)`."
        )
    parameters = list(inspect.signature(function).parameters.values())
    first = parameters[0] if parameters else None
    if first is None or not _takes_checkpoint(first):
        found = "no parameters" if first is None else f"the first parameter {first}"
        raise WrongDeclaration(
            f"{name} has {found}; expected the checkpoint first: def {function.__name__}(checkpoint: Checkpoint, ...)."
        )


def _takes_checkpoint(parameter: inspect.Parameter) -> bool:
    if parameter.kind not in (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD):
        return False
    if parameter.annotation is inspect.Parameter.empty:
        return parameter.name.strip("_") == "checkpoint"
    return "Checkpoint" in str(parameter.annotation)


def _state_annotation(checkpoint: Any) -> Any:
    arguments = typing.get_args(checkpoint)
    return arguments[0] if arguments else dict[str, Any]
