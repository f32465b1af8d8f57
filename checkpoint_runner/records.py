"""The record: all that is needed to go on, of one moment, in one write, with a checksum."""

from __future__ import annotations

from hashlib import blake2b
from typing import Any

import msgspec

from checkpoint_runner.errors import BrokenCheckpoint

FORMAT = 1


class Level(msgspec.Struct, frozen=True, omit_defaults=True):
    """The position in one body of code: the loops that are done in it, and the one that is open.

    `cursor` is the position of the open loop's last finished item; `count` is how many are
    finished. A loop that is open with no finished item has the cursor None and the count 0. `input` is
    the fingerprint of what the open loop walks through, `step` the body's last finished step.
    """

    done: tuple[str, ...] = ()
    loop: str | None = None
    cursor: Any = None
    count: int = 0
    input: str = ""
    step: str | None = None


Position = tuple[Level, ...]
"""The path of open loops, outermost first. The last level may have no open loop."""


class Progress(msgspec.Struct, frozen=True):
    """How far a job is, for people: items done, of how many, and a word about it."""

    done: int = 0
    total: int | None = None
    message: str = ""


class _Stored(msgspec.Struct, frozen=True):
    format: int
    version: int
    position: Position
    state: msgspec.Raw


class Record(msgspec.Struct, frozen=True):
    """One checkpoint. `state` is JSON; None where the task never had one."""

    seq: int
    version: int
    position: Position
    state: bytes | None
    progress: Progress


class EncodedRecord(msgspec.Struct, frozen=True):
    """A record as it is written: what the scripts take, in their order."""

    seq: int
    record: bytes
    progress: bytes
    checksum: str

    def arguments(self) -> tuple[int, bytes, bytes, str]:
        return (self.seq, self.record, self.progress, self.checksum)


_encode = msgspec.json.Encoder().encode
_decode_record = msgspec.json.Decoder(_Stored).decode
_decode_progress = msgspec.json.Decoder(Progress).decode


def encode_record(record: Record) -> EncodedRecord:
    """Return the record as it is written."""
    stored = _Stored(FORMAT, record.version, record.position, msgspec.Raw(record.state or b"null"))
    body, progress = _encode(stored), _encode(record.progress)
    return EncodedRecord(record.seq, body, progress, _checksum(body, progress))


def decode_record(encoded: EncodedRecord) -> Record:
    """Return the record that was written.

    Raises BrokenCheckpoint where the checksum is wrong or the format is not ours.
    """
    if _checksum(encoded.record, encoded.progress) != encoded.checksum:
        raise BrokenCheckpoint(
            f"The checkpoint (number {encoded.seq}) does not match its checksum: it was changed outside this library."
        )
    try:
        stored, progress = _decode_record(encoded.record), decode_progress(encoded.progress)
    except msgspec.DecodeError as error:
        raise BrokenCheckpoint(f"The checkpoint (number {encoded.seq}) can't be read: {error}.") from None
    if stored.format != FORMAT:
        raise BrokenCheckpoint(
            f"The checkpoint (number {encoded.seq}) has the format {stored.format}; this release reads {FORMAT}."
        )
    state = bytes(stored.state)
    return Record(encoded.seq, stored.version, stored.position, None if state == b"null" else state, progress)


def decode_progress(encoded: bytes) -> Progress:
    """Return the progress that was written beside a record. Raises msgspec.DecodeError."""
    return _decode_progress(encoded) if encoded else Progress()


def _checksum(record: bytes, progress: bytes) -> str:
    return blake2b(record + b"\n" + progress, digest_size=8).hexdigest()
