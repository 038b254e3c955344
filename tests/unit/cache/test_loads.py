"""Loads through the tiered cache: one for however many ask, and never an answer older than a change that is known."""

import asyncio
import re
import traceback
from collections.abc import Sequence

import pytest

from tests.unit.cache.cache_bench import LOCAL_BYTES, A, B, Bench, TruthAwayError, settle
from zpmeow.cache.background import MAX_SIZE
from zpmeow.cache.errors import CacheUnavailable
from zpmeow.cache.loads import MAX_LOADS, LoadLimits, Loads
from zpmeow.cache.lookups import Unanswered
from zpmeow.cache.policy import EntryKey, Loaded, LoadMark, Origin
from zpmeow.cache.tier import PutOutcome, Write
from zpmeow.events import CorruptEntryFound, LoadCoalesced, LoadFinished, LoadOutcome, LookupOutcome, Tier


@pytest.fixture
def bench() -> Bench:
    """A fresh bench with a local tier."""
    return Bench(local_bytes=LOCAL_BYTES)


async def test_truth_is_asked_once_when_a_thousand_readers_miss_one_key(bench: Bench) -> None:
    """However many miss at once, the database gets one question."""
    release = bench.truth.hold()
    readers = [bench.begin_read(A) for _ in range(1_000)]
    await settle()

    release.set()
    answers = await asyncio.gather(*readers)

    assert {one[A].value for one in answers} == {"a"}
    assert bench.truth.asked == [[A]]
    assert bench.load_count() == 1
    assert sum(isinstance(event, LoadCoalesced) for event in bench.events) == 999


async def test_nobody_is_harmed_when_half_of_the_readers_go_away(bench: Bench) -> None:
    """Those who stay are answered by the one load, and it is kept."""
    release = bench.truth.hold()
    readers = [bench.begin_read(A) for _ in range(100)]
    await settle()

    for reader in readers[::2]:
        reader.cancel()
    await settle()
    release.set()
    answers = await asyncio.gather(*readers[1::2])

    assert {one[A].value for one in answers} == {"a"}
    assert all(reader.cancelled() for reader in readers[::2])
    assert bench.truth.asked == [[A]]
    assert bench.cache.peek(A) == 1


async def test_load_is_repeated_when_the_value_was_changed_since_it_began(bench: Bench) -> None:
    """What a slow load brings is answered to nobody and kept nowhere when something newer is known."""
    release = bench.truth.hold()
    reading = bench.begin_read(A)
    await settle()
    bench.change(A, "new", 5)

    release.set()
    answers = await reading
    await settle()

    assert answers[A].value == "new"
    assert bench.truth.asked == [[A], [A]]
    assert bench.cache.peek(A) == 5
    assert await bench.cache.peek_tier(A) == 5


async def test_only_what_is_outdated_is_loaded_again_when_several_were_loaded(bench: Bench) -> None:
    """The others' answers stand."""
    release = bench.truth.hold()
    reading = bench.begin_read(A, B)
    await settle()
    bench.change(A, "new", 5)

    release.set()
    answers = await reading

    assert {key: one.value for key, one in answers.items()} == {A: "new", B: "b"}
    assert bench.truth.asked == [[A, B], [A]]


async def test_load_is_repeated_when_it_found_nothing_and_something_was_made_since(bench: Bench) -> None:
    """A reader that was told of the new row finds it, though it joined a load from before."""
    made = bench.truth.rows.pop(A)
    release = bench.truth.hold()
    early = bench.begin_read(A)
    await settle()
    bench.change(A, made.value, made.version)
    late = bench.begin_read(A)
    await settle()

    release.set()

    assert (await late)[A].value == "a"
    assert (await early)[A].value == "a"


async def test_load_is_not_repeated_when_it_found_nothing_and_the_change_was_before(bench: Bench) -> None:
    """A removal that was told before the load began is in what it did not find."""
    del bench.truth.rows[A]
    bench.cache.changed(A.text, 9)
    bench.pass_time(0.1)

    answers = await bench.read(A)

    assert answers == {}
    assert bench.truth.asked == [[A]]


