"""The entry codec: what it writes it reads, within the times and the epoch it was written for."""

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zpmeow.cache.entry_codec import JITTER_RATIO, EntryCodec, Reading
from zpmeow.cache.envelope import MAX_ENVELOPE_BYTES, Corruption
from zpmeow.cache.policy import FENCE_SECONDS, EntryKey, EntryPolicy, Loaded
from zpmeow.cache.tier import Entry

POLICY = EntryPolicy(
    entity="thing",
    kind=9,
    schema=1,
    fresh_seconds=60,
    stale_seconds=30,
    encode=lambda value: json.dumps(value).encode(),
    decode=json.loads,
    weigh=len,
)
KEY = EntryKey("zpmeow:{1}:thing", POLICY)
LOADED = Loaded(value="v", version=7)
LOADED_AT_MS = 1000
EPOCH, OTHER_EPOCH = b"e" * 16, b"f" * 16


class FakeClock:
    """Milliseconds that are moved by hand."""

    def __init__(self) -> None:
        """Start a second after 1970."""
        self.now_ms = LOADED_AT_MS

    def __call__(self) -> int:
        """Return the time."""
        return self.now_ms


@pytest.fixture
def clock() -> FakeClock:
    """The database's clock."""
    return FakeClock()


@pytest.fixture
def codec(clock: FakeClock) -> EntryCodec:
    """A codec without jitter."""
    return EntryCodec(now_ms=clock, chance=lambda: 0.0)


def value_of(codec: EntryCodec, loaded: Loaded = LOADED, *, key: EntryKey = KEY) -> Entry:
    """Envelope a value in the epoch of all tests."""
    return codec.value(key, loaded, epoch=EPOCH, loaded_at_ms=LOADED_AT_MS)


READING = Reading(value="v", version=7, fresh_until_ms=LOADED_AT_MS + 60_000, usable_until_ms=LOADED_AT_MS + 90_000)


@pytest.mark.parametrize(
    ("after_ms", "expected"),
    [
        (0, READING),
        (59_999, READING),
        (60_000, READING),
        (89_999, READING),
        (90_000, None),
    ],
)
def test_value_tells_its_times_and_is_nothing_when_they_are_over(
    codec: EntryCodec, clock: FakeClock, after_ms: int, expected: Reading | None
) -> None:
    """Freshness counts from the moment at which the truth was asked."""
    entry = value_of(codec)

    clock.now_ms = LOADED_AT_MS + after_ms

    assert codec.read(KEY, entry.envelope, epoch=EPOCH, now_ms=clock.now_ms) == expected


def test_value_ends_at_its_own_expiry_when_that_comes_first(codec: EntryCodec, clock: FakeClock) -> None:
    """An expiry of the value itself is never outlived by its freshness."""
    loaded = Loaded(value="v", version=7, expires_at_ms=5000)
    entry = value_of(codec, loaded, key=EntryKey(KEY, replace(POLICY, stale_seconds=0)))

    clock.now_ms = 5000

    assert codec.read(KEY, entry.envelope, epoch=EPOCH, now_ms=clock.now_ms) is None


@given(chance=st.floats(0, 1), expires_at_ms=st.none() | st.integers(0, 200_000))
def test_freshness_is_shortened_by_a_tenth_at_most_whatever_the_chance(
    chance: float, expires_at_ms: int | None
) -> None:
    """What was cached together ends at different times, between 90 % and 100 % of its life, never after its expiry."""
    codec = EntryCodec(now_ms=lambda: LOADED_AT_MS, chance=lambda: chance)

    plain = codec.fresh_until_ms(KEY, LOADED, loaded_at_ms=LOADED_AT_MS)
    expiring = codec.fresh_until_ms(KEY, replace(LOADED, expires_at_ms=expires_at_ms), loaded_at_ms=LOADED_AT_MS)

    assert 60_000 * (1 - JITTER_RATIO) - 1 <= plain - LOADED_AT_MS <= 60_000
    assert expiring == (plain if expires_at_ms is None else min(plain, expires_at_ms))


