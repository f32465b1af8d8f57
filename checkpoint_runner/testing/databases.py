"""Databases of a real server that tests may empty."""

from __future__ import annotations

import re
from urllib.parse import urlsplit, urlunsplit

from checkpoint_runner.errors import WrongSetting


def own_database(url: str, xdist_worker: str) -> str:
    """Return the URL of this test process's own database: pytest-xdist's worker gw3 gets the third one behind it.

    Raises WrongSetting for a URL that names none.
    """
    parts = urlsplit(url)
    number = re.fullmatch(r"/(\d*)", parts.path or "/")
    if number is None or parts.scheme not in ("redis", "rediss"):
        raise WrongSetting(f"--checkpoints-server is {url!r}; expected memory, embedded, or redis://host:port/number.")
    worker = re.fullmatch(r"gw(\d+)", xdist_worker)
    database = int(number[1] or 0) + (int(worker[1]) if worker else 0)
    return urlunsplit(parts._replace(path=f"/{database}"))
