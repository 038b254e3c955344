"""The tiered cache: whatever the tier does, the answer is right; whatever is known, nothing older is answered."""

import asyncio
import json
from collections.abc import Mapping, Sequence

import pytest

from tests.fakes.failing_tier import FailingTier
from tests.fakes.memory_tier import MemoryTier
from zpmeow.cache.change_publisher import ChangePublisher
from zpmeow.cache.entry_codec import EntryCodec
from zpmeow.cache.errors import CacheBusy, CacheBypassed, CacheDisabled, CacheError, CacheTimeout, CacheUnavailable
from zpmeow.cache.floors import Floors
from zpmeow.cache.policy import Answer, EntryKey, EntryPolicy, HintKey, HintPolicy, Loaded, Origin
from zpmeow.cache.tiered_cache import TieredCache
from zpmeow.cache.unsent import UnsentChanges
from zpmeow.events import CacheLookedUp, CorruptEntryFound, Event, InvalidationSent, LookupOutcome

POLICY = EntryPolicy(
    entity="thing",
    kind=9,
    schema=1,
    fresh_seconds=60,
    stale_seconds=3600,
    encode=lambda value: json.dumps(value).encode(),
    decode=json.loads,
)
A = EntryKey("zpmeow:{1}:a", POLICY)
B = EntryKey("zpmeow:{1}:b", POLICY)
HINT = HintKey("zpmeow:name:x", HintPolicy(entity="name", lifetime_seconds=60))


class TruthAwayError(Exception):
    """The source of truth cannot answer."""


class Truth:
    """Rows with versions, how often they were asked for, and an error when it is away."""

    def __init__(self) -> None:
        """Hold two rows."""
        self.rows: dict[EntryKey, Loaded] = {A: Loaded(value="a", version=1), B: Loaded(value="b", version=2)}
        self.asked: list[list[EntryKey]] = []
        self.error: Exception | None = None
        self.release: asyncio.Event | None = None

    async def load(self, keys: Sequence[EntryKey], /) -> Mapping[EntryKey, Loaded]:
        """Read the rows as they are when the load begins; hand them out when released."""
        self.asked.append(list(keys))
        rows = {key: self.rows[key] for key in keys if key in self.rows}
        if self.release is not None:
            await self.release.wait()
        if self.error is not None:
            raise self.error
        return rows


class Bench:
    """A cache over a memory tier that can be told to fail, with its clock, its truth and what it reported."""

    def __init__(self, *, max_unsent: int = 100, max_floors: int = 100) -> None:
        """Wire it up in an epoch."""
        self.now_ms = 1_000_000
        self.events: list[Event] = []
        self.memory = MemoryTier()
        self.tier = FailingTier(self.memory)
        self.truth = Truth()
        self.codec = EntryCodec(now_ms=lambda: self.now_ms)
        self.publisher = ChangePublisher(
            tier=self.tier,
            observer=self.events.append,
            floors=Floors(max_floors=max_floors),
            unsent=UnsentChanges(max_unsent=max_unsent),
        )
        self.cache = TieredCache(
            tier=self.tier,
            codec=self.codec,
            publisher=self.publisher,
            now_ms=lambda: self.now_ms,
            unavailable=TruthAwayError,
            observer=self.events.append,
        )
        self.cache.set_epoch(b"e" * 16)

    async def read(self, *keys: EntryKey) -> dict[EntryKey, Answer]:
        """Read the keys and let fills end."""
        answers = await self.cache.get_or_load(keys, self.truth.load, may_be_stale=keys)
        await self.settle()
        return answers

    async def settle(self) -> None:
        """Let background work end."""
        for _ in range(10):
            await asyncio.sleep(0)

    def outcomes(self) -> list[LookupOutcome]:
        """Return how the look-ups ended so far."""
        return [event.outcome for event in self.events if isinstance(event, CacheLookedUp)]


@pytest.fixture
def bench() -> Bench:
    """A fresh bench."""
    return Bench()


async def test_second_read_is_answered_by_the_tier(bench: Bench) -> None:
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


async def test_only_what_is_missing_is_loaded(bench: Bench) -> None:
    """One round trip for all keys, one load for those that are missing."""
    await bench.read(A)

    answers = await bench.read(A, B)

    assert (answers[A].origin, answers[B].origin) == (Origin.TIER, Origin.LOAD_AFTER_MISS)
    assert bench.truth.asked == [[A], [B]]


