"""The object that a task receives first."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from hashlib import blake2b
from typing import Any, Generic, NoReturn, TypeVar, overload

from typing_extensions import TypeVar as DefaultTypeVar

from checkpoint_runner import names
from checkpoint_runner.codec import Typed
from checkpoint_runner.errors import WrongUse
from checkpoint_runner.interruptions import Interruption, PauseWanted
from checkpoint_runner.lease import Lease
from checkpoint_runner.loops import Course
from checkpoint_runner.sources import Source, is_factory, resolve
from checkpoint_runner.typing_of import return_type

StateT = DefaultTypeVar("StateT", default=dict[str, Any])
T = TypeVar("T")


class Checkpoint(Generic[StateT]):
    """Marks what is finished, so that the job goes on from there.

    It belongs to the process and the thread that run the task; elsewhere it raises WrongUse.
    """

    def __init__(
        self,
        course: Course,
        lease: Lease,
        *,
        resumed: bool,
        kept_steps: bool,
        heed: Callable[[str], None],
        insist: Callable[[Callable[[], Any]], Any],
        most: int,
    ) -> None:
        self._course = course
        self._lease = lease
        self._resumed = resumed
        self._kept_steps = kept_steps
        self._heed = heed
        self._insist = insist
        self._most = most
        self._step: str | None = None

    @property
    def job_id(self) -> str:
        """The job's id; one of its own where the task was called directly."""
        return self._lease.job_id

    @property
    def attempt(self) -> int:
        """The number of this attempt, from 1."""
        return self._lease.attempt

    @property
    def resumed(self) -> bool:
        """Whether an earlier attempt left a checkpoint behind."""
        return self._resumed

    @property
    def stopping(self) -> Interruption | None:
        """The request to stop, or None. A long item may look at it and end early."""
        return self._course.control.interruption

    @property
    def state(self) -> StateT:
        """What the task wants to find again: a dict, or the dataclass or struct of `Checkpoint[State]`.

        It is saved as it is at the end of each item; what an unfinished item changed is dropped.
        """
        self._course.check_owner("state")
        self._course.live = True
        return self._course.state.value  # type: ignore[no-any-return]

    @state.setter
    def state(self, value: StateT) -> None:
        self._course.check_owner("state")
        self._course.live = True
        self._course.state.replace(value)

    @overload
    def each(self, source: Source[T], *, name: str | None = None) -> Iterator[T]: ...
    @overload
    def each(self, source: Iterable[T], *, name: str | None = None) -> Iterator[T]: ...
    @overload
    def each(self, source: Callable[[], Iterable[T] | Source[T]], *, name: str | None = None) -> Iterator[T]: ...
    def each(self, source: Any, *, name: str | None = None) -> Iterator[Any]:
        """Return an iterator over `source` that resumes after the last finished item.

        An item is finished when the loop asks for the next one. Feed it to one `for`, one item at
        a time. `source` is a sequence, a range, a dict, a generator or other iterable made anew in
        each attempt (resumed by skipping), one of `checkpoint_runner.sources`, or a function that
        makes one of these, which is not called once the loop is done. A second loop of a task, and
        a loop inside another, need a name of their own.

        Raises WrongSource for what can't be resumed, WrongUse for names and for use inside a step.
        """
        self._course.check_owner("each")
        if self._step is not None:
            raise WrongUse(f"each() was called inside the step {self._step!r}; a step is one whole. Loop outside it.")
        if name is not None:
            names.checked("loop", name)
        if not is_factory(source):
            source = resolve(source)  # what can't be resumed is refused here and now
        return self._course.walk(source, name)

    def step(self, name: str, function: Callable[..., T], /, *args: Any) -> T:
        """Run `function(*args)` once in the job's life and return its result, kept from then on.

        The result is stored as JSON, or as the function's return annotation says. `state` is
        read-only inside. Raises UnstorableValue for a result that would not come back the same.
        """
        self._course.check_owner("step")
        if self._step is not None:
            raise WrongUse(f"The step {name!r} was begun inside the step {self._step!r}; steps don't nest.")
        course = self._course
        course.claim_name("step", names.checked("step", name))
        course.go_on()
        path = course.step_path(name)
        typed = Typed(return_type(function), self._most)
        if self._kept_steps and (kept := self._insist(lambda: self._lease.step_result(path))) is not None:
            course.step_kept(name, path)
            return typed.decode(kept, f"the result of step {name!r}")  # type: ignore[no-any-return]
        course.require_order("step", f"the step {name!r}")
        self._safe_place()
        try:
            result, encoded = self._run_step(name, typed, function, args)
        except BaseException:
            course.give_name_back("step", name)
            raise
        self._heed(self._insist(lambda: self._lease.keep_step(path, encoded)))
        course.step_kept(name, path)
        self._safe_place()
        return result

    def here(self) -> None:
        """Declare that all is consistent now: saves if a save is due, stops if a stop was asked for.

        For hand-written loops over `state`. Raises WrongUse inside an `each` item or a step.
        """
        self._publish_here("here")
        self._safe_place()

    def save(self) -> None:
        """The same as `here()`, and save now. Raises RedisUnavailable where that is not possible."""
        self._publish_here("save")
        answer = self._course.journal.save()
        if answer is not None:
            self._heed(answer)
        self._safe_place()

    def progress(self, done: int | None = None, total: int | None = None, message: str | None = None) -> None:
        """Say how far the job is. `each` counts by itself; what is given here takes its place.

        It is saved with the next finished item, so that it never runs ahead of the position.
        """
        self._course.check_owner("progress")
        _require_count(done, "done")
        _require_count(total, "total")
        if message is not None and not isinstance(message, str):
            raise WrongUse(f"progress(message={message!r}) was called; expected text.")
        message = None if message is None else names.readable(message)
        course = self._course
        given = (done, total, message)
        course.manual = tuple(  # type: ignore[assignment]
            old if new is None else new for old, new in zip(course.manual, given, strict=True)
        )
        course.live = True

    def pause(self, reason: str) -> NoReturn:
        """Pause the job until a person resumes it. Never returns; an unfinished item begins again."""
        self._course.check_owner("pause")
        self._course.throw(PauseWanted(names.readable(reason)))

    def idempotency_key(self, purpose: str) -> str:
        """Return a key that is the same in every attempt at this item, for APIs that take one.

        It is made of the job, the loops with their items, and `purpose`, which must differ between
        two calls in one item.
        """
        self._course.check_owner("idempotency_key")
        text = f"{self.job_id}\n{self._course.path_text(purpose)}"
        return blake2b(text.encode(), digest_size=16).hexdigest()

    def _run_step(self, name: str, typed: Typed, function: Callable[..., T], args: tuple[Any, ...]) -> tuple[T, bytes]:
        state = self._course.state
        before = state.freeze()
        self._step = name
        try:
            result = function(*args)
        finally:
            self._step = None
        if state.changed_since(before):
            raise WrongUse(
                f"The step {name!r} changed the state, which is read-only inside a step: a step that is done is not "
                "run again, so the change would be lost. Return the value and put it into the state outside."
            )
        return result, typed.encode(result, f"the result of step {name!r}")

    def _safe_place(self) -> None:
        if self._course.control.raised:
            self._course.attend()

    def _publish_here(self, verb: str) -> None:
        self._course.check_owner(verb)
        if self._step is not None or not self._course.at_top:
            where = f"the step {self._step!r}" if self._step is not None else "an each() item"
            raise WrongUse(
                f"{verb}() was called inside {where}, which is not finished. "
                "each() saves after every item by itself; call here() and save() outside."
            )
        self._course.publish_here()


def _require_count(value: object, what: str) -> None:
    if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 0):
        raise WrongUse(f"progress({what}={value!r}) was called; expected a whole number of at least 0.")
