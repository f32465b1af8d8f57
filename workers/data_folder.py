"""The one folder that the sample tasks read and write.

A task takes a file's name and never a path: whoever may start a job (in the sample, every client of
the web app) can reach this folder and nothing else.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from checkpoint_runner.errors import WrongArguments

VARIABLE = "CHECKPOINT_RUNNER_DATA"
DEFAULT = ".checkpoint-runner/data"

DATABASE = (".db", ".sqlite", ".sqlite3")
CSV = (".csv",)

_PLAIN = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}")


def data_file(name: object, endings: tuple[str, ...]) -> Path:
    """Return the path of the file of that name; makes the folder where it is missing.

    The folder is CHECKPOINT_RUNNER_DATA, by default `.checkpoint-runner/data` below the working
    folder. Raises WrongArguments for a name with a folder in it, or with another ending.
    """
    if not isinstance(name, str) or not _PLAIN.fullmatch(name) or not name.endswith(endings):
        found = repr(name) if len(repr(name)) <= 80 else repr(name)[:77] + "..."
        raise WrongArguments(
            f"The file name {found} can't be used; expected 1 to 100 letters, digits or any of _ . - "
            f"without a folder, ending in {' or '.join(endings)}."
        )
    folder = Path(os.environ.get(VARIABLE) or DEFAULT)
    folder.mkdir(parents=True, exist_ok=True)
    return folder / name
