"""The tasks that `hot_path.py` measures. They stand in a module of their own, since no worker finds a task in __main__.

Each takes turns: the same work without this library, then with it, so that whatever else the machine
does meanwhile hits both. A pair is (without, with) in seconds.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Any

import redis

from checkpoint_runner import Checkpoint, checkpointed

Pairs = list[tuple[float, float]]

KEPT: dict[str, dict[str, Any]] = {
    "one counter": {},
    "five keys": {"path": "users.csv", "skipped": 12, "ratio": 0.25, "failed": None},
    "1 KB": {f"field {number:02}": "x" * 24 for number in range(25)},
}
"""What the state holds besides the counter that each item moves."""


def enqueued(path: str, limit: int) -> None:
    """What RQ enqueues: a function with the parameters of `started`."""


@checkpointed(queue="benchmark")
def started(checkpoint: Checkpoint, path: str, limit: int) -> None:
    """A job for which only the start matters."""


@checkpointed(queue="benchmark")
def walk(checkpoint: Checkpoint, items: int, rounds: int) -> dict[str, Pairs]:
    """Walk through `items` items of each kind of source, by a bare `for` and by `each`."""
    at_hand = list(range(items))
    sources: dict[str, Callable[[], Iterable[int]]] = {
        "a list": lambda: at_hand,
        "a range": lambda: range(items),
        "a generator": lambda: (number for number in range(items)),
    }
    pairs: dict[str, Pairs] = {name: [] for name in sources}
    for turn in range(rounds):
        for name, source in sources.items():
            bare = _walked(source())
            pairs[name].append((bare, _walked(checkpoint.each(source(), name=f"{name}, {turn}"))))
    return pairs


@checkpointed(queue="benchmark")
def count(checkpoint: Checkpoint, kept: str, items: int, rounds: int) -> Pairs:
    """Count `items` items in a dict of one's own, and in the state beside what else it holds."""
    pairs = []
    for turn in range(rounds):
        own = {"rows": 0, **KEPT[kept]}
        began = time.perf_counter()
        for _ in range(items):
            own["rows"] += 1
        bare = time.perf_counter() - began

        checkpoint.state.update(rows=0, **KEPT[kept])
        began = time.perf_counter()
        for _ in checkpoint.each(range(items), name=f"{turn}"):
            checkpoint.state["rows"] += 1
        pairs.append((bare, time.perf_counter() - began))
    return pairs


@checkpointed(queue="benchmark")
def steps(checkpoint: Checkpoint, url: str, number: int) -> Pairs:
    """Write one small value by an EVALSHA of one HSET, and as the result of a step."""
    pairs = []
    with redis.Redis.from_url(url) as client:
        sha = client.script_load("return redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])")
        for turn in range(number):
            name = f"step {turn}"
            began = time.perf_counter()
            client.evalsha(sha, 1, "peer:steps", name, turn)
            bare = time.perf_counter() - began
            began = time.perf_counter()
            checkpoint.step(name, int, turn)
            pairs.append((bare, time.perf_counter() - began))
    return pairs


def _walked(items: Iterable[int]) -> float:
    began = time.perf_counter()
    for _ in items:
        pass
    return time.perf_counter() - began
