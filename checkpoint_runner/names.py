"""The names that users give to things, checked where they come in."""

from __future__ import annotations

import re
import secrets

from checkpoint_runner.errors import WrongName

_WORDS = {
    "queue": (re.compile(r"[A-Za-z0-9_.:-]{1,100}"), "1 to 100 letters, digits or any of _ . : -"),
    "task": (re.compile(r"[A-Za-z0-9_.:<>-]{1,200}"), "1 to 200 letters, digits or any of _ . : < > -"),
    "namespace": (re.compile(r"[A-Za-z0-9_.-]{1,50}"), "1 to 50 letters, digits or any of _ . -"),
}
_RQS_OWN = ":intermediate"
"""How RQ's second list of a queue ends: a queue of that name would be taken for it."""

_TEXTS = {"loop": 200, "step": 200, "key": 500, "unique": 500, "label": 100, "label's value": 500}


def checked(kind: str, name: object) -> str:
    """Return `name` if it is a usable name of that kind.

    Raises WrongName, which says what was found and what is allowed.
    """
    if kind in _WORDS:
        shape, allowed = _WORDS[kind]
        usable = isinstance(name, str) and shape.fullmatch(name) is not None and not name.endswith(_RQS_OWN)
    else:
        most = _TEXTS[kind]
        least = 0 if kind == "label's value" else 1
        allowed = f"{least} to {most} printable characters"
        usable = isinstance(name, str) and least <= len(name) <= most and name.isprintable()
    if usable:
        return str(name)
    found = repr(name) if len(repr(name)) <= 80 else repr(name)[:77] + "..."
    raise WrongName(f"The {kind} name {found} can't be used; expected {allowed}.")


def readable(text: object, most: int = 2000) -> str:
    """Return text for people that can be stored: at most so many characters, all of which UTF-8 has."""
    return str(text)[:most].encode("utf-8", "replace").decode("utf-8")


def new_job_id() -> str:
    """Return a job id that can't be guessed (128 bits) and fits RQ's rule for ids."""
    return secrets.token_hex(16)
