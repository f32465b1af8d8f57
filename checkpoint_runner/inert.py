"""RQ's parts for a worker that trusts nothing in Redis: what is forged there can do no harm.

Under a stock worker a forged `meta` or result is unpickled, a callback is imported and run, a webhook
is called, and a compressed bomb is unpacked.
"""

from __future__ import annotations

from typing import Any

from rq.job import Job as RQJob
from rq.job import JobStatus
from rq.timeouts import BaseDeathPenalty

from checkpoint_runner.payload import DELIVERED_CALL, PAYLOAD

_OURS = b"delivery"


class NoDeathPenalty(BaseDeathPenalty):
    """No timeout. RQ's raises from SIGALRM at any moment, also in the middle of a Redis command."""

    def setup_death_penalty(self) -> None: ...
    def cancel_death_penalty(self) -> None: ...


class PayloadSerializer:
    """Reads nothing: knows our own payload and refuses the rest."""

    @staticmethod
    def dumps(*_args: Any, **_kwargs: Any) -> bytes:
        return _OURS

    @staticmethod
    def loads(data: bytes, *_args: Any, **_kwargs: Any) -> Any:
        if data != _OURS:
            raise ValueError("not a delivery of checkpoint_runner")
        return DELIVERED_CALL


class DeliveryJob(RQJob):
    """An RQ job of which only what can do no harm is read: a forged meta, result, callback or webhook is inert."""

    is_delivery = False

    def restore(self, raw_data: dict[bytes, bytes]) -> None:
        self.is_delivery = raw_data.get(b"data") == PAYLOAD
        status = raw_data.get(b"status", b"").decode("ascii", "replace")
        known = status if status in {member.value for member in JobStatus} else JobStatus.QUEUED.value
        origin = raw_data.get(b"origin", b"")
        super().restore(
            {
                b"data": _OURS if self.is_delivery else b"foreign",
                b"status": known.encode(),
                b"origin": origin,
                b"timeout": b"-1",
                b"result_ttl": b"0",
                b"failure_ttl": b"60",
            }
        )