async def test_absent_row_is_missing_in_the_answer(bench: Bench) -> None:
    """What does not exist is not answered, and not cached."""
    del bench.truth.rows[A]

    assert await bench.read(A) == {}
    assert bench.memory.stored == {}


async def test_expired_value_is_loaded_again_and_counts_as_miss(bench: Bench) -> None:
    """Freshness ends with the policy's time."""
    await bench.read(A)
    bench.now_ms += 60_000

    answers = await bench.read(A)

    assert answers[A].origin is Origin.LOAD_AFTER_MISS
    assert bench.outcomes() == [LookupOutcome.MISS] * 2
    assert (await bench.read(A))[A].origin is Origin.TIER


async def test_expired_value_is_served_as_stale_when_the_truth_is_away(bench: Bench) -> None:
    """Better an old answer, marked, than none, where the caller allows it."""
    await bench.read(A)
    bench.now_ms += 60_000
    bench.truth.error = TruthAwayError()

    answers = await bench.read(A)

    assert answers == {A: Answer(value="a", version=1, origin=Origin.STALE)}
    assert bench.outcomes()[-1] is LookupOutcome.STALE


async def test_nothing_is_served_stale_when_the_caller_forbids_it(bench: Bench) -> None:
    """Without permission for every key that is missing, the truth's error is raised."""
    await bench.read(A, B)
    bench.now_ms += 60_000
    bench.truth.error = TruthAwayError()

    with pytest.raises(TruthAwayError):
        await bench.cache.get_or_load([A, B], bench.truth.load, may_be_stale=[A])


async def test_fresh_value_is_served_when_the_truth_is_away(bench: Bench) -> None:
    """The truth is not even asked."""
    await bench.read(A)
    bench.truth.error = TruthAwayError()

    assert (await bench.read(A))[A].origin is Origin.TIER


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
async def test_read_is_answered_by_the_truth_whatever_the_tier_raises(
    bench: Bench, error: CacheError, outcome: LookupOutcome
) -> None:
    """No error of the tier reaches the caller; each is counted as what it was."""
    bench.tier.error = error

    answers = await bench.read(A)

    assert answers == {A: Answer(value="a", version=1, origin=Origin.LOAD_AFTER_BYPASS)}
    assert bench.outcomes() == [outcome]


async def test_bypassed_read_sends_no_fill(bench: Bench) -> None:
    """While the tier refuses calls, no work is made for it."""
    bench.tier.error = CacheBypassed("circuit_open")

    await bench.read(A)

    assert bench.tier.attempts == 1


@pytest.mark.parametrize("garbage", [b"", b"x", b"x" * 200, b"zpm\x01" + b"\0" * 100])
async def test_corrupt_entry_is_counted_dropped_and_loaded_again(bench: Bench, garbage: bytes) -> None:
    """Bytes that are no entry are a miss that is told of, and are gone afterwards."""
    bench.memory.place(A.text, garbage)

    answers = await bench.read(A)

    assert answers[A].value == "a"
    assert bench.outcomes() == [LookupOutcome.CORRUPT]
    assert [event.key for event in bench.events if isinstance(event, CorruptEntryFound)] == [A.text]
    assert (await bench.read(A))[A].origin is Origin.TIER


async def test_value_of_another_key_is_corrupt(bench: Bench) -> None:
    """A sound entry under a wrong key answers nothing."""
    await bench.read(A, B)
    bench.memory.place(A.text, bench.memory.stored[B.text])

    answers = await bench.read(A)

    assert answers[A].value == "a"
    assert bench.outcomes()[-1] is LookupOutcome.CORRUPT


async def test_key_of_a_wrong_type_is_counted_by_the_fill(bench: Bench) -> None:
    """It reads as nothing; the fill that replaces it tells what it was."""
    bench.memory.place(A.text, None)

    await bench.read(A)

    assert bench.outcomes() == [LookupOutcome.MISS, LookupOutcome.CORRUPT]
    assert (await bench.read(A))[A].origin is Origin.TIER


async def test_published_value_is_read_from_the_tier(bench: Bench) -> None:
    """A write puts its value where readers look first."""
    await bench.cache.publish({A: Loaded(value="new", version=5)})

    assert (await bench.read(A))[A] == Answer(value="new", version=5, origin=Origin.TIER)
    assert InvalidationSent("write", "applied") in bench.events


