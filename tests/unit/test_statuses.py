"""The table of statuses, and that the scripts keep to it."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import checkpoint_runner
from checkpoint_runner.statuses import ARROWS, FINAL, LIVE, Status, picture


def test_the_picture_shows_every_arrow_and_no_other() -> None:
    """The documentation would show another life of a job than it has."""
    drawn = set(re.findall(r"^    (\w+) --> (\w+): ", picture(), re.MULTILINE))
    assert drawn == {(str(source), str(target)) for source, target in ARROWS}
    assert picture().startswith("stateDiagram-v2\n    [*] --> queued: start()\n")
    assert set(re.findall(r"(\w+) --> \[\*\]", picture())) == FINAL


def test_arrows_that_must_never_be() -> None:
    """A finished job would come to life again, or a job would skip the queue."""
    absent = set(itertools.product(Status, Status)) - set(ARROWS)
    assert all((Status.FINISHED, target) in absent for target in Status)
    assert all((source, Status.RUNNING) in absent for source in Status if source is not Status.QUEUED)
    assert all((source, Status.FINISHED) in absent for source in Status if source is not Status.RUNNING)
    assert all((status, status) in absent for status in Status)
    for final in FINAL - {Status.FINISHED}:
        assert {target for source, target in ARROWS if source is final} == {Status.QUEUED}


def test_final_and_live_share_out_all_statuses() -> None:
    """A status would be forgotten in lists, or in what `unique` looks at."""
    assert set(Status) == FINAL | LIVE
    assert not FINAL & LIVE


def test_every_status_can_be_reached_and_left() -> None:
    """A job could be stuck in a status without a way out."""
    reached = {target for _, target in ARROWS} | {Status.QUEUED, Status.WAITING}
    left = {source for source, _ in ARROWS}
    assert reached == set(Status)
    assert left == set(Status) - {Status.FINISHED}


def test_each_arrow_has_a_comment() -> None:
    """A reader of the table would not learn when an arrow is taken."""
    source = (Path(checkpoint_runner.__file__).parent / "statuses.py").read_text("utf-8")
    table = source[source.index("ARROWS: dict") : source.index("\n}\n")].splitlines()[1:]
    arrows = [line for line in table if line.strip().startswith("(")]
    assert len(arrows) == len(ARROWS)
    assert table[0].strip().startswith("#")


def test_statuses_are_plain_text() -> None:
    """Templates and JSON responses would show Status.QUEUED."""
    show: Callable[[Any], str] = str
    assert [show(status) for status in Status] == [status.value for status in Status]
    assert f"{Status.QUEUED}" == "queued"
