"""Settings: keyword arguments first, then the environment, then the defaults."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field

from checkpoint_runner import keys, names
from checkpoint_runner.durations import Duration, seconds
from checkpoint_runner.errors import WrongSetting

DEFAULT_URL = "redis://localhost:6379/0"

URL_VARIABLES = ("CHECKPOINT_RUNNER_REDIS_URL", "RQ_REDIS_URL", "REDIS_URL")
"""Where the server's URL is looked for, in this order."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What a runner needs to know besides the connection. Durations are in seconds."""

    url: str = DEFAULT_URL
    namespace: str = "ckpt"
    lease: float = keys.LEASE
    grace: float = keys.GRACE
    tasks: tuple[str, ...] = field(default=())

    @classmethod
    def read(
        cls,
        environ: Mapping[str, str] | None = None,
        *,
        url: str | None = None,
        namespace: str | None = None,
        lease: Duration | None = None,
        grace: Duration | None = None,
        tasks: tuple[str, ...] | None = None,
    ) -> Settings:
        """Return the settings in force: an argument that is not None beats the environment.

        Raises WrongSetting or WrongName, which name the variable.
        """
        env = os.environ if environ is None else environ
        return cls(
            url=url or server_url(env) or DEFAULT_URL,
            namespace=names.checked("namespace", namespace or env.get("CHECKPOINT_RUNNER_NAMESPACE") or "ckpt"),
            lease=_duration(env, "CHECKPOINT_RUNNER_LEASE", lease, keys.LEASE, least=0.5),
            grace=_duration(env, "CHECKPOINT_RUNNER_GRACE", grace, keys.GRACE, least=0.5),
            tasks=tasks if tasks else _modules(env.get("CHECKPOINT_RUNNER_TASKS", "")),
        )


def server_url(environ: Mapping[str, str] | None = None) -> str | None:
    """Return the server's URL from the environment, or None where it names none."""
    env = os.environ if environ is None else environ
    return next((env[name] for name in URL_VARIABLES if env.get(name)), None)


def count(environ: Mapping[str, str], name: str, default: int) -> int:
    """Return a whole number of at least 0 from the environment.

    Raises WrongSetting.
    """
    text = environ.get(name) or str(default)
    if not text.isascii() or not text.isdigit():
        raise WrongSetting(f"{name} is {text!r}; expected a whole number, such as {default}.")
    return int(text)


def _duration(env: Mapping[str, str], name: str, given: Duration | None, default: float, *, least: float) -> float:
    if given is not None:
        return seconds(given, name.removeprefix("CHECKPOINT_RUNNER_").lower(), least=least)
    text = env.get(name)
    if not text:
        return default
    try:
        value = float(text)
    except ValueError:
        raise WrongSetting(f"{name} is {text!r}; expected a number of seconds, such as {default:g}.") from None
    return seconds(value, name, least=least)


def _modules(text: str) -> tuple[str, ...]:
    return tuple(module.strip() for module in text.split(",") if module.strip())