def test_freshness_differs_when_many_values_are_written_together() -> None:
    """Without a test's hand on the chance, a thousand values do not all end in one moment."""
    codec = EntryCodec(now_ms=lambda: LOADED_AT_MS)

    ends = {codec.fresh_until_ms(KEY, LOADED, loaded_at_ms=LOADED_AT_MS) for _ in range(1_000)}

    assert len(ends) > 500
    assert max(ends) - min(ends) > 3_000


def test_stale_time_counts_from_the_end_of_freshness_when_there_is_jitter(clock: FakeClock) -> None:
    """A value that ends early is not usable for longer in exchange."""
    codec = EntryCodec(now_ms=clock, chance=lambda: 1.0)
    entry = value_of(codec)

    found = []
    for clock.now_ms in (LOADED_AT_MS + 83_999, LOADED_AT_MS + 84_000):
        found.append(codec.read(KEY, entry.envelope, epoch=EPOCH, now_ms=clock.now_ms))

    assert found == [
        Reading(value="v", version=7, fresh_until_ms=LOADED_AT_MS + 54_000, usable_until_ms=LOADED_AT_MS + 84_000),
        None,
    ]


def test_fence_reads_as_nothing_when_it_stands_there(codec: EntryCodec) -> None:
    """A fence is neither a value nor corrupt."""
    entry = codec.fence(KEY, 7, epoch=EPOCH, retire=False)

    assert codec.read(KEY, entry.envelope, epoch=EPOCH, now_ms=LOADED_AT_MS) is None
    assert entry.lifetime_seconds == FENCE_SECONDS


def test_key_outlives_a_fence_when_the_policy_is_short(codec: EntryCodec) -> None:
    """A short freshness does not shorten the key's life: a slow fill must find the newer version."""
    assert value_of(codec).lifetime_seconds == FENCE_SECONDS


def test_entry_reads_as_nothing_when_it_is_of_another_epoch(codec: EntryCodec) -> None:
    """Void, but not corrupt: it was sound in its day."""
    assert codec.read(KEY, value_of(codec).envelope, epoch=OTHER_EPOCH, now_ms=LOADED_AT_MS) is None


@pytest.mark.parametrize("excess_bytes", [0, MAX_ENVELOPE_BYTES])
def test_value_becomes_a_fence_when_it_is_too_large_for_an_entry(codec: EntryCodec, excess_bytes: int) -> None:
    """What cannot be cached still makes what was cached before unreadable, the same version too."""
    room_bytes = MAX_ENVELOPE_BYTES - 76 - len('""')
    largest = value_of(codec, Loaded(value="v" * room_bytes, version=7))
    entry = value_of(codec, Loaded(value="v" * (room_bytes + 1 + excess_bytes), version=7))

    assert (largest.retire, len(largest.envelope)) == (False, MAX_ENVELOPE_BYTES)
    assert entry.retire
    assert codec.read(KEY, entry.envelope, epoch=EPOCH, now_ms=LOADED_AT_MS) is None


def test_payload_is_corrupt_when_it_does_not_decode(codec: EntryCodec) -> None:
    """A sound envelope around something else is of another schema."""
    entry = value_of(codec, key=EntryKey(KEY, replace(POLICY, encode=lambda _value: b"not json")))

    assert codec.read(KEY, entry.envelope, epoch=EPOCH, now_ms=LOADED_AT_MS) is Corruption.SCHEMA


