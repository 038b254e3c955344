"""Hints: guesses that are verified, in both tiers; only "there is nothing" is taken at its word, for a second."""

import pytest

from tests.unit.cache.cache_bench import HINT, LOCAL_BYTES, Bench, settle
from zpmeow.cache.errors import CacheBusy, CacheBypassed, CacheError, CacheTimeout, CacheUnavailable
from zpmeow.cache.policy import HintAnswer
from zpmeow.events import CacheLookedUp, LookupOutcome, Tier

NOTHING = HintAnswer(text=None)
NOWHERE = HintAnswer(text=None, leads_nowhere=True)


@pytest.fixture
def bench() -> Bench:
    """A fresh bench without a local tier."""
    return Bench()


@pytest.fixture
def local_bench() -> Bench:
    """A fresh bench with a local tier."""
    return Bench(local_bytes=LOCAL_BYTES)


async def leave(bench: Bench, text: bytes) -> None:
    """Leave a hint and let it arrive."""
    bench.cache.hints.put(HINT, text)
    await settle()


async def test_hint_is_read_back_when_it_was_left(bench: Bench) -> None:
    """What one process found out the others need not look up."""
    before = await bench.cache.hints.get(HINT)

    await leave(bench, b"one")

    assert before == NOTHING
    assert await bench.cache.hints.get(HINT) == HintAnswer(text=b"one")
    assert bench.outcomes() == [LookupOutcome.MISS, LookupOutcome.HIT]


async def test_hint_is_discarded_when_it_still_says_the_same(bench: Bench) -> None:
    """A wrong hint goes, a right one that took its place stays."""
    await leave(bench, b"one")
    bench.cache.hints.discard(HINT, b"other")
    await settle()
    kept = await bench.cache.hints.get(HINT)

    bench.cache.hints.discard(HINT, b"one")
    await settle()

    assert kept.text == b"one"
    assert await bench.cache.hints.get(HINT) == NOTHING


@pytest.mark.parametrize(
    ("error", "outcome", "bypassed"),
    [
        (CacheTimeout("timeout"), LookupOutcome.TIMEOUT, False),
        (CacheUnavailable("refused"), LookupOutcome.ERROR, False),
        (CacheBusy("busy"), LookupOutcome.ERROR, False),
        (CacheBypassed("circuit_open"), LookupOutcome.BYPASS, True),
    ],
)
async def test_hint_is_nothing_when_the_tier_fails(
    bench: Bench,
    error: CacheError,
    outcome: LookupOutcome,
    bypassed: bool,  # noqa: FBT001  (a parameter)
) -> None:
    """No error leaves; a caller is told when none could be left either."""
    bench.tier.error = error

    hint = await bench.cache.hints.get(HINT)
    await leave(bench, b"one")
    bench.cache.hints.discard(HINT, b"one")
    await settle()

    assert hint == HintAnswer(text=None, bypassed=bypassed)
    assert bench.outcomes() == [outcome]


async def test_hint_is_found_locally_when_it_was_left_or_read_here(local_bench: Bench) -> None:
    """The tier is asked once, however often the hint is wanted."""
    await leave(local_bench, b"one")
    local_bench.pass_time(6)
    from_tier = await local_bench.cache.hints.get(HINT)
    local_bench.tier.error = CacheUnavailable("refused")

    from_memory = await local_bench.cache.hints.get(HINT)

    assert (from_tier.text, from_memory.text) == (b"one", b"one")
    assert local_bench.events[-1] == CacheLookedUp("name", Tier.LOCAL, LookupOutcome.HIT)


async def test_hint_is_dropped_locally_when_the_feed_tells_of_a_change(local_bench: Bench) -> None:
    """A name that leads elsewhere from now on is not guessed from memory."""
    await leave(local_bench, b"one")
    local_bench.memory.stored.pop(HINT.text)

    local_bench.cache.changed(HINT.text, 5)

    assert await local_bench.cache.hints.get(HINT) == NOTHING


async def test_hint_is_dropped_locally_when_it_is_discarded(local_bench: Bench) -> None:
    """Both tiers forget it."""
    await leave(local_bench, b"one")

    local_bench.cache.hints.discard(HINT, b"one")
    await settle()

    assert await local_bench.cache.hints.get(HINT) == NOTHING


async def test_local_hint_is_not_used_when_the_feed_is_silent(local_bench: Bench) -> None:
    """Memory may have missed a change; the tier is asked."""
    await leave(local_bench, b"one")
    local_bench.memory.place(HINT.text, b"two")

    local_bench.pass_time(1.5, feed_lives=False)

    assert await local_bench.cache.hints.get(HINT) == HintAnswer(text=b"two")


async def test_nothing_is_believed_for_a_second_when_the_truth_found_nothing(local_bench: Bench) -> None:
    """That there is no such name is answered from memory, and only for a second."""
    local_bench.cache.hints.deny(HINT, local_bench.cache.begin_load())

    answers = []
    for passed in (0.0, 0.999, 0.001):
        local_bench.pass_time(passed)
        answers.append(await local_bench.cache.hints.get(HINT))

    assert answers == [NOWHERE, NOWHERE, NOTHING]


async def test_nothing_is_not_believed_when_something_is_made(local_bench: Bench) -> None:
    """A name that was just given is found at once."""
    local_bench.cache.hints.deny(HINT, local_bench.cache.begin_load())

    local_bench.cache.changed(HINT.text, 5)

    assert await local_bench.cache.hints.get(HINT) == NOTHING


async def test_nothing_is_not_kept_when_something_was_made_since_the_load_began(local_bench: Bench) -> None:
    """The load may have looked before it was there."""
    mark = local_bench.cache.begin_load()
    local_bench.cache.changed(HINT.text, 5)

    local_bench.cache.hints.deny(HINT, mark)

    assert local_bench.cache.hints.changed_since(HINT, mark)
    assert await local_bench.cache.hints.get(HINT) == NOTHING


async def test_nothing_is_not_kept_when_the_load_began_before_the_feed(local_bench: Bench) -> None:
    """What was made in the gap was told to nobody here."""
    mark = local_bench.cache.begin_load()
    local_bench.pass_time(0.5)
    local_bench.open_feed()

    local_bench.cache.hints.deny(HINT, mark)

    assert await local_bench.cache.hints.get(HINT) == NOTHING


async def test_nothing_is_not_kept_in_the_tier_when_the_truth_found_nothing(local_bench: Bench) -> None:
    """Other processes have not asked, and could not be told when it changes."""
    local_bench.cache.hints.deny(HINT, local_bench.cache.begin_load())
    await settle()

    assert local_bench.stored_entries() == {}


async def test_hint_is_unchanged_when_nothing_was_told_since(bench: Bench) -> None:
    """A change of before the load does not count."""
    bench.cache.changed(HINT.text, 5)
    bench.pass_time(0.1)

    assert not bench.cache.hints.changed_since(HINT, bench.cache.begin_load())
