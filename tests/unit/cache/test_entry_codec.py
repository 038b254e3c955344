"""The entry codec: what it writes it reads, within the times and the epoch it was written for."""

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zpmeow.cache.entry_codec import EntryCodec, Reading
from zpmeow.cache.envelope import MAX_ENVELOPE_BYTES, Corruption
from zpmeow.cache.policy import FENCE_SECONDS, EntryKey, EntryPolicy, Loaded

POLICY = EntryPolicy(
    entity="thing",
    kind=9,
    schema=1,
    fresh_seconds=60,
    stale_seconds=30,
    encode=lambda value: json.dumps(value).encode(),
    decode=json.loads,
)
KEY = EntryKey("zpmeow:{1}:thing", POLICY)


class FakeClock:
    """Milliseconds that are moved by hand."""

    def __init__(self) -> None:
        """Start a second after 1970."""
        self.now_ms = 1000

    def __call__(self) -> int:
        """Return the time."""
        return self.now_ms


@pytest.fixture
def clock() -> FakeClock:
    """The database's clock."""
    return FakeClock()


@pytest.fixture
def codec(clock: FakeClock) -> EntryCodec:
    """A codec of the epoch `e...e`."""
    codec = EntryCodec(now_ms=clock)
    codec.epoch = b"e" * 16
    return codec


@pytest.mark.parametrize(
    ("after_ms", "expected"),
    [
        (0, Reading(value="v", version=7, fresh=True)),
        (59_999, Reading(value="v", version=7, fresh=True)),
        (60_000, Reading(value="v", version=7, fresh=False)),
        (89_999, Reading(value="v", version=7, fresh=False)),
        (90_000, None),
    ],
)
def test_value_is_fresh_then_stale_then_nothing(
    codec: EntryCodec, clock: FakeClock, after_ms: int, expected: Reading | None
) -> None:
    """Freshness counts from the moment at which the truth was asked."""
    change = codec.value(KEY, Loaded(value="v", version=7), loaded_at_ms=1000)

    clock.now_ms = 1000 + after_ms

    assert codec.read(KEY, change.entry.envelope) == expected


def test_value_ends_at_its_own_expiry_when_that_comes_first(codec: EntryCodec, clock: FakeClock) -> None:
    """An expiry of the value itself is never outlived by its freshness."""
    loaded = Loaded(value="v", version=7, expires_at_ms=5000)
    change = codec.value(replace(KEY, policy=replace(POLICY, stale_seconds=0)), loaded, loaded_at_ms=1000)

    clock.now_ms = 5000

    assert codec.read(KEY, change.entry.envelope) is None


def test_fence_reads_as_nothing(codec: EntryCodec) -> None:
    """A fence is neither a value nor corrupt."""
    change = codec.fence(KEY, 7, retire=False)

    assert codec.read(KEY, change.entry.envelope) is None
    assert change.entry.lifetime_seconds == FENCE_SECONDS


def test_key_outlives_a_fence_whatever_the_policy(codec: EntryCodec) -> None:
    """A short freshness does not shorten the key's life: a slow fill must find the newer version."""
    change = codec.value(KEY, Loaded(value="v", version=7), loaded_at_ms=1000)

    assert change.entry.lifetime_seconds == FENCE_SECONDS


def test_entry_of_another_epoch_reads_as_nothing(codec: EntryCodec) -> None:
    """Void, but not corrupt: it was sound in its day."""
    change = codec.value(KEY, Loaded(value="v", version=7), loaded_at_ms=1000)

    codec.epoch = b"f" * 16

    assert codec.read(KEY, change.entry.envelope) is None


def test_value_too_large_for_an_entry_becomes_a_fence(codec: EntryCodec) -> None:
    """What cannot be cached still makes what was cached before unreadable."""
    change = codec.value(KEY, Loaded(value="v" * MAX_ENVELOPE_BYTES, version=7), loaded_at_ms=1000)

    assert change.entry.retire
    assert codec.read(KEY, change.entry.envelope) is None


def test_payload_that_does_not_decode_is_corrupt(codec: EntryCodec) -> None:
    """A sound envelope around something else is of another schema."""
    other = replace(KEY, policy=replace(POLICY, encode=lambda _value: b"not json"))
    change = codec.value(other, Loaded(value="v", version=7), loaded_at_ms=1000)

    assert codec.read(KEY, change.entry.envelope) is Corruption.SCHEMA


@given(data=st.data())
def test_any_flipped_bit_or_cut_is_corrupt(data: st.DataObject) -> None:
    """No altered entry is ever read as a value."""
    codec = EntryCodec(now_ms=lambda: 1000)
    codec.epoch = b"e" * 16
    sound = codec.value(KEY, Loaded(value="v", version=7), loaded_at_ms=1000).entry.envelope
    position = data.draw(st.integers(0, len(sound) * 8 - 1))
    cut = data.draw(st.integers(0, len(sound) - 1))
    flipped = bytearray(sound)
    flipped[position // 8] ^= 1 << position % 8

    assert isinstance(codec.read(KEY, bytes(flipped)), Corruption)
    assert isinstance(codec.read(KEY, sound[:cut]), Corruption)
    assert isinstance(codec.read(KEY, sound + b"\0"), Corruption)


def test_entry_of_another_key_kind_or_schema_is_corrupt(codec: EntryCodec) -> None:
    """An entry answers only where it belongs."""
    sound = codec.value(KEY, Loaded(value="v", version=7), loaded_at_ms=1000).entry.envelope

    assert codec.read(replace(KEY, text="zpmeow:{2}:thing"), sound) is Corruption.KEY
    assert codec.read(replace(KEY, policy=replace(POLICY, kind=8)), sound) is Corruption.SCHEMA
    assert codec.read(replace(KEY, policy=replace(POLICY, schema=2)), sound) is Corruption.SCHEMA
