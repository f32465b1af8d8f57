"""A gunicorn config of your own: `gunicorn -c python:workers.gunicorn_conf workers.web:app`.

Every hook of checkpoint_runner is imported by name; where you have a hook of that name yourself, call
ours from yours. Never bind the name `workers` here (as `import workers.web` would): gunicorn takes it
for its setting.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

from checkpoint_runner.gunicorn_conf import coordinator, graceful_timeout, on_exit, on_starting, worker_exit, worker_int
from checkpoint_runner.gunicorn_conf import post_worker_init as _post_worker_init
from checkpoint_runner.gunicorn_conf import when_ready as _when_ready

__all__ = ["graceful_timeout", "on_exit", "on_starting", "worker_exit", "worker_int"]

bind = "127.0.0.1:8000"
worker_class = "gthread"
threads = 8
"""Event streams hold a thread each while somebody watches."""


def when_ready(server: Any) -> None:
    """In the master: the job workers first, then what is yours."""
    _when_ready(server)
    server.log.info("the sample is ready")


def post_worker_init(worker: Any) -> None:
    """In a web worker: the orderly way out first, then what is to be closed on it, last in first out."""
    _post_worker_init(worker)
    pool = ThreadPoolExecutor(4, "sample")
    coordinator().manage(pool, name="the sample's thread pool")
