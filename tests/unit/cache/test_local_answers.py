"""The tiered cache with its local tier: answers in a microsecond, none of them older than what is known."""

import asyncio

import pytest

from tests.unit.cache.cache_bench import LOCAL_BYTES, LOCAL_TTL_SECONDS, OTHER_EPOCH, A, B, Bench, settle
from zpmeow.cache.errors import CacheUnavailable
from zpmeow.cache.policy import Answer, Loaded, Origin
from zpmeow.events import LookupOutcome, Tier


@pytest.fixture
def bench() -> Bench:
    """A fresh bench with a local tier."""
    return Bench(local_bytes=LOCAL_BYTES)


async def test_read_is_answered_here_when_the_value_was_read_before(bench: Bench) -> None:
    """Neither the tier nor the truth is asked."""
    await bench.read(A)
    attempts = bench.tier.attempts

    answers = await bench.read(A)

    assert answers == {A: Answer(value="a", version=1, origin=Origin.LOCAL)}
    assert bench.tier.attempts == attempts
    assert bench.truth.asked == [[A]]


async def test_value_is_kept_here_when_the_tier_answered(bench: Bench) -> None:
    """A hit in Redis answers the next read from memory."""
    await bench.read(A)
    bench.cache.begin_anew()

    origins = [await bench.origin(A), await bench.origin(A)]

    assert origins == [Origin.TIER, Origin.LOCAL]


async def test_only_the_rest_is_asked_for_when_some_is_kept_here(bench: Bench) -> None:
    """A read of several keys takes each from the nearest place."""
    await bench.read(A)

    answers = await bench.read(A, B)

    assert (answers[A].origin, answers[B].origin) == (Origin.LOCAL, Origin.LOAD_AFTER_MISS)


async def test_each_look_up_is_counted_once_when_tiers_are_asked_in_turn(bench: Bench) -> None:
    """A miss here and a miss there, then a hit here; a silent feed is a bypass of both."""
    await bench.read(A)
    await bench.read(A)
    bench.pass_time(2, feed_lives=False)
    await bench.read(A)

    assert bench.outcomes(Tier.LOCAL) == [LookupOutcome.MISS, LookupOutcome.HIT, LookupOutcome.BYPASS]
    assert bench.outcomes(Tier.REDIS) == [LookupOutcome.MISS, LookupOutcome.BYPASS]


async def test_value_is_asked_for_again_when_its_time_here_is_over(bench: Bench) -> None:
    """The local time bounds how old an answer can be, whatever fails."""
    await bench.read(A)

    bench.pass_time(LOCAL_TTL_SECONDS)

    assert await bench.origin(A) is Origin.TIER


async def test_value_ends_here_with_its_freshness_when_that_is_sooner(bench: Bench) -> None:
    """A value with an expiry of its own is not answered from memory at or after it, from whatever it was kept."""
    ends_at_ms = bench.now_ms() + 2_000
    bench.truth.rows[A] = Loaded(value="a", version=1, expires_at_ms=ends_at_ms)
    bench.truth.rows[B] = Loaded(value="b", version=2, expires_at_ms=ends_at_ms)
    await bench.read(A, B)
    bench.local.drop(B.text)
    await bench.read(B)

    bench.pass_time(1.999)
    before = await bench.read(A, B)
    bench.pass_time(0.001)
    after = await bench.read(A, B)

    assert {one.origin for one in before.values()} == {Origin.LOCAL}
    assert {one.origin for one in after.values()} == {Origin.LOAD_AFTER_MISS}


async def test_memory_is_not_used_when_the_feed_is_silent(bench: Bench) -> None:
    """Somebody may have changed the value, and nobody could tell."""
    await bench.read(A)
    bench.change(A, "new", 5, told=False)

    bench.pass_time(1.001, feed_lives=False)
    answers = await bench.read(A)

    assert answers[A] == Answer(value="new", version=5, origin=Origin.LOAD_AFTER_BYPASS)
    assert bench.cache.peek(A) is None


async def test_memory_is_not_used_when_an_operator_bypasses_the_cache(bench: Bench) -> None:
    """Nothing kept is answered; after the bypass this process begins anew."""
    await bench.read(A)

    bench.coherence.bypassed = True
    bypassed = bench.cache.peek(A)
    await bench.read(A)
    bench.coherence.bypassed = False
    bench.cache.begin_anew()

    assert bypassed is None
    assert bench.outcomes(Tier.LOCAL)[-1] is LookupOutcome.BYPASS
    assert bench.cache.peek(A) is None


