"""When the pulse saves and lets go for a task that does not stop."""

from __future__ import annotations

import time
from typing import Any

import pytest

from checkpoint_runner.control import Control
from checkpoint_runner.interruptions import Interruption, Reason
from checkpoint_runner.pulse import Pulse, Rhythm


class Lease:
    job_id = "j"
    unanswered = False

    def renew(self) -> str:
        return ""


class Journal:
    dirty = False
    saved_at = 0.0
    saves = 0

    def save(self) -> None:
        self.saves += 1


@pytest.fixture
def ended() -> list[float]:
    return []


def pulse_of(control: Control, journal: Journal, ended: list[float]) -> Any:
    lease: Any = Lease()
    kept: Any = journal
    return Pulse(lease, kept, control, Rhythm(1.0, 100.0), heed=lambda _: None, last_resort=lambda: ended.append(1.0))


def test_a_withdrawn_pause_leaves_a_later_shutdown_its_whole_grace(ended: list[float]) -> None:
    """An item would be cut off in the first moment of a deploy, because somebody paused and resumed the job before."""
    control, journal = Control(), Journal()
    pulse = pulse_of(control, journal, ended)
    now = time.monotonic()
    control.request(Interruption(Reason.PAUSE))
    pulse._beat(now)
    pulse._beat(now + 1.0)
    control.withdraw(Reason.PAUSE)
    pulse._beat(now + 2.0)
    control.request(Interruption(Reason.SHUTDOWN, now + 325.0))
    pulse._beat(now + 300.0)
    assert ended == []
    assert journal.saves == 1, "for the pause"
    pulse._beat(now + 300.4)
    assert journal.saves == 2, "for the shutdown"
    pulse._beat(now + 300.0 + 0.89 * 25.0)
    assert ended == []
    pulse._beat(now + 300.0 + 0.91 * 25.0)
    assert ended == [1.0]