async def test_old_entry_is_not_believed_when_the_write_did_not_reach_the_tier(bench: Bench) -> None:
    """Redis comes back with its old data: what this process has written since is not forgotten."""
    await bench.read(A)
    bench.tier.error = CacheTimeout("timeout")
    bench.truth.rows[A] = Loaded(value="new", version=5)
    await bench.cache.publish({A: Loaded(value="new", version=5)})

    bench.tier.error = None
    answers = await bench.read(A)

    assert answers[A] == Answer(value="new", version=5, origin=Origin.LOAD_AFTER_MISS)
    assert InvalidationSent("write", "failed") in bench.events


async def test_unsent_change_is_not_forgotten_with_its_floor(bench: Bench) -> None:
    """However long the outage, the old entry stays unbelievable until the tier has the new one."""
    time = 0.0
    bench.publisher = ChangePublisher(
        tier=bench.tier, observer=bench.events.append, floors=Floors(monotonic=lambda: time), unsent=UnsentChanges()
    )
    bench.tier.error = CacheTimeout("timeout")
    await bench.publisher.send([bench.codec.fence(A, 5, retire=False)], source="write")

    time = 1e6

    assert not bench.publisher.allows(A.text, 4)
    bench.tier.error = None
    await bench.publisher.flush()
    assert bench.publisher.allows(A.text, 4)
    assert bench.publisher.unsent_count == 0


async def test_removed_value_is_not_answered_though_a_slow_fill_comes_late(bench: Bench) -> None:
    """A reader that loaded before the removal cannot bring the value back, for itself or for others."""
    bench.truth.release = asyncio.Event()
    slow = asyncio.create_task(bench.cache.get_or_load([A], bench.truth.load))
    await bench.settle()
    del bench.truth.rows[A]
    await bench.cache.remove([A], 9)

    bench.truth.release.set()
    answers = await slow
    await bench.settle()

    assert answers == {}
    assert await bench.read(A) == {}


async def test_reader_after_a_write_does_not_take_the_load_that_began_before_it(bench: Bench) -> None:
    """Joining a load under way must not mean reading the past."""
    bench.truth.release = asyncio.Event()
    early = asyncio.create_task(bench.cache.get_or_load([A], bench.truth.load))
    await bench.settle()
    bench.truth.rows[A] = Loaded(value="new", version=5)
    bench.tier.error = CacheUnavailable("refused")
    await bench.cache.publish({A: Loaded(value="new", version=5)})

    late = asyncio.create_task(bench.cache.get_or_load([A], bench.truth.load))
    await bench.settle()
    bench.truth.release.set()

    assert (await late)[A].value == "new"
    assert (await early)[A].value == "new"


async def test_nothing_is_written_or_believed_before_the_epoch_is_known(bench: Bench) -> None:
    """Without an epoch every read is loaded."""
    bench.codec.epoch = None

    answers = await bench.read(A)
    await bench.cache.publish({A: Loaded(value="new", version=5)})

    assert answers[A].origin is Origin.LOAD_AFTER_BYPASS
    assert bench.tier.attempts == 0


async def test_entries_of_another_epoch_are_void(bench: Bench) -> None:
    """After a new epoch everything is loaded anew."""
    await bench.read(A)

    bench.cache.set_epoch(b"f" * 16)

    assert (await bench.read(A))[A].origin is Origin.LOAD_AFTER_MISS
    assert (await bench.read(A))[A].origin is Origin.TIER


async def test_change_noted_before_this_process_learns_of_a_new_epoch_still_reaches_the_tier(bench: Bench) -> None:
    """Another process works in the new epoch already and has filled what is changed here: that fill must go."""
    late = Bench()
    late.tier.error = CacheTimeout("timeout")
    bench.cache.set_epoch(b"f" * 16)
    await bench.read(A)
    await late.cache.publish({A: Loaded(value="changed", version=99)})

    late.cache.set_epoch(b"f" * 16)
    await late.publisher.flush(bench.memory)

    assert (await bench.read(A))[A].origin is Origin.LOAD_AFTER_MISS


