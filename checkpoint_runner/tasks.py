"""Tasks: plain functions that became startable, by decoration."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Concatenate, Generic, ParamSpec, TypeVar, overload

from checkpoint_runner import names, specs
from checkpoint_runner.attempt import call_directly
from checkpoint_runner.checkpoint import Checkpoint
from checkpoint_runner.durations import Duration, seconds
from checkpoint_runner.errors import WrongDeclaration
from checkpoint_runner.jobs import Job, not_found
from checkpoint_runner.keys import RETENTION
from checkpoint_runner.runner import Runner, StartOptions, default_runner
from checkpoint_runner.signatures import MAX_BYTES, check_declared

P = ParamSpec("P")
R = TypeVar("R")
Migration = TypeVar("Migration", bound=Callable[[Any], Any])
R_co = TypeVar("R_co", covariant=True)


@dataclass(frozen=True, slots=True)
class Call(Generic[R_co]):
    """A task with its arguments, checked and stored, ready to be started."""

    task: str
    arguments: bytes


class Task(Generic[P, R]):
    """A decorated function. It takes the function's own parameters without the checkpoint."""

    def __init__(self, spec: specs.TaskSpec) -> None:
        self.spec = spec
        functools.update_wrapper(self, spec.function)

    @property
    def name(self) -> str:
        """The name under which the task is registered."""
        return self.spec.name

    def start(self, /, *args: P.args, **kwargs: P.kwargs) -> Job[R]:
        """Make a job; durable when this returns, in one round trip (the process's first one also asks
        for the server's version).

        Raises WrongArguments, UnstorableValue, WrongDeclaration (a task that no worker could find),
        RedisUnavailable within two seconds (the outcome is then unknown: with a key it may be sent again).
        """
        return self.options().start(*args, **kwargs)

    def options(
        self,
        *,
        key: str | None = None,
        unique: str | None = None,
        queue: str | None = None,
        delay: Duration | None = None,
        labels: Mapping[str, str] | None = None,
        runner: Runner | None = None,
    ) -> Starter[P, R]:
        """Return a starter for one job with options of its own.

        `key`: the same request again gives the same job, until its retention (with other arguments:
        KeyConflict). `unique`: while a job of that name is live, it is returned instead. `delay` is in
        seconds, or a timedelta. `runner` takes the place of the process's default.
        Raises WrongName, WrongSetting.
        """
        checked = StartOptions.checked(key=key, unique=unique, queue=queue, delay=delay, labels=labels)
        return Starter(self, checked, runner)

    def __call__(self, /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Run the function here and now, in memory, without Redis."""
        return call_directly(self.spec, args, kwargs)  # type: ignore[no-any-return]

    def bind(self, /, *args: P.args, **kwargs: P.kwargs) -> Call[R]:
        """Return a call of this task, its arguments checked. Raises WrongArguments, UnstorableValue."""
        return Call(self.spec.name, self.spec.signature.encode(args, kwargs))

    def job(self, job_id: str) -> Job[R]:
        """Return a job of this task. Raises JobNotFound (also for a job of another task), RedisUnavailable."""
        job: Job[R] = default_runner().job(job_id)
        if job.task not in (self.spec.name, *self.spec.aliases):
            raise not_found(job_id)
        return job

    def migrate(self, from_version: int) -> Callable[[Migration], Migration]:
        """Decorate a function that takes the state of `from_version` (plain JSON values) to the next version.

        Without it a checkpoint of an older version is left to a worker with older code, and pauses its job
        when there is none. The position is kept. Raises WrongDeclaration.
        """
        version = _whole(from_version, "from_version")
        if version >= self.spec.version or version in self.spec.migrations:
            raise WrongDeclaration(
                f"Task {self.spec.name} is of version {self.spec.version} and has migrations from "
                f"{sorted(self.spec.migrations) or 'none'}; migrate({version}) is none that is missing."
            )

        def register(migration: Migration) -> Migration:
            self.spec.migrations[version] = migration
            return migration

        return register

    def __repr__(self) -> str:
        return f"<Task {self.spec.name}>"


class Starter(Generic[P, R]):
    """A task with the options of one start."""

    def __init__(self, task: Task[P, R], options: StartOptions, runner: Runner | None) -> None:
        self._task = task
        self._options = options
        self._runner = runner

    def start(self, /, *args: P.args, **kwargs: P.kwargs) -> Job[R]:
        """Make the job; see `Task.start`. `job.created` tells whether this call made it."""
        spec = self._task.spec
        arguments = spec.signature.encode(args, kwargs)
        runner = self._runner if self._runner is not None else default_runner()
        return runner.start(spec, arguments, self._options)


@overload
def checkpointed(function: Callable[Concatenate[Checkpoint[Any], P], R], /) -> Task[P, R]: ...
@overload
def checkpointed(
    *,
    name: str | None = None,
    aliases: Sequence[str] = (),
    queue: str = "default",
    save_every: Duration = 1.0,
    version: int = 1,
    max_crashes: int = 3,
    retention: Duration = timedelta(seconds=RETENTION),
    max_bytes: int = MAX_BYTES,
) -> Callable[[Callable[Concatenate[Checkpoint[Any], P], R]], Task[P, R]]: ...
def checkpointed(
    function: Callable[..., Any] | None = None,
    /,
    *,
    name: str | None = None,
    aliases: Sequence[str] = (),
    queue: str = "default",
    save_every: Duration = 1.0,
    version: int = 1,
    max_crashes: int = 3,
    retention: Duration = timedelta(seconds=RETENTION),
    max_bytes: int = MAX_BYTES,
) -> Any:
    """Make a task of a plain function whose first parameter is the checkpoint.

    `name` (default `module.qualname`) is what jobs remember; `aliases` are its earlier names. `queue`
    is RQ's. `save_every` is how much work, in seconds, a killed process may lose. `version` goes up
    when the code can't go on from an older checkpoint. After `max_crashes` deaths in a row without
    progress the job fails. `retention` is how long a final job stays. `max_bytes` is how large the state,
    the result, one step's result and one argument may become as JSON. Durations are float seconds or
    timedelta.

    Raises WrongDeclaration, WrongName, WrongSetting or DuplicateTask when the module is imported.
    """

    def decorate(function: Callable[..., Any]) -> Task[..., Any]:
        check_declared(function)
        spec = specs.TaskSpec(
            function=function,
            name=names.checked("task", name if name is not None else f"{function.__module__}.{function.__qualname__}"),
            aliases=_aliases(aliases),
            queue=names.checked("queue", queue),
            save_every=seconds(save_every, "save_every"),
            version=_whole(version, "version"),
            max_crashes=_whole(max_crashes, "max_crashes"),
            retention=seconds(retention, "retention"),
            max_bytes=_whole(max_bytes, "max_bytes"),
        )
        specs.register(spec)
        return Task(spec)

    return decorate if function is None else decorate(function)


def _aliases(aliases: Sequence[str]) -> tuple[str, ...]:
    if isinstance(aliases, str):
        raise WrongDeclaration(
            f"aliases is the text {aliases!r}; expected a sequence of names: aliases=({aliases!r},)."
        )
    return tuple(names.checked("task", alias) for alias in aliases)


def _whole(value: object, option: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise WrongDeclaration(f"{option} is {value!r}; expected a whole number of at least 1.")
    return value
