"""The scripts say what they are for, and are called with what they say."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from checkpoint_runner.keys import Keys
from checkpoint_runner.records import EncodedRecord
from checkpoint_runner.scripts import WITHOUT_PRELUDE, script
from checkpoint_runner.store import Due, StartRequest, Store

FOLDER = Path(__file__).parents[2] / "checkpoint_runner" / "lua"
FILES = sorted(path.stem for path in FOLDER.glob("*.lua") if path.stem != "prelude")
PARTS = ("Purpose", "KEYS", "ARGV", "Outcomes", "Sent again")

RECORD = EncodedRecord(1, b"{}", b"{}", "c")
REQUEST = StartRequest("j", "t", 1, b"[]", "d", "q", 0.0, 1.0, 3, b"{}", "k", "u")
DUE = Due("j", "queued", 0)

CALLS: dict[str, Callable[[Store], Any]] = {
    "ask_cancel": lambda store: store.ask("cancel", "j", 1, "why"),
    "ask_pause": lambda store: store.ask("pause", "j", 1, "why"),
    "ask_resume": lambda store: store.ask("resume", "j", 1),
    "ask_retry": lambda store: store.ask("retry", "j", 1),
    "claim": lambda store: store.claim("j", 1, "h", 1.0, 1, until=0.0),
    "crash": lambda store: store.crash("j", 1, "d", "cause", "crash", b"{}", until=None),
    "decline": lambda store: store.decline("j", 1, "d", "why"),
    "due": lambda store: store.due(1.0, 1.0, 1),
    "expire": lambda store: store.expire(DUE),
    "fail": lambda store: store.let_go("fail", "j", 1, "h", RECORD, b"{}", until=0.0),
    "finish": lambda store: store.let_go("finish", "j", 1, "h", RECORD, b"1", until=0.0),
    "interrupt": lambda store: store.let_go("interrupt", "j", 1, "h", RECORD, "shutdown", 1, until=0.0),
    "pause": lambda store: store.let_go("pause", "j", 1, "h", RECORD, "why", until=0.0),
    "read": lambda store: store.read("j", ("status",)),
    "redeliver": lambda store: store.redeliver(DUE, search=True),
    "remove": lambda store: store.remove("j", asked=True),
    "renew": lambda store: store.renew("j", 1, "h", 1.0),
    "save": lambda store: store.save("j", 1, "h", RECORD, ("p",)),
    "start": lambda store: store.start(REQUEST),
    "step": lambda store: store.keep_step("j", 1, "h", "p", b"1", 1),
    "wake": lambda store: store.wake(DUE),
}


class Recorded(Exception):
    """What a script was called with."""


class Recorder:
    """Takes the place of sender and client, and lets nothing through."""

    client: Any = None
    patience = 0.0

    def send(self, command: Callable[[Any], Any], *, until: float | None = None) -> Any:
        return command(self)

    def evalsha(self, sha: str, keys: int, *rest: Any) -> Any:
        raise Recorded(sha, keys, len(rest) - keys)


def header(name: str) -> dict[str, str]:
    """Return the parts of a script's header, each on one line."""
    parts: dict[str, str] = {}
    current = ""
    for line in (FOLDER / f"{name}.lua").read_text("utf-8").splitlines():
        if not line.startswith("--"):
            break
        text = line.removeprefix("--").strip()
        begun = re.match(rf"({'|'.join(PARTS)})(?:, or late)?: (.*)", text)
        if begun:
            current, text = begun[1], begun[2]
            parts[current] = text
        else:
            parts[current] += f" {text}"
    return parts


def numbered(text: str) -> tuple[int, bool]:
    """Return how many entries a list such as "1-7 as there; 8 this, 9... those" has, and whether it is open."""
    found = re.findall(r"(?:^|[,;] )(\d+)(?:-(\d+))?(\.\.\.)? ", text)
    expected = 1
    for first, last, _ in found:
        assert int(first) == expected, text
        expected = int(last or first) + 1
    return expected - 1, bool(found and found[-1][2])


@pytest.mark.parametrize("name", FILES)
def test_a_script_begins_with_its_header(name: str) -> None:
    """If a script did not say what it promises, its next change would break the promise unnoticed."""
    assert tuple(header(name)) == PARTS
    assert all(header(name).values())


@pytest.mark.parametrize("name", FILES)
def test_a_script_is_called_with_what_its_header_says(name: str) -> None:
    """If the call and the script disagreed, an argument would land in another field of the job."""
    with pytest.raises(Recorded) as caught:
        CALLS[name](Store(Recorder(), Keys("ckpt", "rq")))  # type: ignore[arg-type]
    sha, keys, arguments = caught.value.args
    assert sha == script(name).sha
    parts = header(name)
    assert numbered(parts["KEYS"]) == (keys, False)
    count, is_open = (0, False) if parts["ARGV"] == "none" else numbered(parts["ARGV"])
    assert arguments == count or (is_open and arguments == count - 1)
    text = (FOLDER / f"{name}.lua").read_text("utf-8").split("\n\n", 1)[1]
    used = {int(number) for number in re.findall(r"ARGV\[(\d+)\]", text)}
    assert used <= set(range(1, count + 1))
    if not is_open:
        assert used == set(range(1, count + 1)) or name == "read"


def test_every_script_has_a_call_and_every_call_a_script() -> None:
    """If a script were not called by the store, a transition would be dead code that looks alive."""
    assert sorted(CALLS) == FILES
    assert set(FILES) >= WITHOUT_PRELUDE


@pytest.mark.parametrize("name", FILES)
def test_a_script_reads_the_prelude_as_it_was_told(name: str) -> None:
    """If a script without the prelude used its words, every call of it would be an error."""
    body = (FOLDER / f"{name}.lua").read_text("utf-8")
    code = re.sub(r"--.*", "", body)
    uses = re.search(r"\b(guard|enter|enter_final|enter_queued|deliver|drop_delivery|keep|remember|request)\(", code)
    assert ("as in prelude.lua" in header(name)["KEYS"]) == (name not in WITHOUT_PRELUDE)
    if uses:
        assert name not in WITHOUT_PRELUDE


@pytest.mark.parametrize("name", FILES)
def test_a_script_asks_nothing_that_an_older_server_lacks(name: str) -> None:
    """If it did, Redis 6.2 or the test double would refuse every call of it."""
    text = (FOLDER / f"{name}.lua").read_text("utf-8")
    for word in ("cmsgpack", "server.call", "cjson", "struct.", "redis.setresp", "#!lua"):
        assert word not in text
