"""Where a task is in its code, and the loops that take it on.

A body is a stretch of code in which loops and steps follow each other: the task's own, or one item
of a loop. A loop is known by its name in its body; the path of (name, cursor) is the position.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

import msgspec
from msgspec.structs import replace

from checkpoint_runner.codec import require_plain
from checkpoint_runner.control import Control
from checkpoint_runner.errors import WrongUse
from checkpoint_runner.interruptions import Interrupted, PauseWanted
from checkpoint_runner.journal import Extras, Journal, Place
from checkpoint_runner.records import Level, Position
from checkpoint_runner.sources import Counted, Source, fingerprint, is_factory, recognises, resolve
from checkpoint_runner.state import State

Manual = tuple[int | None, int | None, str | None]
"""Progress that the task set by hand: done, total, message."""

_NO_PROGRESS: Manual = (None, None, None)


class Body:
    """One body of code, as far as this attempt has come in it.

    `outer` is the position around it (None until something needs it), `resume` what the stored
    record says of this body and the ones inside it, until the open loop is taken up again.
    """

    __slots__ = ("awaited", "done", "left", "outer", "resume", "seen", "step", "steps")

    def __init__(self, outer: Position | None, resume: Position = ()) -> None:
        level = resume[0] if resume else Level()
        self.outer = outer
        self.resume = resume if level.loop is not None else ()
        self.done = level.done
        self.step = level.step
        # What was finished last must come again before anything new: else the order has changed.
        self.awaited = {("loop", name) for name in level.done[-1:]} | {("step", name) for name in (level.step,) if name}
        self.left: Loop | None = None
        self.seen: set[tuple[str, str]] = set()
        self.steps: list[str] = []


class Loop:
    """One open loop."""

    __slots__ = ("body", "count", "cursor", "item", "name", "place")

    def __init__(self, name: str, body: Body, place: Place, level: Level, item: Body) -> None:
        self.name = name
        self.body = body
        self.place = place
        self.count = level.count
        self.cursor = level.cursor
        self.item = item


class Course:
    """Follows one attempt through its task and publishes what is finished.

    `live` says that the end of an item needs more than its position: state was read, progress was
    set by hand, or the item had loops or steps of its own.
    """

    def __init__(self, journal: Journal, state: State, control: Control, attend: Callable[[], None]) -> None:
        self.journal = journal
        self.state = state
        self.control = control
        self.attend = attend
        place, count, cursor, _ = journal.newest
        self.body = self._top = Body((), place.position(count, cursor))
        self.live = False
        self._owner = (os.getpid(), threading.get_ident())
        extras = journal.newest[3]
        self.manual: Manual = (extras.done, extras.total, extras.message)

    @property
    def at_top(self) -> bool:
        """Whether the task is in its own body, not in an item."""
        return self.body is self._top

    def check_owner(self, verb: str) -> None:
        """Raise WrongUse in another process or thread than the task's own."""
        if self._owner != (os.getpid(), threading.get_ident()):
            raise WrongUse(
                f"Checkpoint.{verb} was used in another process or thread than the task's own. "
                "Pass values to threads and subprocesses, and use the checkpoint where the task runs."
            )

    def walk(self, source: Any, name: str | None) -> Iterator[Any]:
        """Yield the items of a loop that are not finished yet. It is opened when the first is asked for."""
        if is_factory(source):
            return self._walk_made(source, name)
        resolved = resolve(source)
        return self._walk_counted(resolved, name) if isinstance(resolved, Counted) else self._walk(resolved, name)

    def _walk_made(self, factory: Callable[[], Any], name: str | None) -> Iterator[Any]:
        """Walk through what the factory makes; it is not called once the loop is done."""
        if (name or "") not in self.body.done:
            yield from self.walk(resolve(factory), name)
        else:
            self._identify(name)

    def _enter(self, name: str | None, source: Any) -> Loop | None:
        """Open the loop of that name here, unless it is done."""
        self.check_owner("each")
        found = self._identify(name)
        return None if found in self.body.done else self._open(found, source)

    # The hot path: two flags per item.

    def _walk_counted(self, source: Counted[Any], name: str | None) -> Iterator[Any]:
        loop = self._enter(name, source)
        if loop is None:
            return
        journal, control, place, count = self.journal, self.control, loop.place, loop.count
        extras = journal.newest[3]
        try:
            for item in source.after(count):
                if control.raised:  # looked at when there is an item to do: the end of the source ends the job
                    self.attend()
                yield item
                count += 1
                if self.live:
                    extras = self._finish_item(loop, count, count)
                else:
                    journal.newest = (place, count, count, extras)
        except BaseException:
            self._leave(loop, count)
            raise
        self._close(loop, count)

    def _walk(self, source: Source[Any], name: str | None) -> Iterator[Any]:
        loop = self._enter(name, source)
        if loop is None:
            return
        journal, control, place, count = self.journal, self.control, loop.place, loop.count
        extras = journal.newest[3]
        items = source.after(loop.cursor)
        try:
            for cursor, item in items:
                if control.raised:
                    self.attend()
                yield item
                if not count:
                    require_plain(cursor, f"the cursor of {type(source).__name__}")
                count += 1
                if self.live:
                    extras = self._finish_item(loop, count, cursor)
                else:
                    journal.newest = (place, count, cursor, extras)
        except BaseException:
            self._leave(loop, count)
            raise
        finally:
            close = getattr(items, "close", None)
            if close is not None:
                close()
        self._close(loop, count)

    def _identify(self, name: str | None) -> str:
        """Return what the next loop in this body is called ("" for the one unnamed loop of a task).

        Raises WrongUse for a loop that needs a name, and for a name that was used here before.
        """
        self.go_on()
        if name is None and not self.at_top:
            raise WrongUse('A loop inside another one needs a name: each(source, name="rows").')
        if name is None and ("loop", "") in self.body.seen:
            raise WrongUse('A second loop needs a name: each(source, name="rows").')
        self.claim_name("loop", name or "")
        return name or ""

    def _open(self, name: str, source: Any) -> Loop:
        """Open the loop of that name: where the stored record left it, or at its beginning.

        Raises PauseWanted where the record stands in another loop of this body, or in another input.
        """
        body = self.body
        if body.resume:
            level, *inner = body.resume
            if level.loop != name:
                self._order_changed(f"stands in the loop {_called(level.loop)}", f"the loop {_called(name)}")
            if level.count and level.input and not recognises(source, level.input):
                self.throw(
                    PauseWanted(
                        f"The input of the loop {_called(name)} has changed since item {level.count} was finished: "
                        f"it was {level.input} and is {fingerprint(source)}. "
                        "Put the input back, or cancel the job and start anew."
                    )
                )
            body.resume = ()
            self.live = True  # the first item's body comes from the record; the next one's is new
            item = Body((*self._outer(body), level), tuple(inner))
        else:
            self.require_order("loop", f"the loop {_called(name)}")
            level, item = Level(body.done, name, input=fingerprint(source), step=body.step), Body(None)
        total = source.total if self.at_top and isinstance(source, Counted) else None
        place = Place(self._outer(body), level, total if self.at_top else self.journal.newest[0].total)
        loop = Loop(name, body, place, level, item)
        if not level.count and item.outer is None:
            self.journal.newest = (place, 0, None, self.journal.newest[3])
        self.body = item
        return loop

    def require_order(self, kind: str, met: str) -> None:
        """The task came to something new. Raises PauseWanted where something that is done should have come first."""
        awaited = next((name for awaited, name in self.body.awaited if awaited == kind), None)
        if awaited is not None:
            self._order_changed(f"is behind the {kind} {_called(awaited)}", met)

    def _order_changed(self, stands: str, met: str) -> NoReturn:
        self.throw(
            PauseWanted(
                f"The checkpoint {stands}, but the task came to {met} first: their order in the code has changed. "
                "Put it back, or cancel the job and start anew."
            )
        )

    def throw(self, control_flow: Interrupted | PauseWanted) -> NoReturn:
        """Unwind the task; what it does although it was unwound is not published."""
        self.live = True
        self.control.throw(control_flow)

    def go_on(self) -> None:
        """The task goes on in this body: a loop that it left early is done."""
        self.control.throw_if_thrown()
        loop = self.body.left
        if loop is not None:
            self.body.left = None
            self._done(loop, loop.count, self._extras())

    def publish_here(self) -> None:
        """Declare the present moment consistent: the position stands, state and progress are as they are now."""
        self.go_on()
        place, count, cursor, _ = self.journal.newest
        self.journal.newest = (place, count, cursor, self._extras())

    def publish_end(self) -> None:
        """The function returned: all of it is done."""
        self.body = self._top
        self.publish_here()

    def step_path(self, name: str) -> str:
        """Return the path of a step here; the same in every attempt."""
        return msgspec.json.encode([*self._path(), name]).decode()

    def step_kept(self, name: str, path: str) -> None:
        """A step's result is kept. In an item it goes when the item is finished."""
        body = self.body
        body.step = name
        if not self.at_top:
            body.steps.append(path)
            self.live = True
        elif not body.resume:
            place, count, cursor, extras = self.journal.newest
            stepped = replace(place, level=replace(place.level, step=name))
            self.journal.newest = (stepped, count, cursor, extras)

    def claim_name(self, kind: str, name: str) -> None:
        """Raise WrongUse where this body has used that name before."""
        if (kind, name) in self.body.seen:
            raise WrongUse(
                f"Two {kind}s are named {name!r} in one body; expected different names, "
                f"since the name is how a {kind} is found again after a restart."
            )
        self.live = self.live or not self.at_top
        self.body.seen.add((kind, name))
        self.body.awaited.discard((kind, name))

    def give_name_back(self, kind: str, name: str) -> None:
        """What the name was claimed for did not happen."""
        self.body.seen.discard((kind, name))

    def path_text(self, purpose: str) -> str:
        """Return what is stable of this moment: loops, items and a purpose."""
        return msgspec.json.encode([*self._path(), "purpose", purpose]).decode()

    def _path(self) -> list[list[Any]]:
        return [[level.loop, level.cursor] for level in self._outer(self.body)]

    def _finish_item(self, loop: Loop, count: int, cursor: Any) -> Extras:
        self.control.throw_if_thrown()
        if self.body is not loop.item:
            raise WrongUse(
                f"The loop {_called(loop.name)} went on while a loop inside its item was open. "
                "each() must feed one `for`, one item at a time: not zip(), batched() or executor.map()."
            )
        extras = self._extras()
        self.journal.newest = (loop.place, count, cursor, extras)
        if loop.item.steps:
            self.journal.pass_steps(loop.item.steps)
        self.body = loop.item = Body(None)
        self.live = self.state.read or self.manual != _NO_PROGRESS
        return extras

    def _leave(self, loop: Loop, count: int) -> None:
        """The loop was left by break, return or an exception: which of these, what the task does next will tell."""
        loop.count = count
        self._back_in(loop.body)
        loop.body.left = loop
        loop.body.steps += loop.item.steps

    def _close(self, loop: Loop, count: int) -> None:
        self._back_in(loop.body)
        self._done(loop, count, self.journal.newest[3])

    def _back_in(self, body: Body) -> None:
        self.body = body
        self.live = self.live or not self.at_top  # the item around has had a loop of its own

    def _done(self, loop: Loop, count: int, extras: Extras) -> None:
        body = loop.body
        body.done = (*body.done, loop.name)
        place = Place(self._outer(body), Level(body.done, step=body.step), loop.place.total)
        self.journal.newest = (place, count, None, extras)

    def _extras(self) -> Extras:
        return Extras(self.state.encode(), *self.manual)

    def _outer(self, body: Body) -> Position:
        """Return the position around a body; in an item nothing else was published since it began."""
        if body.outer is None:
            place, count, cursor, _ = self.journal.newest
            body.outer = place.position(count, cursor)
            self.live = True
        return body.outer


def _called(name: str | None) -> str:
    return repr(name) if name else "without a name"
