"""The life of one attempt: from the claim to letting go."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable
from typing import Any, TypeVar

from checkpoint_runner import events
from checkpoint_runner.checkpoint import Checkpoint
from checkpoint_runner.control import Control
from checkpoint_runner.endings import Ending, ending_of
from checkpoint_runner.errors import NotPossibleNow, RedisTrouble, RedisUnavailable, UnstorableValue
from checkpoint_runner.interruptions import LOST, Interrupted, Interruption, LeaseLost, PauseWanted, Reason
from checkpoint_runner.journal import Journal
from checkpoint_runner.lease import STOPS, Lease, MemoryLease, RedisLease
from checkpoint_runner.loops import Course
from checkpoint_runner.pulse import TICK, Chore, Pulse, Rhythm
from checkpoint_runner.records import Record
from checkpoint_runner.specs import TaskSpec
from checkpoint_runner.state import State
from checkpoint_runner.store import Claim

T = TypeVar("T")

CAREFUL_FOR = 2.0
"""After a crash every item is saved for this many `save_every`, so that a deadly item becomes known."""

WARN_AT = 0.8
"""The part of `max_bytes` at which a person is told that the state grows."""

IDLE_ATTEMPTS = 3
"""Interruptions in a row without a finished item after which a person is told."""


class Attempt:
    """One process's try at running a job."""

    def __init__(self, task: TaskSpec, lease: Lease, record: Record | None, *, kept_steps: bool) -> None:
        self.task = task
        self.lease = lease
        self.control = Control()
        self.journal = Journal(lease, task.version, record)
        state = State(task.signature.state, record.state if record else None)
        self.course = Course(self.journal, state, self.control, self.attend)
        self.checkpoint: Checkpoint[Any] = Checkpoint(
            self.course,
            lease,
            resumed=record is not None,
            kept_steps=kept_steps,
            heed=self.heed,
            insist=self.insist,
            most=task.max_bytes,
        )
        self._careful_until = 0.0
        self._warned = False
        self._letting_go = False

    def stop(self, interruption: Interruption) -> None:
        """Ask the task to stop at its next safe place. Any thread may call it."""
        if self.control.request(interruption):
            events.emit(
                events.StopRequested(*self._who(), reason=interruption.reason, seconds_left=interruption.seconds_left)
            )

    def heed(self, answer: str) -> None:
        """Act on what the server says of the job whenever it is asked something."""
        if self._letting_go:
            return  # what the pulse is told now, is about the last word that is on its way
        if answer in STOPS:
            self.stop(Interruption(Reason(answer)))
        elif answer == "lost":
            self.stop(Interruption(Reason.LEASE_LOST))
        elif answer == "gone":
            self.stop(Interruption(Reason.JOB_LOST))
        else:
            self.control.withdraw(Reason.PAUSE)

    def attend(self) -> None:
        """A safe place at which the flag is up: stop if asked, save, and be sure of the lease."""
        self.control.raised = time.monotonic() < self._careful_until
        self._stop_if_asked()
        self._save()
        self._hold_while_unsure()
        self._stop_if_asked()

    def insist(self, request: Callable[[], T]) -> T:
        """Send a request until it is answered; unwind the task where it must stop before that."""
        while True:
            try:
                return request()
            except RedisUnavailable as error:
                events.emit(events.SaveFailed(*self._who(), error=str(error)))
                self._stop_if_asked()

    def save_every_item(self, seconds: float) -> None:
        """Save at every safe place for that long, however little time has passed."""
        self._careful_until = max(self._careful_until, time.monotonic() + seconds)
        self.control.raised = True

    def run(self, arguments: tuple[tuple[Any, ...], dict[str, Any]], pulse: Pulse | None, careful: float) -> str:
        """Call the task and let go of the job; return its new status, or "lost"."""
        began = time.monotonic()
        if careful:
            self.save_every_item(careful)
        if pulse is not None:
            pulse.start()
        try:
            ending = self._call(*arguments)
            status = self._let_go(ending)
        finally:
            if pulse is not None:
                pulse.stop()
        reason = Reason.JOB_LOST if status == "gone" else ending.reason
        position, seconds = self.journal.position(), time.monotonic() - began
        events.emit(events.AttemptEnded(*self._who(), status=status, reason=reason, position=position, seconds=seconds))
        if isinstance(ending.error, KeyboardInterrupt):
            raise ending.error  # the job is safe; what called us is still to stop
        return status

    def _call(self, positional: tuple[Any, ...], named: dict[str, Any]) -> Ending:
        """Call the task; return how to let go of its job."""
        raised: BaseException | None = None
        try:
            result = self.task.function(self.checkpoint, *positional, **named)
            if self.control.thrown is None:
                self.course.publish_end()
                return Ending("finish", (self.task.signature.result.encode(result, "the result"),))
            events.emit(events.InterruptionSwallowed(*self._who()))
        except BaseException as error:  # noqa: BLE001 - SystemExit in a task fails its job, not its worker
            raised = error
        return ending_of(self.control.thrown, raised)

    def _stop_if_asked(self) -> None:
        self.control.throw_if_thrown()
        interruption = self.control.interruption  # read once: the pulse may withdraw it meanwhile
        if interruption is not None:
            kind = LeaseLost if interruption.reason in LOST else Interrupted
            self.course.throw(kind(interruption))

    def _let_go(self, ending: Ending) -> str:
        """Send the last word until it is answered, or until the process must be gone."""
        self._letting_go = True
        while ending.how is not None:
            try:
                return self.journal.let_go(ending.how, *ending.details, until=time.monotonic() + 1.0)
            except RedisUnavailable as error:
                events.emit(events.SaveFailed(*self._who(), error=str(error)))
                interruption = self.control.interruption
                if interruption is not None and interruption.seconds_left <= 0.0:
                    return "unknown"
        return "lost"

    def let_go_by_force(self) -> None:
        """The grace is over and the task did not stop: let go for it, and end the process."""
        interruption = self.control.interruption
        until = interruption.deadline if interruption and interruption.deadline else time.monotonic()
        try:
            self.journal.let_go("interrupt", Reason.SHUTDOWN, 1, until=until)
        except RedisTrouble as error:
            events.emit(events.SaveFailed(*self._who(), error=str(error)))
        finally:
            os._exit(0)

    def _save(self) -> None:
        began = time.monotonic()
        try:
            answer = self.journal.save()
        except RedisTrouble as error:
            events.emit(events.SaveFailed(*self._who(), error=str(error)))
            return
        if answer is None:
            return
        self.heed(answer)
        if answer not in ("lost", "gone"):
            self._warn_of_growth()
            position, seconds = self.journal.position(), time.monotonic() - began
            events.emit(events.CheckpointSaved(*self._who(), position=position, seconds=seconds))

    def _warn_of_growth(self) -> None:
        size, limit = len(self.journal.newest[3].state or b""), self.task.max_bytes
        if size > WARN_AT * limit and not self._warned:
            self._warned = True
            events.emit(events.CheckpointGrows(*self._who(), size=size, limit=limit))

    def _hold_while_unsure(self) -> None:
        """Begin no item while the lease may be somebody else's: wait until the server has answered."""
        while self.lease.unanswered and self.control.interruption is None:
            try:
                self.heed(self.lease.renew())
            except RedisTrouble as error:
                events.emit(events.SaveFailed(*self._who(), error=str(error)))
                time.sleep(0.2)

    def _who(self) -> tuple[str, str, int]:
        return self.lease.job_id, self.task.name, self.lease.attempt


