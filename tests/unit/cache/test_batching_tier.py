"""Reads of another tier, those of one turn in one conversation."""

import asyncio
import time
from collections.abc import Sequence

import pytest
from typing_extensions import override

from tests.fakes.memory_tier import MemoryTier
from zpmeow.cache.batching_tier import MOST_KEYS, BatchingTier
from zpmeow.cache.breaker import CircuitBreaker, CircuitState
from zpmeow.cache.call_budget import CallProgress, observe_progress, report_talking, report_waiting
from zpmeow.cache.errors import CacheBusy, CacheError, CacheUnavailable
from zpmeow.cache.mode import CacheMode
from zpmeow.cache.resilient_tier import ResilientTier
from zpmeow.cache.tier import Hint
from zpmeow.events import ignore

TIMEOUT_SECONDS = 0.2


class Asked(MemoryTier):
    """Notes what it is asked, and answers when it may; until then the call waits for its turn."""

    def __init__(self) -> None:
        """Answer at once."""
        super().__init__()
        self.asked: list[list[str]] = []
        self.may_answer = asyncio.Event()
        self.may_answer.set()
        self.error: CacheError | None = None

    @override
    async def get_many(self, keys: Sequence[str]) -> list[bytes | None]:
        self.asked.append(list(keys))
        report_waiting()
        await self.may_answer.wait()
        report_talking(7.0)
        if self.error is not None:
            raise self.error
        return await super().get_many(keys)


@pytest.fixture
async def inner() -> Asked:
    """A tier with three values."""
    tier = Asked()
    await tier.put_many([Hint(key=key, text=key.encode(), lifetime_seconds=9) for key in "abc"])
    return tier


@pytest.fixture
def tier(inner: Asked) -> BatchingTier:
    """The same, asked less often."""
    return BatchingTier(inner)


async def settle() -> None:
    """Let everything run that can."""
    for _ in range(10):
        await asyncio.sleep(0)


async def test_reads_of_one_turn_are_one_conversation(inner: Asked, tier: BatchingTier) -> None:
    """Each has its own values in its own order; what several want is asked for once."""
    found = await asyncio.gather(
        tier.get_many(["a", "p"]), tier.get_many(["b", "p"]), tier.get_many(["c", "a", "a"]), tier.get_many([])
    )

    assert inner.asked == [["a", "p", "b", "c"]]
    assert list(found) == [[b"a", None], [b"b", None], [b"c", b"a", b"a"], []]


async def test_later_reads_do_not_wait_for_those_under_way(inner: Asked, tier: BatchingTier) -> None:
    """Several conversations may be held at once."""
    inner.may_answer.clear()
    reads = []
    for key in "abc":
        reads.append(asyncio.create_task(tier.get_many([key])))
        await settle()

    assert inner.asked == [["a"], ["b"], ["c"]]
    inner.may_answer.set()
    assert await asyncio.gather(*reads) == [[b"a"], [b"b"], [b"c"]]


async def test_conversation_has_an_end_when_many_ask(inner: Asked, tier: BatchingTier) -> None:
    """What is too much for one makes up the next."""
    await asyncio.gather(*(tier.get_many([str(number)]) for number in range(MOST_KEYS + 1)))

    assert [len(keys) for keys in inner.asked] == [MOST_KEYS, 1]


async def test_failure_is_that_of_all_who_asked(inner: Asked, tier: BatchingTier) -> None:
    """Each may tell of it; the next conversation is another one."""
    inner.error = CacheUnavailable("away")
    failed = await asyncio.gather(tier.get_many(["a"]), tier.get_many(["b"]), return_exceptions=True)
    inner.error = None

    assert [type(one) for one in failed] == [CacheUnavailable] * 2
    assert await tier.get_many(["a"]) == [b"a"]


async def test_others_are_answered_when_one_goes_away(inner: Asked, tier: BatchingTier) -> None:
    """Before the conversation and during it; one that nobody waits for is not held."""
    inner.may_answer.clear()
    reads = [asyncio.create_task(tier.get_many([key])) for key in "abc"]
    await asyncio.sleep(0)
    reads[0].cancel()
    await settle()
    reads[1].cancel()
    inner.may_answer.set()
    ended = await asyncio.gather(*reads, return_exceptions=True)
    lonely = asyncio.create_task(tier.get_many(["a"]))
    await asyncio.sleep(0)
    lonely.cancel()
    await settle()

    assert len(inner.asked) == 1
    assert [isinstance(one, asyncio.CancelledError) for one in ended] == [True, True, False]
    assert ended[2] == [b"c"]


def guarded(tier: BatchingTier) -> tuple[ResilientTier, CircuitBreaker]:
    """Put the guard around it."""
    breaker = CircuitBreaker(
        failure_threshold=5,
        window_seconds=10,
        failure_rate=0.5,
        probe_interval_seconds=1,
        observer=ignore,
        closed=True,
    )
    return ResilientTier(inner=tier, breaker=breaker, mode=CacheMode.NORMAL, timeout_seconds=TIMEOUT_SECONDS), breaker


async def test_conversation_that_failed_is_one_failure_for_however_many(inner: Asked, tier: BatchingTier) -> None:
    """One connection that was reset does not open the breaker; five do."""
    guard, breaker = guarded(tier)
    inner.error = CacheUnavailable("connection reset")

    states = []
    for _ in range(5):
        failed = await asyncio.gather(*(guard.get_many([key]) for key in "abcdefgh"), return_exceptions=True)
        assert {type(one) for one in failed} == {CacheUnavailable}
        states.append(breaker.state)

    assert states == [*[CircuitState.CLOSED] * 4, CircuitState.OPEN]


class DistantTier(MemoryTier):
    """Answers a little later."""

    @override
    async def get_many(self, keys: Sequence[str]) -> list[bytes | None]:
        await asyncio.sleep(0.1 * TIMEOUT_SECONDS)
        return await super().get_many(keys)


async def test_turn_that_took_long_is_no_fault_of_the_tier() -> None:
    """Until it is over nothing is sent: who runs out of time in it says nothing."""
    guard, breaker = guarded(BatchingTier(DistantTier()))

    for _ in range(5):
        reads = [asyncio.create_task(guard.get_many([key])) for key in "abc"]
        await asyncio.sleep(0)
        time.sleep(1.2 * TIMEOUT_SECONDS)  # noqa: ASYNC251  (the pause itself)
        ended = await asyncio.gather(*reads, return_exceptions=True)
        assert {type(one) for one in ended} == {CacheBusy}

    assert breaker.state is CircuitState.CLOSED


async def test_each_caller_learns_how_far_the_conversation_has_come(inner: Asked, tier: BatchingTier) -> None:
    """Whether it still waits for its turn, or talks, and since when."""

    async def observed() -> CallProgress:
        progress = observe_progress(1.0)
        await tier.get_many(["a"])
        return progress

    async def watched() -> tuple[float, float]:
        progress = observe_progress(1.0)
        reading = asyncio.create_task(tier.get_many(["b"]))
        await settle()
        before = progress.talked_seconds(9.0)
        inner.may_answer.set()
        await reading
        return before, progress.talked_seconds(9.0)

    inner.may_answer.clear()
    seen, progress = await asyncio.gather(watched(), observed())

    assert seen == (0.0, 2.0)
    assert progress.talked_seconds(9.0) == 2.0
    assert len(inner.asked) == 1
