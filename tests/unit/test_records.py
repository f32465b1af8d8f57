"""Records: written and read back, and never trusted when they were changed."""

from __future__ import annotations

import fakeredis
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from checkpoint_runner import Checkpoint, checkpointed
from checkpoint_runner.errors import BrokenCheckpoint
from checkpoint_runner.journal import describe
from checkpoint_runner.records import EncodedRecord, Level, Progress, Record, decode_record, encode_record
from tests.conftest import Worker, done

levels = st.builds(
    Level,
    done=st.lists(st.text(max_size=5), max_size=3).map(tuple),
    loop=st.none() | st.text(max_size=5),
    cursor=st.none() | st.integers() | st.text() | st.lists(st.integers(), max_size=2),
    count=st.integers(min_value=0, max_value=2**60),
)
records = st.builds(
    Record,
    seq=st.integers(min_value=1, max_value=2**50),
    version=st.integers(min_value=1, max_value=1000),
    position=st.lists(levels, max_size=4).map(tuple),
    state=st.none() | st.dictionaries(st.text(max_size=3), st.integers()).map(msgspec.json.encode),
    progress=st.builds(Progress, done=st.integers(), total=st.none() | st.integers(), message=st.text()),
)


@checkpointed
def letters(checkpoint: Checkpoint) -> None:
    for letter in checkpoint.each("abcde"):
        done.append(letter)


@given(records)
def test_a_record_comes_back(record: Record) -> None:
    """Position, state or progress would change in a restart."""
    assert decode_record(encode_record(record)) == record


@given(records, st.data())
def test_a_flipped_byte_is_noticed(record: Record, data: st.DataObject) -> None:
    """A job would go on from a wrong place without a word."""
    encoded = encode_record(record)
    field = data.draw(st.sampled_from(["record", "progress"]))
    content = bytearray(getattr(encoded, field))
    at = data.draw(st.integers(0, len(content) - 1))
    content[at] ^= data.draw(st.integers(1, 255))
    changed = {"record": encoded.record, "progress": encoded.progress, field: bytes(content)}
    with pytest.raises(BrokenCheckpoint, match=f"number {record.seq}.*checksum"):
        decode_record(EncodedRecord(encoded.seq, checksum=encoded.checksum, **changed))


def test_a_record_of_another_format_is_refused() -> None:
    """A release that is rolled back would misread what the newer one wrote."""
    from checkpoint_runner import records as module

    encoded = encode_record(Record(1, 1, (), None, Progress()))
    body = encoded.record.replace(b'"format":1', b'"format":2')
    changed = EncodedRecord(1, body, encoded.progress, module._checksum(body, encoded.progress))
    with pytest.raises(BrokenCheckpoint, match="format 2; this release reads 1"):
        decode_record(changed)


@pytest.mark.parametrize("body", [b"", b"{", b"null", b"[]", b'{"format":1}', b"[" * 100_000])
def test_nonsense_with_a_right_checksum_is_refused(body: bytes) -> None:
    """Something else than a record would be taken for one."""
    from checkpoint_runner import records as module

    with pytest.raises(BrokenCheckpoint, match="can't be read"):
        decode_record(EncodedRecord(1, body, b"", module._checksum(body, b"")))


@pytest.mark.parametrize("field", ["record", "progress", "checksum"])
def test_a_tampered_checkpoint_pauses_the_job(worker: Worker, redis_client: fakeredis.FakeRedis, field: str) -> None:
    """A damaged checkpoint would send the job back to its beginning, or further than it is."""
    job = letters.start()
    worker.run(stop_after=2)
    key = f"ckpt:job:{job.id}"
    whole = redis_client.hget(key, field)
    redis_client.hset(key, field, whole[:-2] + (b"1" if whole[-2:-1] == b"0" else b"0") + whole[-1:])
    assert worker.run() == "paused"
    assert "does not match its checksum" in job.refresh().reason
    assert done == ["a", "b"]
    redis_client.hset(key, field, whole)
    job.refresh().resume()
    assert worker.run() == "finished"
    assert done == list("abcde")


def test_a_checkpoint_that_vanished_pauses_the_job(worker: Worker, redis_client: fakeredis.FakeRedis) -> None:
    """A job whose record is gone would silently begin again at its beginning."""
    job = letters.start()
    worker.run(stop_after=2)
    redis_client.hdel(f"ckpt:job:{job.id}", "record")
    assert worker.run() == "paused"
    assert done == ["a", "b"]


@pytest.mark.parametrize(
    ("position", "text"),
    [
        ((), ""),
        ((Level(),), ""),
        ((Level(loop="", count=3),), "item 3"),
        ((Level(loop="rows", count=0),), ""),
        ((Level(loop="files", count=12), Level(loop="lines", count=400)), "files 12 > lines 400"),
        ((Level(done=("",)),), "the loop"),
        ((Level(done=("", "rows")),), "loop rows"),
    ],
)
def test_a_position_for_people(position: tuple[Level, ...], text: str) -> None:
    """Logs would show structures instead of "files 12 > lines 400"."""
    assert describe(position) == text
