"""One application's jobs on one server: settings, keys and connections, tied together."""

from __future__ import annotations

import redis

from checkpoint_runner.clients import Profile, Sender, address, check_server, connect, lingering_connections
from checkpoint_runner.keys import Keys
from checkpoint_runner.settings import Settings
from checkpoint_runner.store import Store


def rq_prefix() -> str:
    """Return the prefix of RQ's keys, which RQ reads from RQ_KEY_PREFIX when it is imported."""
    from rq.defaults import RQ_KEY_PREFIX

    return RQ_KEY_PREFIX


class Backend:
    """The jobs in one Redis database, seen from one process. It owns its connections."""

    def __init__(self, source: str | redis.Redis, settings: Settings, profile: Profile) -> None:
        self.settings = settings
        self.source = source
        self.client = connect(source, profile, settings.namespace)
        self.keys = Keys(settings.namespace, rq_prefix())
        self.sender = Sender(self.client, profile.patience)
        self.store = Store(self.sender, self.keys)
        self.draining = False
        self._checked = False

    @property
    def address(self) -> str:
        """Where the server is, without the password."""
        return address(self.client)

    @property
    def renew_every(self) -> float:
        """Seconds between two renewals of a lease."""
        return min(1.0, self.settings.lease / 5)

    def check(self) -> None:
        """Be sure, once, that the server can be used.

        Raises RedisUnavailable, RedisRefused or UnsupportedServer.
        """
        if not self._checked:
            check_server(self.sender)
            self._checked = True

    def lingering_connections(self) -> int:
        """Return how many connections the server still has of processes of ours that ended on this machine.

        Raises RedisUnavailable or RedisRefused.
        """
        return self.sender.send(lambda client: lingering_connections(client, self.settings.namespace))

    def drain(self) -> None:
        """The process is about to stop: whoever waits for something here is to stop waiting. Signal-safe."""
        self.draining = True

    def close(self) -> None:
        """Close every connection. Closing twice is harmless."""
        self.client.close()
        self.client.connection_pool.disconnect()
