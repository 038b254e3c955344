"""The tiered cache without its local tier: whatever the tier does, the answer is right."""

import asyncio

import pytest

from tests.unit.cache.cache_bench import (
    EPOCH,
    FRESH_SECONDS,
    HINT,
    OTHER_EPOCH,
    A,
    B,
    Bench,
    TruthAwayError,
    settle,
)
from zpmeow.cache.background import BackgroundTasks
from zpmeow.cache.errors import CacheBusy, CacheBypassed, CacheDisabled, CacheError, CacheTimeout, CacheUnavailable
from zpmeow.cache.lookups import Lookups
from zpmeow.cache.policy import Answer, Loaded, Origin, TruthState
from zpmeow.cache.position import POSITION_KEY
from zpmeow.events import CorruptEntryFound, InvalidationSent, LookupOutcome, Tier, ignore


@pytest.fixture
def bench() -> Bench:
    """A fresh bench."""
    return Bench()


async def test_second_read_is_answered_by_the_tier_when_the_value_is_fresh(bench: Bench) -> None:
    """What was loaded once is not loaded again while it is fresh."""
    first = await bench.read(A, B)
    second = await bench.read(A, B)

    assert {key: one.origin for key, one in first.items()} == dict.fromkeys((A, B), Origin.LOAD_AFTER_MISS)
    assert second == {
        A: Answer(value="a", version=1, origin=Origin.TIER),
        B: Answer(value="b", version=2, origin=Origin.TIER),
    }
    assert bench.truth.asked == [[A, B]]
    assert bench.outcomes() == [LookupOutcome.MISS] * 2 + [LookupOutcome.HIT] * 2
    assert bench.outcomes(Tier.LOCAL) == []


async def test_only_what_is_missing_is_loaded_when_the_rest_is_there(bench: Bench) -> None:
    """One round trip for all keys, one load for those that are missing."""
    await bench.read(A)

    answers = await bench.read(A, B)

    assert (answers[A].origin, answers[B].origin) == (Origin.TIER, Origin.LOAD_AFTER_MISS)
    assert bench.truth.asked == [[A], [B]]


async def test_row_is_missing_in_the_answer_when_it_does_not_exist(bench: Bench) -> None:
    """What does not exist is not answered, and not cached in the tier."""
    del bench.truth.rows[A]

    assert await bench.read(A) == {}
    assert bench.stored_entries() == {}


async def test_value_is_loaded_again_when_its_freshness_is_over(bench: Bench) -> None:
    """Freshness ends with the policy's time, and the look-up counts as a miss."""
    await bench.read(A)
    bench.pass_time(FRESH_SECONDS)

    answers = await bench.read(A)

    assert answers[A].origin is Origin.LOAD_AFTER_MISS
    assert bench.outcomes() == [LookupOutcome.MISS] * 2
    assert await bench.origin(A) is Origin.TIER


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (CacheTimeout("timeout"), LookupOutcome.TIMEOUT),
        (CacheUnavailable("refused"), LookupOutcome.ERROR),
        (CacheBusy("busy"), LookupOutcome.ERROR),
        (CacheBypassed("circuit_open"), LookupOutcome.BYPASS),
        (CacheDisabled("disabled"), LookupOutcome.BYPASS),
    ],
)
async def test_read_is_answered_by_the_truth_when_the_tier_fails(
    bench: Bench, error: CacheError, outcome: LookupOutcome
) -> None:
    """No error of the tier reaches the caller; each is counted as what it was."""
    bench.tier.error = error

    answers = await bench.read(A)

    assert answers == {A: Answer(value="a", version=1, origin=Origin.LOAD_AFTER_BYPASS)}
    assert bench.outcomes() == [outcome]


async def test_no_fill_is_sent_when_the_read_was_bypassed(bench: Bench) -> None:
    """While the tier refuses calls, no work is made for it."""
    bench.tier.error = CacheBypassed("circuit_open")

    await bench.read(A)

    assert bench.tier.attempts == 1


async def test_truth_error_is_raised_when_there_is_nothing_to_fall_back_on(bench: Bench) -> None:
    """What the load raises reaches the caller, and the look-up is still counted once."""
    bench.truth.go_away()

    with pytest.raises(TruthAwayError):
        await bench.read(A)

    assert bench.outcomes() == [LookupOutcome.MISS]