def run_claimed(
    task: TaskSpec,
    lease: RedisLease,
    claim: Claim,
    attempt: Attempt,
    *,
    renew_every: float,
    grace: float,
    chores: tuple[Chore, ...] = (),
    is_horse: bool,
) -> str:
    """Run an attempt that was claimed in Redis; return the job's new status, or "lost"."""
    who = lease.job_id, task.name, lease.attempt
    events.emit(events.AttemptBegan(*who, position=attempt.journal.position()))
    if claim.idle_streak >= IDLE_ATTEMPTS:
        events.emit(
            events.ItemOutlastsGrace(*who, position=attempt.journal.position(), times=claim.idle_streak, grace=grace)
        )
    pulse = Pulse(
        lease,
        attempt.journal,
        attempt.control,
        Rhythm(task.save_every, renew_every),
        heed=attempt.heed,
        chores=chores,
        last_resort=attempt.let_go_by_force if is_horse else None,
    )
    careful = CAREFUL_FOR * task.save_every if claim.crash_streak else 0.0
    if task.save_every < TICK:
        careful = math.inf  # quicker than the pulse: at every item
    try:
        arguments = task.signature.decode(claim.arguments)
    except UnstorableValue as error:
        return attempt.journal.let_go("pause", f"The arguments do not fit: {error}", until=time.monotonic() + grace)
    return attempt.run(arguments, pulse, careful)


def call_directly(task: TaskSpec, positional: tuple[Any, ...], named: dict[str, Any]) -> Any:
    """Run a task here and now, in memory; return its result or raise what it raised.

    Raises NotPossibleNow where the task asks for a person.
    """
    attempt = Attempt(task, MemoryLease(), None, kept_steps=False)
    try:
        result = task.function(attempt.checkpoint, *positional, **named)
    except PauseWanted as wanted:
        raise NotPossibleNow(f"The task asked for a person: {wanted.reason}", "paused") from None
    task.signature.result.encode(result, "the result")
    return result