async def test_kept_value_is_dropped_when_the_feed_tells_of_a_newer_one(bench: Bench) -> None:
    """The next read does not answer the old value, from here or from Redis."""
    await bench.read(A)

    bench.change(A, "new", 5)
    answers = await bench.read(A)

    assert answers[A] == Answer(value="new", version=5, origin=Origin.LOAD_AFTER_MISS)


async def test_kept_value_stays_when_the_feed_tells_of_what_it_has(bench: Bench) -> None:
    """The word of a change that was read already, or of an older one, costs nothing."""
    bench.change(A, "new", 5)
    await bench.read(A)

    bench.cache.changed(A.text, 5)
    bench.cache.changed(A.text, 3)

    assert await bench.origin(A) is Origin.LOCAL


async def test_redis_hit_is_neither_answered_nor_kept_when_a_newer_change_is_told_meanwhile(bench: Bench) -> None:
    """The read reached Redis before the change did. Without this, 24 of 50 hot keys stayed old for good."""
    await bench.read(A)
    bench.cache.begin_anew()
    bench.slow.hang()
    reading = bench.begin_read(A)
    await settle()

    bench.change(A, "new", 5)
    bench.slow.resume()
    answers = await reading
    await settle()

    assert answers[A] == Answer(value="new", version=5, origin=Origin.LOAD_AFTER_MISS)
    assert bench.cache.peek(A) == 5


async def test_redis_hit_is_not_kept_when_it_was_asked_for_before_the_feed_opened(bench: Bench) -> None:
    """What was changed in the gap is in no floor; the answer itself is as good as the question's moment."""
    await bench.read(A)
    bench.cache.begin_anew()
    bench.slow.hang()
    reading = bench.begin_read(A)
    await settle()
    bench.pass_time(0.5)
    bench.open_feed()
    bench.cache.begin_anew()
    bench.place_position()

    bench.slow.resume()
    await reading
    await settle()

    assert bench.cache.peek(A) is None


async def test_load_is_not_kept_when_it_began_before_the_gap_of_the_feed(bench: Bench) -> None:
    """A change between its beginning and the new feed was told to nobody here."""
    release = bench.truth.hold()
    reading = bench.begin_read(A)
    await settle()
    bench.coherence.feed_lost()
    bench.change(A, "new", 5, told=False)
    bench.pass_time(0.5)
    bench.open_feed()
    bench.cache.begin_anew()

    release.set()
    await reading
    await settle()

    assert bench.cache.peek(A) is None


async def test_load_is_not_joined_when_it_began_before_the_gap_of_the_feed(bench: Bench) -> None:
    """A reader that comes after the gap asks anew."""
    release = bench.truth.hold()
    early = bench.begin_read(A)
    await settle()
    bench.change(A, "new", 5, told=False)
    bench.pass_time(0.1)
    bench.open_feed()
    bench.cache.begin_anew()

    late = bench.begin_read(A)
    await settle()
    release.set()
    await early

    assert (await late)[A].value == "new"
    assert bench.truth.asked == [[A], [A]]


async def test_load_is_not_kept_when_the_epoch_changed_meanwhile(bench: Bench) -> None:
    """Versions of two epochs cannot be compared."""
    release = bench.truth.hold()
    reading = bench.begin_read(A)
    await settle()
    bench.coherence.set_epoch(OTHER_EPOCH)
    bench.cache.begin_anew()

    release.set()
    await reading
    await settle()

    assert bench.cache.peek(A) is None


async def test_everything_is_asked_for_again_when_the_cache_begins_anew(bench: Bench) -> None:
    """Memory is empty afterwards."""
    await bench.read(A, B)

    bench.cache.begin_anew()

    assert (bench.cache.peek(A), bench.cache.peek(B), len(bench.local)) == (None, None, 0)


async def test_own_write_is_seen_at_once_and_kept_when_it_is_published(bench: Bench) -> None:
    """Whoever wrote reads its value from memory, though Redis did not take it."""
    await bench.read(A)
    bench.tier.error = CacheUnavailable("refused")

    await bench.cache.publish({A: Loaded(value="new", version=5)}, bench.cache.begin_load())

    assert await bench.read(A) == {A: Answer(value="new", version=5, origin=Origin.LOCAL)}
    assert bench.truth.asked == [[A]]


