"""What dead workers leave in RQ's lists and registries, as far as it is ours."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import cast

import redis
from rq import Queue
from rq.worker_registration import clean_worker_registry

from checkpoint_runner.deliveries import Delivery
from checkpoint_runner.keys import Keys
from checkpoint_runner.payload import PAYLOAD


def clear_leftovers(connection: redis.Redis, keys: Keys, queues: Iterable[Queue]) -> None:
    """Remove entries of deliveries that are gone, and of workers that are gone. The jobs themselves need none of these.

    Raises redis.exceptions.RedisError.
    """
    for queue in queues:
        clean_worker_registry(queue)
        started = keys.started(queue.name)
        for entry in cast("list[bytes]", connection.zrangebyscore(started, "-inf", time.time())):
            key = keys.delivery(_delivery_of(entry))
            ours = connection.hget(key, "data") in (None, PAYLOAD)
            if Delivery.parse(_delivery_of(entry)) and ours:  # its worker has been silent for longer than it may be
                connection.delete(key)
                connection.zrem(started, entry)
        for entry in cast("list[bytes]", connection.zrange(keys.failed(queue.name), 0, -1)):
            if Delivery.parse(_delivery_of(entry)) and not connection.exists(keys.delivery(_delivery_of(entry))):
                connection.zrem(keys.failed(queue.name), entry)
        for entry in cast("list[bytes]", connection.lrange(keys.intermediate(queue.name), 0, -1)):
            if not connection.exists(keys.delivery(_delivery_of(entry))):
                connection.lrem(keys.intermediate(queue.name), 1, entry.decode())


def _delivery_of(entry: bytes) -> str:
    """Return the RQ id in an entry of a registry, which may be followed by an execution's."""
    return entry.decode("utf-8", "replace").partition(":")[0]
