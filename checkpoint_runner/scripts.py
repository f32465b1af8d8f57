"""The Lua scripts: one file per transition, each sent by its checksum."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from hashlib import sha1
from importlib import resources
from string import Template

import redis

from checkpoint_runner import keys
from checkpoint_runner.durations import milliseconds
from checkpoint_runner.payload import PAYLOAD

WITHOUT_PRELUDE = frozenset({"save", "step", "renew", "read", "due"})

Reply = bytes | int | list[bytes] | None
Argument = str | bytes | int | float


class Script:
    """One script, whole."""

    def __init__(self, name: str) -> None:
        folder = resources.files("checkpoint_runner") / "lua"
        body = (folder / f"{name}.lua").read_text("utf-8")
        if name not in WITHOUT_PRELUDE:
            body = Template((folder / "prelude.lua").read_text("utf-8")).substitute(_CONSTANTS) + Template(
                body
            ).substitute(_CONSTANTS)
        self.name = name
        self.text = body
        self.sha = sha1(body.encode(), usedforsecurity=False).hexdigest()

    def call(self, client: redis.Redis, names: Sequence[str], arguments: Sequence[Argument]) -> Reply:
        """Run the script. The server may have forgotten it (restart, SCRIPT FLUSH): then it is sent whole."""
        try:
            return client.evalsha(self.sha, len(names), *names, *arguments)  # type: ignore[no-any-return]
        except redis.exceptions.NoScriptError:
            return client.eval(self.text, len(names), *names, *arguments)  # type: ignore[no-any-return]


@cache
def script(name: str) -> Script:
    """Return the script of that name."""
    return Script(name)


def _lua_literal(data: bytes) -> str:
    return "'" + "".join(f"\\{byte:03d}" for byte in data) + "'"


_CONSTANTS = {
    "PAYLOAD": _lua_literal(PAYLOAD),
    "DELIVERY_FAILURE_TTL": str(keys.DELIVERY_FAILURE_TTL),
    "DELIVERY_CHECK_MS": str(milliseconds(keys.DELIVERY_CHECK)),
    "DELIVERY_CHECK_MOST_MS": str(milliseconds(keys.DELIVERY_CHECK_MOST)),
    "DECLINE_PAUSE_MS": str(milliseconds(keys.DECLINE_PAUSE)),
    "DECLINE_LIMIT_MS": str(milliseconds(keys.DECLINE_LIMIT)),
    "RETENTION_NET_MS": str(milliseconds(keys.RETENTION_NET)),
    "HISTORY_LENGTH": str(keys.HISTORY_LENGTH),
    "NONCES": str(keys.NONCES),
}
