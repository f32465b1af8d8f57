"""Durations as people write them: float seconds or timedelta."""

from __future__ import annotations

import math
from datetime import timedelta

from checkpoint_runner.errors import WrongSetting

Duration = float | timedelta

MOST = 100 * 366 * 86400.0
"""Seconds: longer is a mistake, and would not fit the server's clock for ever."""


def seconds(value: Duration, name: str, *, least: float = 0.0) -> float:
    """Return `value` in seconds.

    Raises WrongSetting where it is no finite duration of at least `least` seconds;
    `name` is what the message calls it.
    """
    if isinstance(value, timedelta):
        value = value.total_seconds()
    number: object = value
    if isinstance(number, bool) or not isinstance(number, int | float) or not math.isfinite(number):
        raise WrongSetting(f"{name} is {value!r}; expected a number of seconds or a timedelta.")
    if value > MOST:
        raise WrongSetting(f"{name} is {value!r} seconds; expected at most {MOST:g}, which is a century.")
    if value < least:
        raise WrongSetting(f"{name} is {value!r} seconds; expected at least {least:g}.")
    return float(value)


def milliseconds(value: float) -> int:
    """Return seconds as the whole milliseconds that the scripts count in."""
    return round(value * 1000)
