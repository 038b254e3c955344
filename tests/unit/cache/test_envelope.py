"""The format of an entry: what was written is read, and nothing else is."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zpmeow.cache.envelope import (
    EPOCH_OFFSET,
    FLAGS_OFFSET,
    HEADER_BYTES,
    MAGIC,
    MAX_ENVELOPE_BYTES,
    VERSION_OFFSET,
    Corruption,
    Envelope,
    decode,
)

U64 = st.integers(0, 2**64 - 1)
KEYS = st.text(min_size=1, max_size=60, alphabet=st.characters(exclude_categories=["Cs"]))


@st.composite
def envelopes(draw: st.DrawFn) -> Envelope:
    """Draw any envelope, a fence included."""
    return Envelope(
        kind=draw(st.integers(0, 255)),
        schema=draw(st.integers(0, 65535)),
        epoch=draw(st.binary(min_size=16, max_size=16)),
        version=draw(U64),
        written_at_ms=draw(U64),
        fresh_until_ms=draw(U64),
        usable_until_ms=draw(U64),
        payload=draw(st.none() | st.binary(max_size=200)),
    )


@given(envelopes(), KEYS)
def test_decode_returns_what_was_encoded(envelope: Envelope, key: str) -> None:
    """Every envelope survives the journey, an empty payload and a fence told apart."""
    assert decode(envelope.encode(key), key=key, kind=envelope.kind, schema=envelope.schema) == envelope


@given(envelopes(), KEYS)
def test_encode_puts_the_compared_fields_at_their_offsets(envelope: Envelope, key: str) -> None:
    """The script that writes set-if-newer finds magic, flags, epoch and version where it looks."""
    data = envelope.encode(key)

    assert data.startswith(MAGIC)
    assert data[FLAGS_OFFSET] == (0 if envelope.payload is None else 1)
    assert data[EPOCH_OFFSET : EPOCH_OFFSET + 16] == envelope.epoch
    assert int.from_bytes(data[VERSION_OFFSET : VERSION_OFFSET + 8]) == envelope.version
    assert len(data) == HEADER_BYTES + len(envelope.payload or b"")


@given(envelopes(), KEYS, st.data())
def test_decode_finds_corruption_when_any_bit_is_flipped(envelope: Envelope, key: str, data: st.DataObject) -> None:
    """No flipped bit, wherever it is, goes through."""
    damaged = bytearray(envelope.encode(key))
    bit = data.draw(st.integers(0, len(damaged) * 8 - 1))
    damaged[bit // 8] ^= 1 << bit % 8

    assert isinstance(decode(bytes(damaged), key=key, kind=envelope.kind, schema=envelope.schema), Corruption)


@given(envelopes(), KEYS, st.data())
def test_decode_finds_corruption_when_bytes_are_missing_or_added(
    envelope: Envelope, key: str, data: st.DataObject
) -> None:
    """No truncation and no tail goes through."""
    whole = envelope.encode(key)
    cut = whole[: data.draw(st.integers(0, len(whole) - 1))]
    longer = whole + data.draw(st.binary(min_size=1, max_size=20))

    for damaged in (cut, longer):
        assert isinstance(decode(damaged, key=key, kind=envelope.kind, schema=envelope.schema), Corruption)


@given(envelopes(), KEYS, KEYS)
def test_decode_finds_corruption_when_the_value_belongs_to_another_key(
    envelope: Envelope, key: str, other: str
) -> None:
    """A whole, sound envelope under a foreign key is not used."""
    found = decode(envelope.encode(key), key=other, kind=envelope.kind, schema=envelope.schema)

    assert (found == Corruption.KEY) is (key != other)


@given(envelopes(), KEYS, st.integers(0, 255), st.integers(0, 65535))
def test_decode_finds_corruption_when_kind_or_schema_is_another(
    envelope: Envelope, key: str, kind: int, schema: int
) -> None:
    """What another release or another entity wrote is not read as one's own."""
    found = decode(envelope.encode(key), key=key, kind=kind, schema=schema)

    assert (found == Corruption.SCHEMA) is ((kind, schema) != (envelope.kind, envelope.schema))


@given(st.binary(max_size=300))
def test_decode_finds_corruption_when_the_bytes_are_anything(data: bytes) -> None:
    """Arbitrary bytes are corrupt, and no exception."""
    assert isinstance(decode(data, key="key", kind=1, schema=1), Corruption)


def test_encode_refuses_a_payload_when_it_is_too_large() -> None:
    """What could not be read back is not written."""
    envelope = Envelope(
        kind=1,
        schema=1,
        epoch=bytes(16),
        version=1,
        written_at_ms=1,
        fresh_until_ms=2,
        usable_until_ms=3,
        payload=bytes(MAX_ENVELOPE_BYTES),
    )

    with pytest.raises(ValueError, match="too large"):
        envelope.encode("key")