@given(data=st.data())
def test_entry_is_corrupt_when_any_bit_is_flipped_or_any_part_is_cut(data: st.DataObject) -> None:
    """No altered entry is ever read as a value."""
    codec = EntryCodec(now_ms=lambda: LOADED_AT_MS)
    sound = value_of(codec).envelope
    position = data.draw(st.integers(0, len(sound) * 8 - 1))
    cut = data.draw(st.integers(0, len(sound) - 1))
    flipped = bytearray(sound)
    flipped[position // 8] ^= 1 << position % 8

    assert isinstance(codec.read(KEY, bytes(flipped), epoch=EPOCH, now_ms=LOADED_AT_MS), Corruption)
    assert isinstance(codec.read(KEY, sound[:cut], epoch=EPOCH, now_ms=LOADED_AT_MS), Corruption)
    assert isinstance(codec.read(KEY, sound + b"\0", epoch=EPOCH, now_ms=LOADED_AT_MS), Corruption)


def test_entry_is_corrupt_when_it_is_of_another_key_kind_or_schema(codec: EntryCodec) -> None:
    """An entry answers only where it belongs."""
    sound = value_of(codec).envelope

    other_key = codec.read(EntryKey("zpmeow:{2}:thing", KEY.policy), sound, epoch=EPOCH, now_ms=LOADED_AT_MS)
    other_kind = codec.read(EntryKey(KEY, replace(POLICY, kind=8)), sound, epoch=EPOCH, now_ms=LOADED_AT_MS)
    other_schema = codec.read(EntryKey(KEY, replace(POLICY, schema=2)), sound, epoch=EPOCH, now_ms=LOADED_AT_MS)

    assert (other_key, other_kind, other_schema) == (Corruption.KEY, Corruption.SCHEMA, Corruption.SCHEMA)


def counting_key(decoded: list[bytes]) -> EntryKey:
    """Return the key with a policy that notes what it decodes."""

    def decode(data: bytes) -> object:
        decoded.append(data)
        return json.loads(data)

    return EntryKey(KEY, replace(POLICY, decode=decode))


def test_same_bytes_are_decoded_once_and_judged_each_time(codec: EntryCodec, clock: FakeClock) -> None:
    """What they say never changes; whether that may be served does."""
    decoded: list[bytes] = []
    key = counting_key(decoded)
    data = value_of(codec, key=key).envelope

    assert (
        codec.read(key, data, epoch=EPOCH, now_ms=clock.now_ms)
        == codec.read(key, bytes(bytearray(data)), epoch=EPOCH, now_ms=clock.now_ms)
        == READING
    )
    assert codec.read(key, data, epoch=OTHER_EPOCH, now_ms=clock.now_ms) is None
    clock.now_ms = READING.usable_until_ms
    assert codec.read(key, data, epoch=EPOCH, now_ms=clock.now_ms) is None
    assert decoded == [b'"v"']


def test_fences_crowd_out_no_value(codec: EntryCodec, clock: FakeClock) -> None:
    """After an import there are as many as sessions, and nothing is saved by remembering one."""
    decoded: list[bytes] = []
    key = counting_key(decoded)
    data = value_of(codec, key=key).envelope
    codec.read(key, data, epoch=EPOCH, now_ms=clock.now_ms)

    for number in range(5_000):
        other = EntryKey(f"zpmeow:{{{number}}}:thing", POLICY)
        fence = codec.fence(other, 7, epoch=EPOCH, retire=False).envelope
        assert codec.read(other, fence, epoch=EPOCH, now_ms=clock.now_ms) is None

    assert codec.read(key, data, epoch=EPOCH, now_ms=clock.now_ms) == READING
    assert len(decoded) == 1


def test_large_entries_are_decoded_each_time(codec: EntryCodec) -> None:
    """What is remembered is bounded in bytes, too."""
    decoded: list[bytes] = []
    key = counting_key(decoded)
    data = value_of(codec, Loaded(value="v" * 3000, version=7), key=key).envelope

    assert codec.read(key, data, epoch=EPOCH, now_ms=LOADED_AT_MS) == codec.read(
        key, data, epoch=EPOCH, now_ms=LOADED_AT_MS
    )
    assert len(decoded) == 2


def test_undecodable_entry_of_another_epoch_is_void_and_not_corrupt(codec: EntryCodec) -> None:
    """Nobody looks into what is void."""
    entry = value_of(codec, key=EntryKey(KEY, replace(POLICY, encode=lambda _value: b"not json")))

    assert codec.read(KEY, entry.envelope, epoch=OTHER_EPOCH, now_ms=LOADED_AT_MS) is None
    assert codec.read(KEY, entry.envelope, epoch=EPOCH, now_ms=LOADED_AT_MS) is Corruption.SCHEMA