async def test_own_write_is_seen_while_it_is_still_on_its_way_to_redis_when_redis_hangs(bench: Bench) -> None:
    """A second caller that was told of the write by other means does not read the past."""
    await bench.read(A)
    bench.slow.hang()
    writing = asyncio.create_task(bench.cache.publish({A: Loaded(value="new", version=5)}, bench.cache.begin_load()))
    await settle()

    answers = await bench.read(A)
    bench.slow.resume()
    await writing

    assert answers[A].value == "new"


async def test_own_write_is_not_kept_when_a_newer_change_is_known(bench: Bench) -> None:
    """Somebody was quicker: what is answered is the newer one."""
    mark = bench.cache.begin_load()
    bench.change(A, "newest", 6)

    await bench.cache.publish({A: Loaded(value="new", version=5)}, mark)

    assert bench.cache.peek(A) is None
    assert (await bench.read(A))[A].value == "newest"


async def test_own_write_is_not_kept_when_its_mark_is_from_before_the_feed(bench: Bench) -> None:
    """A change after it may have been told to nobody here."""
    mark = bench.cache.begin_load()
    bench.pass_time(0.5)
    bench.open_feed()

    await bench.cache.publish({A: Loaded(value="new", version=5)}, mark)

    assert bench.cache.peek(A) is None


async def test_own_write_is_not_kept_when_it_took_longer_than_floors_are_kept(bench: Bench) -> None:
    """A newer change may be forgotten already."""
    mark = bench.cache.begin_load()
    bench.pass_time(20.001)

    await bench.cache.publish({A: Loaded(value="new", version=5)}, mark)

    assert bench.cache.peek(A) is None


async def test_own_write_is_not_answered_from_memory_when_the_feed_was_silent(bench: Bench) -> None:
    """It is not kept in the first place: others may have changed it since."""
    bench.pass_time(2, feed_lives=False)

    await bench.cache.publish({A: Loaded(value="new", version=5)}, bench.cache.begin_load())
    bench.hear_feed()

    assert bench.cache.peek(A) is None


async def test_removed_value_is_not_answered_when_it_was_kept_here(bench: Bench) -> None:
    """A removal by this process is seen by its next read."""
    await bench.read(A)
    del bench.truth.rows[A]

    await bench.cache.remove([A], 9)

    assert await bench.read(A) == {}


async def test_retired_value_is_asked_for_again_when_it_was_kept_here(bench: Bench) -> None:
    """An operator's hand reaches the memory of this process too."""
    await bench.read(A)

    await bench.cache.retire({A: 1})

    assert await bench.origin(A) is Origin.LOAD_AFTER_MISS


async def test_absence_is_answered_from_memory_for_a_second_when_nothing_was_found(bench: Bench) -> None:
    """Asking again and again for what does not exist costs the database one question a second."""
    del bench.truth.rows[A]

    for passed in (0.0, 0.999, 0.001):
        bench.pass_time(passed)
        assert await bench.read(A) == {}

    assert bench.truth.asked == [[A], [A]]
    assert bench.cache.peek(A) is None


async def test_absence_is_dropped_when_the_row_is_made(bench: Bench) -> None:
    """What was just made is found at once, though its version says nothing."""
    del bench.truth.rows[A]
    await bench.read(A)

    bench.change(A, "made", 5)

    assert (await bench.read(A))[A].value == "made"


async def test_absence_is_not_kept_when_the_row_was_made_while_it_was_loaded(bench: Bench) -> None:
    """The load looked before the row was there."""
    del bench.truth.rows[A]
    release = bench.truth.hold()
    reading = bench.begin_read(A)
    await settle()
    bench.change(A, "made", 5)

    release.set()
    await reading
    await settle()

    assert (await bench.read(A))[A].value == "made"


async def test_absence_is_not_kept_when_the_load_began_before_the_feed(bench: Bench) -> None:
    """What was made in the gap is in no floor."""
    del bench.truth.rows[A]
    release = bench.truth.hold()
    reading = bench.begin_read(A)
    await settle()
    bench.pass_time(0.5)
    bench.open_feed()
    bench.change(A, "made", 5, told=False)

    release.set()
    await reading
    await settle()

    assert (await bench.read(A))[A].value == "made"


async def test_nothing_is_kept_when_the_local_tier_is_off() -> None:
    """With no bytes to spare every read asks Redis, and no local look-up is counted."""
    bench = Bench(local_bytes=0)
    await bench.read(A)

    origins = [await bench.origin(A), await bench.origin(A)]

    assert origins == [Origin.TIER, Origin.TIER]
    assert bench.outcomes(Tier.LOCAL) == []
