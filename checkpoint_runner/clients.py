"""Clients for Redis: one profile per place they are used in, and one loop that sends again.

redis-py's own retries apply a write again each time a reply is lost, so they are off. Every script
of ours may be sent again: it carries what it was made for, and a doubled one changes nothing.
"""

from __future__ import annotations

import logging
import os
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar
from urllib.parse import urlsplit

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from checkpoint_runner import processes
from checkpoint_runner.errors import RedisRefused, RedisTrouble, RedisUnavailable, UnsupportedServer, WrongSetting

log = logging.getLogger(__name__)

OLDEST_SERVER = (6, 2)

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Profile:
    """How long one try may take, and how long to go on trying. All in seconds."""

    role: str
    socket_timeout: float
    patience: float


REQUEST = Profile("web", socket_timeout=0.9, patience=1.0)
"""In a request handler: an answer within two seconds, whatever it is."""

WORKER = Profile("worker", socket_timeout=2.0, patience=5.0)
"""In a worker: patient; what can't be saved now is saved later."""

_INHERITED = re.compile(
    r"host|port|db|username|password|path|protocol|credential_provider|ssl_.*|server|server_type|version|lua_modules|client_class"
)
"""What a client that a user gave tells about the server; the rest of its options are his."""

_TRANSIENT = (
    redis.exceptions.ConnectionError,
    redis.exceptions.TimeoutError,
    redis.exceptions.BusyLoadingError,
    redis.exceptions.ReadOnlyError,
    redis.exceptions.TryAgainError,
)
_NOT_NOW = re.compile("OOM|MISCONF|NOREPLICAS|MASTERDOWN|BUSY")
_REFUSED = (
    redis.exceptions.AuthenticationError,
    redis.exceptions.NoPermissionError,
    redis.exceptions.AuthenticationWrongNumberOfArgsError,
)


def client_name(namespace: str, role: str) -> str:
    """Return the name under which the server knows a connection of this process."""
    return f"{namespace}:{role}:{processes.host()}:{os.getpid()}"


def connect(source: str | redis.Redis, profile: Profile, namespace: str) -> redis.Redis:
    """Return a client of our own for the server that `source` (a URL or a client) stands for.

    Nothing is sent yet. Raises WrongSetting for a URL that makes no sense.
    """
    pool = _pool(source)
    options = {name: value for name, value in pool.connection_kwargs.items() if _INHERITED.fullmatch(name)}
    options.update(
        decode_responses=False,
        socket_timeout=profile.socket_timeout,
        retry=Retry(NoBackoff(), 0),
        client_name=client_name(namespace, profile.role),
    )
    if not issubclass(pool.connection_class, redis.UnixDomainSocketConnection):
        options.update(socket_connect_timeout=profile.socket_timeout, socket_keepalive=True)
    return redis.Redis(connection_pool=redis.ConnectionPool(connection_class=pool.connection_class, **options))


def address(client: redis.Redis) -> str:
    """Return where the server is, without the password."""
    options = client.connection_pool.connection_kwargs
    if "path" in options:
        return f"unix:{options['path']}"
    return f"{options.get('host', 'localhost')}:{options.get('port', 6379)}/{options.get('db', 0)}"


class Sender:
    """Sends commands through one client, again and again within its patience.

    Only commands that may be sent twice go through here.
    """

    def __init__(self, client: redis.Redis, patience: float) -> None:
        self.client = client
        self.patience = patience

    def send(self, command: Callable[[redis.Redis], T], *, until: float | None = None) -> T:
        """Return what `command` returns.

        `until` is a moment of `time.monotonic()` after which no new try begins; by default that
        is `patience` seconds from now. Raises RedisUnavailable (the outcome is unknown) or
        RedisRefused; both name the address without the password.
        """
        limit = time.monotonic() + self.patience if until is None else until
        pause = 0.02
        while True:
            try:
                return command(self.client)
            except redis.exceptions.RedisError as error:
                trouble = self._explained(error)
                if not isinstance(trouble, RedisUnavailable) or time.monotonic() + pause >= limit:
                    raise trouble from error
                self.client.connection_pool.disconnect(inuse_connections=False)
                time.sleep(pause)
                pause = min(pause * 2, 0.5)

    def _explained(self, error: redis.exceptions.RedisError) -> RedisTrouble:
        where = address(self.client)
        if isinstance(error, _REFUSED) or "NOAUTH" in str(error) or "WRONGPASS" in str(error):
            return RedisRefused(f"The Redis server at {where} refused the user name or password. Check the URL's.")
        if isinstance(error, _TRANSIENT):
            return RedisUnavailable(
                f"The Redis server at {where} gave no usable answer ({_plain(error)}). "
                "Expected a reachable, writable server: check that it runs and that the URL is right."
            )
        if isinstance(error, redis.exceptions.OutOfMemoryError) or _NOT_NOW.search(str(error)):
            return RedisUnavailable(f"The Redis server at {where} takes no writes now: {_plain(error)}")
        return RedisRefused(f"The Redis server at {where} refused a command: {_plain(error)}")


def check_server(sender: Sender) -> None:
    """Raise UnsupportedServer for a server that is too old or a cluster."""
    try:
        info = sender.send(lambda client: client.info("server"))
    except RedisRefused:
        sender.send(lambda client: client.ping())  # a wrong password is refused here too
        return  # no INFO (a test double, or no permission): the commands themselves will tell
    found = str(info.get("redis_version", "0"))
    numbers = tuple(int(part) for part in re.findall(r"\d+", found)[:2])
    if numbers < OLDEST_SERVER:
        raise UnsupportedServer(
            f"The Redis server at {address(sender.client)} has version {found}; expected at least 6.2. Upgrade it."
        )
    if info.get("redis_mode") == "cluster":
        raise UnsupportedServer(
            f"The Redis server at {address(sender.client)} is a cluster, which is not supported: "
            "a job's keys would lie on several nodes. Use a single primary."
        )


def lingering_connections(client: redis.Redis, namespace: str) -> int:
    """Return how many connections the server has of processes of ours that ended on this machine."""
    ended = 0
    for entry in client.client_list():
        prefix, _, host, pid, *_ = (*str(entry["name"]).split(":"), "", "", "")
        if prefix == namespace and host == processes.host() and pid.isdigit():
            ended += not processes.start_time(int(pid))
    return ended


def _pool(source: object) -> Any:
    if isinstance(source, redis.Redis):
        return source.connection_pool
    if isinstance(source, str):
        try:
            return redis.ConnectionPool.from_url(source)
        except ValueError as error:
            scheme = urlsplit(source).scheme or source[:20]
            raise WrongSetting(
                f"The Redis URL with the scheme {scheme!r} can't be used ({error}); "
                "expected redis://, rediss:// or unix://."
            ) from None
    kind = f"{type(source).__module__}.{type(source).__qualname__}"
    raise WrongSetting(
        f"A {kind} can't be used as the connection; expected a URL or a redis.Redis (a cluster is not supported)."
    )


def _plain(error: Exception) -> str:
    return re.sub(r"\s+", " ", str(error)).strip()[:300] or type(error).__name__