async def test_removed_value_is_not_answered_when_a_slow_load_still_brings_it(bench: Bench) -> None:
    """A reader that loaded before the removal cannot bring the value back, for itself or for others."""
    release = bench.truth.hold()
    slow = bench.begin_read(A)
    await settle()
    del bench.truth.rows[A]
    await bench.cache.remove([A], 9)

    release.set()
    answers = await slow
    await settle()

    assert answers == {}
    assert await bench.read(A) == {}


async def test_reader_after_a_write_does_not_take_the_load_when_that_began_before(bench: Bench) -> None:
    """Joining a load under way must not mean reading the past."""
    release = bench.truth.hold()
    early = bench.begin_read(A)
    await settle()
    bench.tier.error = CacheUnavailable("refused")
    bench.change(A, "new", 5, told=False)
    await bench.cache.publish({A: Loaded(value="new", version=5)}, bench.cache.begin_load())
    bench.local.clear()

    late = bench.begin_read(A)
    await settle()
    release.set()

    assert (await late)[A].value == "new"
    assert (await early)[A].value == "new"


async def test_value_is_answered_when_its_version_stays_below_the_floor(bench: Bench) -> None:
    """A backup was restored: the truth is what it is, and is not asked for ever; but it is not kept."""
    bench.cache.changed(A.text, 99)

    answers = await bench.read(A)

    assert answers[A].value == "a"
    assert bench.truth.asked == [[A]] * MAX_LOADS
    assert bench.cache.peek(A) is None
    assert bench.stored_entries() == {}


async def test_error_reaches_every_reader_and_is_forgotten_when_a_load_fails(bench: Bench) -> None:
    """All who waited are told; the next read asks anew."""
    bench.truth.go_away()
    release = bench.truth.hold()
    readers = [bench.begin_read(A) for _ in range(3)]
    await settle()
    release.set()

    ended = await asyncio.gather(*readers, return_exceptions=True)
    bench.truth.error = None

    assert [type(one) for one in ended] == [TruthAwayError] * 3
    assert bench.truth.asked == [[A]]
    assert await bench.origin(A) is Origin.LOAD_AFTER_MISS


async def test_each_load_is_told_once_when_it_ends(bench: Bench) -> None:
    """Found, absent and failed are counted an entry each."""
    del bench.truth.rows[B]
    await bench.read(A, B)
    bench.truth.go_away()
    bench.pass_time(2)
    with pytest.raises(TruthAwayError):
        await bench.read(B)

    told = [event.outcome for event in bench.events if isinstance(event, LoadFinished)]

    assert told == [LoadOutcome.FOUND, LoadOutcome.ABSENT, LoadOutcome.ERROR]


@pytest.mark.parametrize("exists", [True, False])
async def test_reader_takes_what_a_load_has_brought_while_it_asked_the_tier(bench: Bench, *, exists: bool) -> None:
    """Of a crowd, those who come too late to join the load find what it brought; each look-up is counted once."""
    if not exists:
        del bench.truth.rows[A]
    bench.slow.hang()
    late = bench.begin_read(A)
    await settle()
    bench.pass_time(0.01)

    unanswered = {A: Unanswered(LookupOutcome.MISS)}
    await bench.cache._loads.load(unanswered, bench.truth.load, asked=bench.cache.begin_load())

    bench.slow.resume()
    answers = await late

    assert {key: one.value for key, one in answers.items()} == ({A: "a"} if exists else {})
    assert bench.truth.asked == [[A]]
    assert bench.outcomes(Tier.REDIS) == [LookupOutcome.MISS]


async def test_reader_loads_all_that_it_wants_when_only_some_was_loaded_meanwhile(bench: Bench) -> None:
    """One load for the rest is no dearer than one for part of it."""
    bench.slow.hang()
    late = bench.begin_read(A, B)
    await settle()
    bench.cache.keep({A: bench.truth.rows[A]}, bench.cache.begin_load())

    bench.slow.resume()
    answers = await late

    assert {key: one.value for key, one in answers.items()} == {A: "a", B: "b"}


async def test_reader_asks_the_truth_when_memory_is_not_believed_any_more(bench: Bench) -> None:
    """The feed fell silent while the tier was asked: what was kept meanwhile may be outdated."""
    bench.slow.hang()
    late = bench.begin_read(A)
    await settle()
    bench.cache.keep({A: bench.truth.rows[A]}, bench.cache.begin_load())
    bench.change(A, "new", 5, told=False)
    bench.pass_time(1.5, feed_lives=False)

    bench.slow.resume()

    assert (await late)[A].value == "new"