async def test_tier_is_not_believed_when_changes_were_lost() -> None:
    """More unsent changes than can be remembered end the trust, until a new epoch."""
    bench = Bench(max_unsent=1)
    await bench.read(A)
    bench.tier.error = CacheTimeout("timeout")
    await bench.cache.publish({A: Loaded(value="a", version=1), B: Loaded(value="b", version=2)})
    bench.tier.error = None

    before = (await bench.read(A))[A].origin
    lost = bench.publisher.lost_changes
    bench.cache.set_epoch(b"f" * 16)

    assert (before, lost) == (Origin.LOAD_AFTER_BYPASS, True)
    assert not bench.publisher.lost_changes
    assert (await bench.read(A))[A].origin is Origin.LOAD_AFTER_MISS


async def test_nothing_is_kept_for_a_cache_that_is_disabled(bench: Bench) -> None:
    """The no-op cache does not fill the memory with changes that will never be sent."""
    bench.tier.error = CacheDisabled("disabled")

    await bench.cache.publish({A: Loaded(value="new", version=5)})

    assert bench.publisher.unsent_count == 0


async def test_retired_value_is_loaded_again_and_may_come_back(bench: Bench) -> None:
    """An operator's hand empties the entry; the same version may fill it again."""
    await bench.read(A)

    await bench.cache.retire({A: 1})

    assert (await bench.read(A))[A].origin is Origin.LOAD_AFTER_MISS
    assert (await bench.read(A))[A].origin is Origin.TIER


async def test_cancelled_writer_leaves_its_change_noted(bench: Bench) -> None:
    """A caller that goes away in the midst of the put loses nothing."""

    async def hang(_writes: object) -> list[object]:
        await asyncio.Event().wait()
        return []

    bench.tier.put_many = hang  # type: ignore[method-assign,assignment]
    writer = asyncio.create_task(bench.cache.publish({A: Loaded(value="new", version=5)}))
    await bench.settle()

    writer.cancel()
    with pytest.raises(asyncio.CancelledError):
        await writer

    assert bench.publisher.unsent_count == 1
    assert bench.cache.knows_newer(A, 4)


async def test_hint_is_read_back_and_discarded_only_if_unchanged(bench: Bench) -> None:
    """A wrong hint goes, a right one that took its place stays."""
    bench.cache.put_hint(HINT, b"one")
    await bench.settle()
    first = await bench.cache.get_hint(HINT)
    bench.cache.discard_hint(HINT, b"other")
    await bench.settle()
    second = await bench.cache.get_hint(HINT)
    bench.cache.discard_hint(HINT, b"one")
    await bench.settle()
    third = await bench.cache.get_hint(HINT)

    assert [first.text, second.text, third.text] == [b"one", b"one", None]


async def test_hint_tells_that_the_tier_was_not_asked(bench: Bench) -> None:
    """A caller need not leave a hint where none can be left."""
    bench.tier.error = CacheBypassed("circuit_open")

    hint = await bench.cache.get_hint(HINT)

    assert (hint.text, hint.bypassed) == (None, True)


async def test_warm_counts_what_the_tier_took(bench: Bench) -> None:
    """Warming tells how many entries were sent, and that none were."""
    values = dict(bench.truth.rows)

    taken = await bench.cache.warm(values, bench.cache.begin_load())
    bench.tier.error = CacheUnavailable("refused")

    assert taken == 2
    assert await bench.cache.warm(values, bench.cache.begin_load()) == 0


async def test_slow_fill_is_not_sent_when_a_newer_version_is_known_and_the_tier_has_lost_it(bench: Bench) -> None:
    """Redis was emptied after the change was confirmed: its own comparison cannot refuse the old value."""
    bench.truth.release = asyncio.Event()
    reader = asyncio.create_task(bench.read(A))
    await bench.settle()
    bench.truth.rows[A] = Loaded(value="new", version=9)
    await bench.cache.publish({A: bench.truth.rows[A]})
    bench.memory.stored.clear()

    bench.cache.fill({A: Loaded(value="a", version=1)}, bench.cache.begin_load())
    await bench.settle()
    before = dict(bench.memory.stored)
    bench.truth.release.set()
    await reader

    assert before == {}


async def test_tier_is_not_believed_when_floors_were_dropped_that_are_still_needed() -> None:
    """More changes in a while than floors can be kept: until they have aged, every read is loaded."""
    bench = Bench(max_floors=1)
    await bench.read(A, B)
    await bench.cache.publish({A: Loaded(value="a", version=8), B: Loaded(value="b", version=9)})

    answers = await bench.read(B)

    assert answers[B].origin is Origin.LOAD_AFTER_BYPASS


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
