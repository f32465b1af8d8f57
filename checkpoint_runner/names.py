"""The names that users give to things, checked where they come in."""

from __future__ import annotations

import re
import secrets

from checkpoint_runner.errors import WrongName

_SHAPES = {
    "queue": (re.compile(r"[A-Za-z0-9_.:-]{1,100}"), "1 to 100 letters, digits or any of _ . : -"),
    "task": (re.compile(r"[A-Za-z0-9_.:<>-]{1,200}"), "1 to 200 letters, digits or any of _ . : < > -"),
    "loop": (re.compile(r"[^\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]{1,200}"), "1 to 200 printable characters"),
    "step": (re.compile(r"[^\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]{1,200}"), "1 to 200 printable characters"),
    "key": (re.compile(r"[^\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]{1,500}"), "1 to 500 printable characters"),
    "unique": (re.compile(r"[^\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]{1,500}"), "1 to 500 printable characters"),
    "label": (re.compile(r"[^\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]{1,100}"), "1 to 100 printable characters"),
    "namespace": (re.compile(r"[A-Za-z0-9_.-]{1,50}"), "1 to 50 letters, digits or any of _ . -"),
    "job id": (re.compile(r"[A-Za-z0-9]{8,40}"), "8 to 40 letters and digits"),
}


def checked(kind: str, name: object) -> str:
    """Return `name` if it is a usable name of that kind.

    Raises WrongName, which says what was found and what is allowed.
    """
    shape, allowed = _SHAPES[kind]
    if not isinstance(name, str) or not shape.fullmatch(name):
        found = repr(name) if len(repr(name)) <= 80 else repr(name)[:77] + "..."
        raise WrongName(f"The {kind} name {found} can't be used; expected {allowed}.")
    return name


def readable(text: object, most: int = 2000) -> str:
    """Return text for people that can be stored: at most so many characters, all of which UTF-8 has."""
    return str(text)[:most].encode("utf-8", "replace").decode("utf-8")


def new_job_id() -> str:
    """Return a job id that can't be guessed (128 bits) and fits RQ's rule for ids."""
    return secrets.token_hex(16)
