"""The position: what was written is read back, and nothing else is ever taken for a position."""

import struct
from hashlib import blake2b

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zpmeow.cache.position import HEADER_BYTES, Position, decode_position

EPOCH = bytes(range(16))
DATABASE = bytes(range(16, 32))


def make_position(
    *,
    at_ms: int = 1_700_000_000_123,
    snapshot: tuple[int, int, tuple[int, ...]] = (7, 12, (7, 9)),
    anchor: tuple[int, int, str] = (6, 41, "ab" * 16),
) -> Position:
    """Make a position; what a test does not care about is arbitrary."""
    return Position(epoch=EPOCH, database=DATABASE, at_ms=at_ms, snapshot=snapshot, anchor=anchor)


def without_beat(position: Position | None) -> tuple[object, ...]:
    """Return all that is the same each time a position is written."""
    assert position is not None
    return (position.epoch, position.database, position.at_ms, position.snapshot, position.anchor)


@given(
    at_ms=st.integers(0, 2**53),
    xmin=st.integers(0, 2**63 - 1),
    xmax=st.integers(0, 2**63 - 1),
    running=st.lists(st.integers(0, 2**63 - 1), max_size=20),
    seq=st.integers(0, 2**63 - 1),
)
def test_position_reads_back_as_written_whatever_it_says(
    at_ms: int, xmin: int, xmax: int, running: list[int], seq: int
) -> None:
    """All 64 bits of each number survive."""
    written = make_position(at_ms=at_ms, snapshot=(xmin, xmax, tuple(running)), anchor=(xmin, seq, "cd" * 16))

    read = decode_position(written.encode())

    assert without_beat(read) == without_beat(written)


def test_position_differs_each_time_when_it_is_written_twice() -> None:
    """Two writes of one position are told apart, so a server that was set back between them is noticed."""
    position = make_position()

    first, second = position.encode(), position.encode()

    assert first != second
    assert without_beat(decode_position(first)) == without_beat(decode_position(second))


def test_position_keeps_its_places_when_it_is_encoded() -> None:
    """The scripts in Redis find magic, epoch and time where they look for them."""
    data = make_position(at_ms=2**40 + 5).encode()

    assert data[:4] == b"zpp\x01"
    assert data[4:20] == EPOCH
    assert int.from_bytes(data[20:HEADER_BYTES]) == 2**40 + 5


def test_position_is_none_when_any_bit_is_flipped() -> None:
    """No single damaged bit goes unnoticed, wherever it is."""
    data = make_position().encode()

    for bit in range(len(data) * 8):
        flipped = bytearray(data)
        flipped[bit // 8] ^= 1 << bit % 8
        assert decode_position(bytes(flipped)) is None, bit


def test_position_is_none_when_it_is_cut_or_lengthened() -> None:
    """Neither a part of a position nor one with something behind it is a position."""
    data = make_position().encode()

    assert [size for size in range(len(data)) if decode_position(data[:size]) is not None] == []
    assert decode_position(data + b"\0") is None


@given(data=st.binary(max_size=300))
def test_position_is_none_when_the_bytes_are_arbitrary(data: bytes) -> None:
    """Garbage is no position, and no error."""
    assert decode_position(data) is None
    assert decode_position(b"zpp\x01" + data) is None


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"null", b"[]", b'["00",[1,2,[]],[1,2,"n"]]', b'["zz",[1,2,[]],[1,2,"n"],"b"]', b"[1,2,3,4]", b"{}"],
)
def test_position_is_none_when_the_body_says_something_else(body: bytes) -> None:
    """A sound checksum around a body of another shape does not make it a position."""
    head = struct.pack(">4s16sQ", b"zpp\x01", EPOCH, 5)
    checksum = blake2b(head + body, digest_size=8).digest()

    assert decode_position(head + checksum + body) is None


def test_order_grows_when_the_snapshot_or_the_time_does() -> None:
    """The next transaction counts first, the time decides between positions of an idle database."""
    older = make_position(at_ms=500, snapshot=(1, 10, ()))
    beat = make_position(at_ms=600, snapshot=(1, 10, ()))
    newer = make_position(at_ms=400, snapshot=(1, 11, ()))

    assert older.order < beat.order < newer.order
