"""Everything this library raises, in one tree.

CheckpointRunnerError
├── WrongUse                 the code that uses the library must change
│   ├── WrongDeclaration     a task can't be declared or started as it is written
│   ├── DuplicateTask        two functions claim one task name
│   └── WrongSource          `each` was given something that it can't resume
├── WrongArguments           the arguments do not fit the task's parameters
├── UnstorableValue          a value would not come back from JSON as it went in
│   └── CheckpointTooLarge   a state, result or argument is larger than `max_bytes`
├── WrongName                a queue, task, key or label name that can't be used
├── WrongSetting             a setting or an environment variable makes no sense
├── UnknownTask              no task of that name is registered
├── KeyConflict              the key was used before, with other arguments
├── JobNotFound              no such job (or its retention has passed)
│   └── JobLost              the server lost a live job
├── NotPossibleNow           the job's status does not allow this
├── JobFailed                raised by `Job.wait` for a failed job
├── JobCancelled             raised by `Job.wait` for a cancelled job
├── InputChanged             a source no longer holds the position it was left at
├── BrokenCheckpoint         a stored checkpoint can't be trusted
└── RedisTrouble             the server did not do what was asked
    ├── RedisUnavailable     no answer in time; the outcome is unknown
    ├── RedisRefused         the server said no (password, permission, configuration)
    └── UnsupportedServer    the server is too old, or a cluster

`Interrupted` is control flow, not an error: it derives from BaseException, so that an
`except Exception` in a task does not swallow a shutdown.
"""

from __future__ import annotations


class CheckpointRunnerError(Exception):
    """Something that checkpoint_runner could not do."""

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message or (type(self).__doc__ or "").strip())


class WrongUse(CheckpointRunnerError):
    """The library was used in a way that can't work."""


class WrongDeclaration(WrongUse):
    """A task can't be declared or started as it is written."""


class DuplicateTask(WrongUse):
    """Two functions claim one task name."""


class WrongSource(WrongUse):
    """`each` was given something that it can't resume."""


class WrongArguments(CheckpointRunnerError):
    """The arguments do not fit the task's parameters."""


class UnstorableValue(CheckpointRunnerError):
    """A value would not come back from JSON as it went in."""


class CheckpointTooLarge(UnstorableValue):
    """A value is larger than the task's `max_bytes`."""


class WrongName(CheckpointRunnerError):
    """A name that can't be used."""


class WrongSetting(CheckpointRunnerError):
    """A setting makes no sense."""


class UnknownTask(CheckpointRunnerError):
    """No task of that name is registered."""


class KeyConflict(CheckpointRunnerError):
    """The key was used before, with other arguments."""


class JobNotFound(CheckpointRunnerError):
    """There is no such job, or its retention has passed."""


class JobLost(JobNotFound):
    """The server lost a live job: its data was flushed, or it failed over to a server without them."""


class NotPossibleNow(CheckpointRunnerError):
    """The job's status does not allow this.

    `status` is the status that the job had when it was asked.
    """

    def __init__(self, message: str, status: str) -> None:
        super().__init__(message)
        self.status = status


class JobFailed(CheckpointRunnerError):
    """The job failed."""


class JobCancelled(CheckpointRunnerError):
    """The job was cancelled."""


class InputChanged(CheckpointRunnerError):
    """A source no longer holds the position that it was left at."""


class BrokenCheckpoint(CheckpointRunnerError):
    """A stored checkpoint can't be trusted."""


class RedisTrouble(CheckpointRunnerError):
    """The Redis server did not do what was asked."""


class RedisUnavailable(RedisTrouble):
    """The Redis server did not answer in time; whether it did what was asked is unknown."""


class RedisRefused(RedisTrouble):
    """The Redis server refused."""


class UnsupportedServer(RedisTrouble):
    """This Redis server can't be used."""
