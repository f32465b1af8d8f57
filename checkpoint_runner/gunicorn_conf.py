"""gunicorn's hooks: an orderly way out for web workers, and job workers under the same master.

    gunicorn -c python:checkpoint_runner.gunicorn_conf app:app

In a config file of your own, import the hooks by name and call them from yours. Never bind the name
`workers` there: gunicorn takes it for its setting.

With CHECKPOINT_RUNNER_WORKERS=2 the master also runs that many job workers, so that one command is a
whole deployment; CHECKPOINT_RUNNER_TASKS names the modules that define their tasks.
"""

from __future__ import annotations

import logging as _logging
import os
import signal as _signal
from typing import Any as _Any

from checkpoint_runner import processes as _processes
from checkpoint_runner.gunicorn_plugin import WorkersPlugin as _WorkersPlugin
from checkpoint_runner.runner import close_default as _close_default
from checkpoint_runner.runner import drain_default as _drain_default
from checkpoint_runner.settings import Settings as _Settings
from checkpoint_runner.settings import count as _count
from checkpoint_runner.shutdown import ShutdownCoordinator as _ShutdownCoordinator

graceful_timeout = 30
"""Seconds: a little more than the grace of 25, within which web and job workers stop side by side."""

_plugin: list[_WorkersPlugin] = []
_coordinator: list[_ShutdownCoordinator] = []


def on_starting(server: _Any) -> None:
    """In the master: where another process of ours started gunicorn, end with it."""
    parent = os.environ.pop("CHECKPOINT_RUNNER_PARENT", "")
    if parent.isdigit():
        _processes.die_with_parent(int(parent), _signal.SIGTERM)


def when_ready(server: _Any) -> None:
    """In the master: start the job workers, where CHECKPOINT_RUNNER_WORKERS asks for some.

    Raises WrongSetting.
    """
    number = _count(os.environ, "CHECKPOINT_RUNNER_WORKERS", 0)
    if number:
        plugin = _WorkersPlugin(server, number, _Settings.read())
        plugin.start()
        _plugin[:] = [plugin]


def post_worker_init(worker: _Any) -> None:
    """In a web worker: notice the stop at once, so that event streams end themselves.

    This hook is the first at which gunicorn does not overwrite handlers any more.
    """
    ours = _logging.getLogger("checkpoint_runner")
    if not ours.hasHandlers():  # the application did not configure logging: no line of the shutdown may be lost
        ours.handlers = _logging.getLogger("gunicorn.error").handlers
        ours.setLevel(_logging.INFO)
    settings = _Settings.read()
    coordinator = _ShutdownCoordinator(
        settings.grace,
        signals=(_signal.SIGTERM, _signal.SIGINT, _signal.SIGQUIT),
        chain=True,
        force=False,
        role=f"web worker {os.getpid()}",
    )
    coordinator.on_shutdown(lambda _: _drain_default())
    coordinator.manage(_close_default, close=lambda close: close(), name="the default runner's Redis connections")
    coordinator.start()
    _coordinator[:] = [coordinator]


def worker_int(worker: _Any) -> None:
    """In a web worker: Ctrl+C. gunicorn may call this twice."""
    _drain_default()


def worker_exit(server: _Any, worker: _Any) -> None:
    """In a web worker: its requests are done; close what is open."""
    _drain_default()
    for coordinator in _coordinator:
        coordinator.stop()


def on_exit(server: _Any) -> None:
    """In the master: the web workers are gone; wait for the job workers, which stop at the same time."""
    for plugin in _plugin:
        plugin.wait()


def coordinator() -> _ShutdownCoordinator:
    """Return this web worker's coordinator, to `manage` the application's own resources.

    Raises RuntimeError outside a web worker that `post_worker_init` has set up.
    """
    if not _coordinator:
        raise RuntimeError(
            "there is no coordinator: gunicorn runs without checkpoint_runner.gunicorn_conf.post_worker_init"
        )
    return _coordinator[0]