@pytest.mark.parametrize(("feed_lives", "load_count"), [(True, 1), (False, 2)])
async def test_old_load_is_joined_when_every_change_since_it_began_is_known(
    bench: Bench,
    monkeypatch: pytest.MonkeyPatch,
    feed_lives: bool,  # noqa: FBT001  (a parameter)
    load_count: int,
) -> None:
    """A slow database is asked once for a key while the feed lives, and once a second when it does not."""
    monkeypatch.setattr(asyncio.get_running_loop(), "time", bench.monotonic)
    release = bench.truth.hold()
    early = bench.begin_read(A)
    await settle()
    bench.pass_time(1.5, feed_lives=feed_lives)
    late = bench.begin_read(A)
    await settle()

    release.set()
    await asyncio.gather(early, late)

    assert bench.truth.asked == [[A]] * load_count


def many_things(bench: Bench) -> list[EntryKey]:
    """Let the truth have seventy."""
    keys = [EntryKey(f"zpmeow:{{{number}}}:a", A.policy) for number in range(70)]
    bench.truth.rows = {key: Loaded(value=key.text, version=1) for key in keys}
    return keys


async def test_what_many_readers_wanted_is_sent_in_portions_one_after_the_other(bench: Bench) -> None:
    """One load for all; what it brings is not one large conversation with the tier, nor several at once."""
    keys = many_things(bench)
    sizes: list[int] = []
    under_way: list[int] = []
    put_many = bench.memory.put_many

    async def watched(writes: Sequence[Write]) -> list[PutOutcome]:
        sizes.append(len(writes))
        under_way.append(1)
        await asyncio.sleep(0)
        most_under_way.append(len(under_way))
        under_way.pop()
        return await put_many(writes)

    most_under_way: list[int] = []
    bench.memory.put_many = watched  # type: ignore[method-assign]
    found = await asyncio.gather(*(bench.begin_read(key) for key in keys))
    await settle()

    assert [one[key].value for one, key in zip(found, keys, strict=True)] == [key.text for key in keys]
    assert bench.truth.asked == [keys]
    assert (sizes, most_under_way) == ([30, 30, 10], [1, 1, 1])
    assert bench.stored_entries().keys() == set(keys)
    assert bench.load_count() == 70


async def test_nothing_more_is_sent_when_a_portion_has_failed(bench: Bench) -> None:
    """One load is one failure."""
    keys = many_things(bench)
    sizes: list[int] = []

    async def fail(writes: Sequence[Write]) -> list[PutOutcome]:
        sizes.append(len(writes))
        message = "away"
        raise CacheUnavailable(message)

    bench.memory.put_many = fail  # type: ignore[method-assign]
    await asyncio.gather(*(bench.begin_read(key) for key in keys))
    await settle()

    assert sizes == [30]


async def test_fills_are_dropped_when_too_much_waits_for_the_tier(bench: Bench) -> None:
    """By what they hold, not by how many there are."""
    keys = [EntryKey(f"zpmeow:{{{number}}}:a", A.policy) for number in range(MAX_SIZE + 300)]
    bench.truth.rows = {key: Loaded(value=key.text, version=1) for key in keys}
    release = asyncio.Event()
    put_many = bench.memory.put_many

    async def slow(writes: Sequence[Write]) -> list[PutOutcome]:
        await release.wait()
        return await put_many(writes)

    bench.memory.put_many = slow  # type: ignore[method-assign]
    for start in range(0, len(keys), 300):
        assert len(await bench.begin_read(*keys[start : start + 300])) > 0
    release.set()
    await bench.cache.close(grace_seconds=10)

    assert MAX_SIZE - 300 < len(bench.stored_entries()) <= MAX_SIZE