@pytest.mark.parametrize("garbage", [b"", b"x", b"x" * 200, b"zpm\x01" + b"\0" * 100])
async def test_corrupt_entry_is_counted_dropped_and_loaded_again_when_it_is_read(bench: Bench, garbage: bytes) -> None:
    """Bytes that are no entry are a miss that is told of, and are gone afterwards."""
    bench.memory.place(A.text, garbage)

    answers = await bench.read(A)

    assert answers[A].value == "a"
    assert bench.outcomes() == [LookupOutcome.CORRUPT]
    assert [event.key for event in bench.events if isinstance(event, CorruptEntryFound)] == [A.text]
    assert await bench.origin(A) is Origin.TIER


async def test_value_is_corrupt_when_it_is_of_another_key(bench: Bench) -> None:
    """A sound entry under a wrong key answers nothing."""
    await bench.read(A, B)
    bench.memory.place(A.text, bench.memory.stored[B.text])

    answers = await bench.read(A)

    assert answers[A].value == "a"
    assert bench.outcomes()[-1] is LookupOutcome.CORRUPT


async def test_key_is_counted_as_corrupt_by_the_fill_when_it_has_a_wrong_type(bench: Bench) -> None:
    """It reads as nothing; the fill that replaces it tells what it was."""
    bench.memory.place(A.text, None)

    await bench.read(A)

    assert bench.outcomes() == [LookupOutcome.MISS, LookupOutcome.CORRUPT]
    assert await bench.origin(A) is Origin.TIER


async def test_corrupt_entry_is_counted_once_when_the_fill_comes_before_its_removal(bench: Bench) -> None:
    """The removal of a large value may be slower than the load: the fill then replaces what was counted already."""

    async def slow_discard(_key: str, _expected: bytes) -> bool:
        await asyncio.Event().wait()
        return False

    bench.tier.discard = slow_discard  # type: ignore[method-assign,assignment]
    bench.memory.place(A.text, b"x" * 200)

    await bench.read(A)
    await bench.cache.close(grace_seconds=0)

    assert bench.outcomes() == [LookupOutcome.CORRUPT]


async def test_entry_is_counted_as_corrupt_again_when_it_is_so_again(bench: Bench) -> None:
    """That it was counted once, and replaced, says nothing of the next time."""
    bench.memory.place(A.text, b"x" * 200)
    await bench.read(A)

    bench.memory.place(A.text, None)  # Of a wrong type: the look-up sees nothing, the fill what it replaces.
    await bench.read(A)

    assert bench.outcomes() == [LookupOutcome.CORRUPT, LookupOutcome.MISS, LookupOutcome.CORRUPT]


async def test_published_value_is_read_from_the_tier_when_it_arrived(bench: Bench) -> None:
    """A write puts its value where readers look first."""
    await bench.cache.publish({A: Loaded(value="new", version=5)}, bench.cache.begin_load())

    assert (await bench.read(A))[A] == Answer(value="new", version=5, origin=Origin.TIER)
    assert InvalidationSent("write", "applied") in bench.events


async def test_published_value_counts_as_applied_when_it_replaced_something_corrupt(bench: Bench) -> None:
    """What stood there before does not matter to the change."""
    bench.memory.place(A.text, b"garbage")

    await bench.cache.publish({A: Loaded(value="new", version=5)}, bench.cache.begin_load())

    assert InvalidationSent("write", "applied") in bench.events


async def test_published_value_is_refused_by_the_tier_when_the_write_took_too_long(bench: Bench) -> None:
    """It may be older than what the tier remembers; the relay brings the change all the same."""
    mark = bench.cache.begin_load()
    bench.pass_time(5.001)

    await bench.cache.publish({A: Loaded(value="new", version=5)}, mark)

    assert bench.stored_entries() == {}
    assert InvalidationSent("write", "refused") in bench.events


async def test_old_entry_is_not_believed_when_the_write_did_not_reach_the_tier(bench: Bench) -> None:
    """Redis comes back with its old data: what this process has written since is not forgotten."""
    await bench.read(A)
    bench.tier.error = CacheTimeout("timeout")
    bench.change(A, "new", 5, told=False)
    await bench.cache.publish({A: Loaded(value="new", version=5)}, bench.cache.begin_load())

    bench.tier.error = None
    answers = await bench.read(A)

    assert answers[A] == Answer(value="new", version=5, origin=Origin.LOAD_AFTER_MISS)
    assert InvalidationSent("write", "failed") in bench.events


async def test_old_entry_is_not_believed_when_the_feed_told_of_a_newer_one(bench: Bench) -> None:
    """The change has not reached Redis yet: for this process the old entry is a miss already."""
    await bench.read(A)

    bench.change(A, "new", 5)
    answers = await bench.read(A)

    assert answers[A] == Answer(value="new", version=5, origin=Origin.LOAD_AFTER_MISS)
    assert bench.outcomes()[-1] is LookupOutcome.MISS
    assert bench.cache.knows_newer(A, 4)
    assert not bench.cache.knows_newer(A, 5)


