"""The names of deliveries."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Delivery:
    """The three parts of a delivery's RQ id: `{job}-{attempt}-{nonce}`."""

    id: str
    job_id: str
    attempt: int

    @classmethod
    def parse(cls, rq_id: str) -> Delivery | None:
        """Return the parts, or None for an id that is not a delivery's."""
        job_id, _, rest = rq_id.partition("-")
        attempt, _, nonce = rest.partition("-")
        if not (rq_id.isascii() and job_id.isalnum() and attempt.isdigit() and nonce.isdigit()):
            return None
        return cls(rq_id, job_id, int(attempt))
