"""Where answers were old once: each of these was wrong in a first version, and was found by a review."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import pytest

from tests.unit.cache.cache_bench import (
    EPOCH,
    FRESH_SECONDS,
    HINT,
    JOIN_SECONDS,
    LOCAL_BYTES,
    OTHER_EPOCH,
    A,
    Bench,
    TruthAwayError,
    settle,
)
from zpmeow.cache.coherence import Belief, Coherence
from zpmeow.cache.policy import EntryKey, Loaded, TruthState
from zpmeow.events import LookupOutcome, Tier

SECRET = EntryKey(A, replace(A.policy, stale_seconds=0))


async def test_nothing_past_its_expiry_is_answered_when_the_load_took_long() -> None:
    """A QR code that was fresh when Redis was asked, and has expired while the database did not answer."""
    bench = Bench()
    bench.truth.rows[SECRET] = Loaded(value="qr", version=1, expires_at_ms=bench.now_ms() + 4_000)
    await bench.read(SECRET)
    bench.pass_time(3, feed_lives=False)  # Position current, feed silent, truth state still ANSWERS: it is asked.

    async def slow_failure(_keys: Sequence[EntryKey]) -> Mapping[EntryKey, Loaded]:
        bench.pass_time(2, feed_lives=False)  # DB_TIMEOUT
        raise TruthAwayError

    with pytest.raises(TruthAwayError):
        await bench.cache.get_or_load([SECRET], slow_failure)


@pytest.mark.parametrize("truth", [TruthState.DOWN, TruthState.SILENT])
async def test_nothing_is_answered_from_a_tier_that_was_behind_before_the_truth_went_away(truth: TruthState) -> None:
    """Redis was cut off for ten minutes, the credential was removed meanwhile; Redis comes back, the database goes."""
    bench = Bench()
    bench.truth.rows[SECRET] = Loaded(value="key", version=1)
    policy = replace(SECRET.policy, fresh_seconds=21_600)
    key = EntryKey(SECRET, policy)
    bench.truth.rows[key] = bench.truth.rows[SECRET]
    await bench.read(key)
    bench.pass_time(60, relay_lives=False)
    bench.cache.changed(key.text, 9)  # Told, and forgotten after 30 s.
    bench.pass_time(540, relay_lives=False)
    bench.truth.go_away(truth)

    with pytest.raises(TruthAwayError):
        await bench.read(key, may_be_stale=[])


async def test_floor_holds_as_long_as_the_truth_is_away() -> None:
    """The change was told here, did not reach Redis any more, and 30 s of the outage have passed."""
    bench = Bench()
    key = EntryKey(SECRET, replace(SECRET.policy, fresh_seconds=21_600))
    bench.truth.rows[key] = Loaded(value="key", version=1)
    await bench.read(key)
    bench.cache.changed(key.text, 9)
    bench.truth.go_away(TruthState.DOWN)
    with pytest.raises(TruthAwayError):
        await bench.read(key, may_be_stale=[])
    bench.pass_time(31, feed_lives=False, relay_lives=False)

    with pytest.raises(TruthAwayError):
        await bench.read(key, may_be_stale=[])


async def test_fence_of_the_new_epoch_is_not_replaced_by_a_late_one_of_the_old() -> None:
    """A process that does not know the new epoch yet leaves the wall standing that keeps an old load out."""
    bench = Bench()
    bench.coherence.set_epoch(OTHER_EPOCH)
    bench.place_position(epoch=OTHER_EPOCH)
    mark_ms = bench.now_ms()
    fence = bench.codec.fence(A, 11, epoch=OTHER_EPOCH, retire=False)
    await bench.memory.put_many([fence])  # The relay's.
    late = bench.codec.fence(A, 11, epoch=EPOCH, retire=False)
    await bench.memory.put_many([late])  # remove() of a process that works in the old epoch.
    slow_fill = bench.codec.value(A, Loaded(value="old", version=9), epoch=OTHER_EPOCH, loaded_at_ms=mark_ms)

    await bench.memory.put_many([slow_fill])

    assert bench.memory.stored[A.text] != slow_fill.envelope


async def test_each_local_look_up_of_a_hint_is_counted() -> None:
    """A look-up that finds nothing, or is not made, counts as such: the local hit ratio of hints is a true one."""
    bench = Bench(local_bytes=LOCAL_BYTES)
    await bench.cache.hints.get(HINT)
    bench.pass_time(2, feed_lives=False)
    await bench.cache.hints.get(HINT)

    assert bench.outcomes(Tier.LOCAL) == [LookupOutcome.MISS, LookupOutcome.BYPASS]


async def test_read_is_a_hit_when_its_answer_is_overtaken_by_a_later_one() -> None:
    """Two reads on two connections, the relay writes between them, the second reply is handled first."""
    bench = Bench()
    await bench.read(A)
    first = bench.place_position()
    bench.pass_time(0.005)
    second = bench.memory.stored["zpmeow:position"]

    later, earlier = bench.coherence.judge(second), bench.coherence.judge(first)

    assert (later.reason, earlier.reason) == (None, None)


async def test_nothing_is_counted_when_the_inspector_looks() -> None:
    """What nobody asked for is neither a hit nor a miss."""
    bench = Bench()
    await bench.read(A)
    bench.events.clear()
    await bench.cache.peek_tier(A)
    bench.pass_time(FRESH_SECONDS)
    await bench.cache.peek_tier(A)
    await settle()

    assert bench.outcomes() == []


async def test_read_is_answered_when_the_feed_was_never_opened_and_the_position_is_old() -> None:
    """A feed that cannot connect at all, and a Redis that somebody else kept until a moment ago."""
    bench = Bench()
    fresh = Coherence(floors=bench.floors, now_ms=bench.now_ms, join_seconds=JOIN_SECONDS, monotonic=bench.monotonic)
    fresh.set_epoch(EPOCH)
    data = bench.place_position()
    bench.pass_time(3, feed_lives=False, relay_lives=False)

    assert fresh.judge(data).belief is Belief.DOUBTFUL