async def test_nothing_is_sent_or_told_when_the_cache_is_disabled(bench: Bench) -> None:
    """The no-op cache has no changes that fail."""
    bench.tier.error = CacheDisabled("disabled")

    await bench.cache.publish({A: Loaded(value="new", version=5)}, bench.cache.begin_load())

    assert [event for event in bench.events if isinstance(event, InvalidationSent)] == []


async def test_nothing_is_written_or_believed_when_the_epoch_is_not_known() -> None:
    """Without an epoch every read is loaded, and the tier is not even asked."""
    bench = Bench()
    bench.coherence._epoch = None
    mark = bench.cache.begin_load()

    answers = await bench.read(A)
    await bench.cache.publish({A: Loaded(value="new", version=5)}, mark)
    await bench.cache.remove([A], 6)
    await bench.cache.retire({A: 6})
    bench.cache.fill({A: Loaded(value="new", version=6)}, mark)
    await settle()

    assert answers[A].origin is Origin.LOAD_AFTER_BYPASS
    assert bench.outcomes() == [LookupOutcome.BYPASS]
    assert bench.tier.attempts == 0


async def test_entries_are_void_when_they_are_of_another_epoch(bench: Bench) -> None:
    """After a new epoch everything is loaded anew, and can be cached again."""
    await bench.read(A)

    bench.coherence.set_epoch(OTHER_EPOCH)
    between = await bench.origin(A)
    bench.place_position(epoch=OTHER_EPOCH)

    assert between is Origin.LOAD_AFTER_BYPASS
    assert await bench.origin(A) is Origin.LOAD_AFTER_MISS
    assert await bench.origin(A) is Origin.TIER


async def test_fill_is_not_sent_when_the_epoch_changed_while_it_was_loaded(bench: Bench) -> None:
    """What was loaded in one epoch means nothing in the next."""
    release = bench.truth.hold()
    reading = bench.begin_read(A)
    await settle()
    bench.coherence.set_epoch(OTHER_EPOCH)
    bench.place_position(epoch=OTHER_EPOCH)

    release.set()
    await reading
    await settle()

    assert bench.stored_entries() == {}


async def test_value_is_loaded_again_and_may_come_back_when_it_was_retired(bench: Bench) -> None:
    """An operator's hand empties the entry; the same version may fill it again."""
    await bench.read(A)

    await bench.cache.retire({A: 1})

    assert await bench.origin(A) is Origin.LOAD_AFTER_MISS
    assert await bench.origin(A) is Origin.TIER
    assert InvalidationSent("operator", "applied") in bench.events


async def test_writer_leaves_its_change_known_when_it_is_cancelled(bench: Bench) -> None:
    """A caller that goes away in the midst of the put loses nothing."""
    bench.slow.hang()
    mark = bench.cache.begin_load()
    writer = asyncio.create_task(bench.cache.publish({A: Loaded(value="new", version=5)}, mark))
    await settle()

    writer.cancel()
    with pytest.raises(asyncio.CancelledError):
        await writer

    assert bench.cache.knows_newer(A, 4)


async def test_warm_counts_what_the_tier_took_when_it_was_sent(bench: Bench) -> None:
    """Warming tells how many entries arrived, and that none did."""
    values = dict(bench.truth.rows)

    taken = await bench.cache.warm(values, bench.cache.begin_load())
    bench.tier.error = CacheUnavailable("refused")
    while_away = await bench.cache.warm(values, bench.cache.begin_load())

    assert (taken, while_away) == (2, 0)


async def test_warm_counts_none_when_the_tier_refuses_values(bench: Bench) -> None:
    """Without a position nothing can be taken."""
    bench.memory.stored.pop(POSITION_KEY)

    assert await bench.cache.warm(dict(bench.truth.rows), bench.cache.begin_load()) == 0


async def test_slow_fill_is_not_sent_when_a_newer_version_is_known_and_the_tier_has_lost_it(bench: Bench) -> None:
    """Redis was emptied after the change was applied: its own comparison cannot refuse the old value."""
    mark = bench.cache.begin_load()
    bench.change(A, "new", 9)

    bench.cache.fill({A: Loaded(value="a", version=1)}, mark)
    await settle()

    assert bench.stored_entries() == {}


async def test_fill_does_not_replace_when_a_newer_version_stands_in_the_tier(bench: Bench) -> None:
    """Nobody told this process of the change, but the tier knows."""
    mark = bench.cache.begin_load()
    newer = bench.codec.value(A, Loaded(value="new", version=9), epoch=EPOCH, loaded_at_ms=bench.now_ms())
    await bench.memory.put_many([newer])

    bench.cache.fill({A: Loaded(value="a", version=1)}, mark)
    await settle()

    assert bench.memory.stored[A.text] == newer.envelope


