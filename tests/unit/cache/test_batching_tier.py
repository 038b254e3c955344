"""Reads of another tier, those of one turn in one conversation."""

import asyncio
import time
from collections.abc import Sequence

import looptime
import pytest
from typing_extensions import override

from tests.fakes.memory_tier import MemoryTier
from zpmeow.cache.batching_tier import MOST_KEYS, BatchingTier
from zpmeow.cache.breaker import CircuitBreaker, CircuitState
from zpmeow.cache.call_budget import budget_or_fresh, open_budget, outside_budget
from zpmeow.cache.errors import CacheBypassed, CacheError, CacheTimeout, CacheUnavailable
from zpmeow.cache.mode import CacheMode
from zpmeow.cache.resilient_tier import ResilientTier
from zpmeow.cache.tier import CacheTier, Hint
from zpmeow.events import ignore

TIMEOUT_SECONDS = 0.2


class Asked(MemoryTier):
    """Notes what it is asked, and answers when it may."""

    def __init__(self) -> None:
        """Answer at once."""
        super().__init__()
        self.asked: list[list[str]] = []
        self.answered = 0
        """Successes and errors; what was broken off is neither."""
        self.budgets_are_whole: list[bool] = []
        self.may_answer = asyncio.Event()
        self.may_answer.set()
        self.error: CacheError | None = None

    @override
    async def get_many(self, keys: Sequence[str]) -> list[bytes | None]:
        self.asked.append(list(keys))
        self.budgets_are_whole.append(budget_or_fresh(TIMEOUT_SECONDS).is_whole)
        await self.may_answer.wait()
        self.answered += 1
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
    return BatchingTier(inner, check_usable=lambda: None, budget_seconds=TIMEOUT_SECONDS)


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


def guarded(inner: CacheTier) -> tuple[BatchingTier, CircuitBreaker]:
    """Put the guard around it, and the batches around the guard."""
    breaker = CircuitBreaker(
        failure_threshold=5,
        window_seconds=10,
        failure_rate=0.5,
        probe_interval_seconds=1,
        observer=ignore,
        closed=True,
    )
    guard = ResilientTier(inner=inner, breaker=breaker, mode=CacheMode.NORMAL, timeout_seconds=TIMEOUT_SECONDS)
    return BatchingTier(guard, check_usable=guard.check_usable, budget_seconds=TIMEOUT_SECONDS), breaker


async def test_conversation_that_failed_is_one_failure_for_however_many(inner: Asked) -> None:
    """One connection that was reset does not open the breaker; five do."""
    tier, breaker = guarded(inner)
    inner.error = CacheUnavailable("connection reset")

    states = []
    for _ in range(5):
        failed = await asyncio.gather(*(tier.get_many([key]) for key in "abcdefgh"), return_exceptions=True)
        assert {type(one) for one in failed} == {CacheUnavailable}
        states.append(breaker.state)

    assert states == [*[CircuitState.CLOSED] * 4, CircuitState.OPEN]


class DistantTier(MemoryTier):
    """Answers a little later."""

    def __init__(self, *, seconds: float = 0.1 * TIMEOUT_SECONDS) -> None:
        """So much later."""
        super().__init__()
        self._seconds = seconds

    @override
    async def get_many(self, keys: Sequence[str]) -> list[bytes | None]:
        await asyncio.sleep(self._seconds)
        return await super().get_many(keys)


async def test_turn_that_took_long_costs_nobody_his_values() -> None:
    """Until it is over nothing is sent, and the conversation's time begins then."""
    tier, breaker = guarded(DistantTier())

    for _ in range(5):
        reads = [asyncio.create_task(tier.get_many([key])) for key in "abc"]
        await asyncio.sleep(0)
        time.sleep(1.2 * TIMEOUT_SECONDS)  # noqa: ASYNC251  (the pause itself)
        assert await asyncio.gather(*reads) == [[None]] * 3

    assert breaker.state is CircuitState.CLOSED


async def test_nobody_waits_when_the_circuit_is_open(inner: Asked) -> None:
    """What would be refused is refused at once, and nothing is asked."""
    tier, breaker = guarded(inner)
    breaker.open("as this test wants it")
    reading = tier.get_many(["a"])

    with pytest.raises(CacheBypassed):
        reading.send(None)  # As far as it comes without waiting.

    assert inner.asked == []


async def test_who_has_used_some_of_his_time_asks_alone(inner: Asked, tier: BatchingTier) -> None:
    """What he has left binds nobody else."""

    async def request() -> list[bytes | None]:
        with open_budget(TIMEOUT_SECONDS):
            await tier.get_many(["a"])
            return await tier.get_many(["b"])

    found = await asyncio.gather(request(), request())

    assert list(found) == [[b"b"], [b"b"]]
    assert inner.asked == [["a"], ["b"], ["b"]]


@pytest.mark.parametrize("error", [None, CacheTimeout("late")])
async def test_conversation_goes_on_when_its_only_caller_goes_away(
    inner: Asked, tier: BatchingTier, error: CacheError | None
) -> None:
    """Broken off it would cost its connection, and it ends by its deadline anyway. Nobody misses its failure."""
    with open_budget(TIMEOUT_SECONDS):
        await tier.get_many(["a"])
        inner.may_answer.clear()
        alone = asyncio.create_task(tier.get_many(["b"]))
        await settle()
        alone.cancel()
        await settle()
    under_way = len(inner.asked) - inner.answered
    inner.error = error
    inner.may_answer.set()
    await settle()

    assert alone.cancelled()
    assert under_way == 1
    assert inner.answered == len(inner.asked) == 2


async def test_calls_of_one_request_at_the_same_time_are_its_own_affair(inner: Asked, tier: BatchingTier) -> None:
    """The first has the whole budget, the second finds it begun."""
    with open_budget(TIMEOUT_SECONDS):
        found = await asyncio.gather(tier.get_many(["a"]), tier.get_many(["b"]))

    assert list(found) == [[b"a"], [b"b"]]
    assert sorted(inner.asked) == [["a"], ["b"]]


async def test_conversation_has_a_budget_of_its_own(inner: Asked, tier: BatchingTier) -> None:
    """Whoever was the first to want something: the budget of his request is neither used nor ended for the others."""
    with open_budget(TIMEOUT_SECONDS):
        first = asyncio.create_task(tier.get_many(["a"]))
        with outside_budget():
            second = asyncio.create_task(tier.get_many(["b"]))

        assert list(await asyncio.gather(first, second)) == [[b"a"], [b"b"]]

    assert inner.asked == [["a", "b"]]
    assert inner.budgets_are_whole == [True]


@pytest.mark.asyncio(loop_factories=["asyncio"])  # One whose clock can be a test's: it stands while something runs.
async def test_request_is_charged_what_the_conversation_took() -> None:
    """Its time, and how long Redis was talked to: the second call of a request has what is left."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, asyncio.BaseEventLoop)
    looptime.patch_event_loop(loop, start=round(loop.time()))
    tier, breaker = guarded(DistantTier(seconds=0.8 * TIMEOUT_SECONDS))

    async def request() -> None:
        with open_budget(TIMEOUT_SECONDS):
            await tier.get_many(["a"])
            with pytest.raises(CacheTimeout):
                await tier.get_many(["b"])

    await asyncio.gather(*(request() for _ in range(5)))

    assert breaker.state is CircuitState.OPEN