async def test_load_that_leaves_out_a_key_fails_and_nobody_waits_for_ever(bench: Bench) -> None:
    """A mistake of ours is told to all who wanted something of it, and the next load is another one."""
    answers: list[dict[str, int]] = [{"a": 1}, {"a": 1, "b": 2}]

    async def load(_job: str, _keys: Sequence[str], _mark: LoadMark) -> dict[str, int]:
        return answers.pop(0)

    loads: Loads[str, str, int] = bench.cache.make_loads(
        load=load, is_outdated=lambda *_: False, on_coalesced=lambda _: None, limits=LoadLimits()
    )

    failed = await asyncio.gather(
        *(loads.load([key], "job", asked=bench.cache.begin_load()) for key in "ab"), return_exceptions=True
    )

    assert [type(one) for one in failed] == [RuntimeError] * 2
    assert await loads.load(["a", "b"], "job", asked=None) == {"a": 1, "b": 2}


async def test_corrupt_entry_is_counted_once_when_its_reader_goes_away(bench: Bench) -> None:
    """The load goes on, and its fill replaces what was counted already; what is corrupt later is another one."""

    async def slow_discard(_key: str, _expected: bytes) -> bool:
        await asyncio.Event().wait()
        return False

    bench.tier.discard = slow_discard  # type: ignore[method-assign,assignment]
    bench.memory.place(A, b"x" * 200)
    release = bench.truth.hold()
    reader = bench.begin_read(A)
    await settle()
    reader.cancel()
    await settle()
    release.set()
    await settle()

    assert reader.cancelled()
    assert bench.stored_entries()[A] != b"x" * 200
    assert bench.outcomes() == [LookupOutcome.CORRUPT]
    bench.memory.place(A, None)  # Of a wrong type: the look-up sees nothing, the fill what it replaces.
    bench.local.clear()
    await bench.read(A)
    assert bench.outcomes()[1:] == [LookupOutcome.MISS, LookupOutcome.CORRUPT]
    await bench.cache.close(grace_seconds=0)


async def test_value_that_cannot_be_loaded_is_the_trouble_of_those_who_want_it(bench: Bench) -> None:
    """Of one turn, one load; each who wants it is told, and the others have theirs. The traceback does not grow."""
    bench.truth.unreadable = {A}
    readers = [bench.begin_read(A) for _ in range(50)]
    other = bench.begin_read(B)

    failed = await asyncio.gather(*readers, return_exceptions=True)

    assert {type(one) for one in failed} == {ValueError}
    assert (await other)[B].value == "b"
    assert bench.truth.asked == [[A, B]]
    assert {event.outcome: event.count for event in bench.events if isinstance(event, LoadFinished)} == {
        LoadOutcome.ERROR: 1,
        LoadOutcome.FOUND: 1,
    }
    last = failed[-1]
    assert isinstance(last, ValueError)
    assert len(list(traceback.walk_tb(last.__traceback__))) < 20


async def test_failure_of_one_value_is_not_taken_by_who_comes_when_it_has_landed(bench: Bench) -> None:
    """He tries again; what was brought beside it is good enough for him."""
    bench.slow.hang()
    late = [bench.begin_read(key) for key in (A, B)]
    await settle()
    bench.pass_time(0.01)
    bench.truth.unreadable = {A}
    unanswered = dict.fromkeys((A, B), Unanswered(LookupOutcome.MISS))
    with pytest.raises(ValueError, match=re.escape(A)):
        await bench.cache._loads.load(unanswered, bench.truth.load, asked=bench.cache.begin_load())
    bench.truth.unreadable = set()

    bench.slow.resume()
    found = await asyncio.gather(*late)

    assert [found[0][A].value, found[1][B].value] == ["a", "b"]
    assert bench.truth.asked == [[A, B], [A]]


async def test_readers_of_corrupt_entries_share_a_load_with_others(bench: Bench) -> None:
    """After a change of the schema all are corrupt at once; each is counted once."""
    keys = [EntryKey(f"zpmeow:{{{number}}}:a", A.policy) for number in range(5)]
    bench.truth.rows = {key: Loaded(value=key.text, version=1) for key in keys}
    for key in keys[:4]:
        bench.memory.place(key, b"rubbish")

    readers = [bench.begin_read(key) for key in keys]
    await asyncio.gather(*readers)
    await settle()

    assert bench.truth.asked == [keys]
    assert sorted(event.key for event in bench.events if isinstance(event, CorruptEntryFound)) == keys[:4]