async def test_tier_is_not_believed_when_floors_were_dropped_that_are_still_needed() -> None:
    """More changes in a while than floors can be kept: until they have aged, every read is loaded."""
    bench = Bench(max_floors=1)
    await bench.read(A, B)
    bench.cache.changed(A.text, 1)
    bench.cache.changed(B.text, 2)
    overflown = await bench.origin(B)

    bench.pass_time(30)

    assert overflown is Origin.LOAD_AFTER_BYPASS
    assert await bench.origin(B) is Origin.TIER


@pytest.mark.parametrize("silent_seconds", [1.001, 600.0])
async def test_tier_is_not_believed_when_the_feed_is_silent(bench: Bench, silent_seconds: float) -> None:
    """While the database answers, nothing cached is as good as asking it."""
    await bench.read(A)

    bench.pass_time(silent_seconds, feed_lives=False)

    assert await bench.origin(A) is Origin.LOAD_AFTER_BYPASS
    assert bench.outcomes()[-1] is LookupOutcome.BYPASS


async def test_tier_is_not_believed_when_it_was_set_back(bench: Bench) -> None:
    """A server that lost its last seconds has lost changes, too; it is believed when it has caught up."""
    before = bench.place_position()
    await bench.read(A)
    bench.pass_time(2)
    await bench.read(A)

    bench.memory.place(POSITION_KEY, before)
    set_back = await bench.origin(A)
    bench.place_position()

    assert set_back is Origin.LOAD_AFTER_BYPASS
    assert await bench.origin(A) is Origin.TIER


async def test_tier_is_not_believed_when_its_position_is_gone(bench: Bench) -> None:
    """Entries without a position are of any age."""
    await bench.read(A)

    bench.memory.stored.pop(POSITION_KEY)

    assert await bench.origin(A) is Origin.LOAD_AFTER_BYPASS


async def test_tier_is_believed_when_its_position_is_behind_but_every_change_since_is_known(bench: Bench) -> None:
    """A relay that stands still for some seconds costs nothing: floors cover what the tier has not seen."""
    await bench.read(A, B)

    bench.pass_time(15, relay_lives=False)
    bench.change(B, "new", 9)
    answers = await bench.read(A, B)

    assert (answers[A].origin, answers[B].origin) == (Origin.TIER, Origin.LOAD_AFTER_MISS)


async def test_peeks_tell_the_version_that_would_be_answered_when_nothing_is_counted_on(bench: Bench) -> None:
    """The tier's version while it is believed and fresh, the local one where there is a local tier."""
    nothing = await bench.cache.peek_tier(A)
    await bench.read(A)
    stored = await bench.cache.peek_tier(A)
    bench.change(A, "new", 5)

    assert (nothing, stored) == (None, 1)
    assert await bench.cache.peek_tier(A) is None
    assert bench.cache.peek(A) is None


async def test_hints_are_left_alone_when_entries_change(bench: Bench) -> None:
    """A hint is no entry: it is only dropped under its own key."""
    bench.cache.hints.put(HINT, b"one")
    await settle()

    bench.cache.changed(A.text, 99)

    assert (await bench.cache.hints.get(HINT)).text == b"one"


async def test_load_goes_on_and_fills_when_its_only_caller_goes_away(bench: Bench) -> None:
    """The work is not thrown away, and close waits for it."""
    release = bench.truth.hold()
    reading = bench.begin_read(A)
    await settle()
    reading.cancel()
    await settle()

    release.set()
    await bench.cache.close(grace_seconds=1)

    assert list(bench.stored_entries()) == [A.text]


@pytest.mark.parametrize(
    ("error", "was_asked"),
    [
        (None, True),
        (CacheTimeout("timeout"), True),
        (CacheUnavailable("away"), True),
        (CacheBypassed("circuit_open"), False),
        (CacheDisabled("disabled"), False),
    ],
)
async def test_look_up_tells_whether_the_tier_was_asked(
    bench: Bench, error: CacheError | None, *, was_asked: bool
) -> None:
    """Only while it is, somebody can be on his way to a load that has landed meanwhile."""
    bench.tier.error = error
    lookups = Lookups(
        tier=bench.tier,
        codec=bench.codec,
        coherence=bench.coherence,
        now_ms=bench.now_ms,
        truth_state=lambda: TruthState.ANSWERS,
        grace_seconds=1.0,
        background=BackgroundTasks(observer=ignore, expected=CacheError),
        observer=ignore,
    )

    assert (await lookups.look_up([A])).was_asked is was_asked
