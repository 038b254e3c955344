"""The position watch: an idle process knows whether its tier is believed, and a guard waits until it is."""

import asyncio
from contextlib import suppress

import pytest
from typing_extensions import override

from tests.fakes.failing_tier import FailingTier
from tests.unit.cache.cache_bench import OTHER_EPOCH, Bench
from zpmeow.cache.coherence import Belief
from zpmeow.cache.errors import CacheBypassed, CacheError, CacheUnavailable
from zpmeow.cache.position import POSITION_KEY
from zpmeow.cache.position_watch import PERIOD_SECONDS, PositionWatch
from zpmeow.cache.tier import TierInfo
from zpmeow.events import EvictionPolicyFound, TrustChanged


class DescribedTier(FailingTier):
    """Says of itself what a test tells it to, or fails to."""

    maxmemory_policy: str | None = None
    error_of_describe: CacheError | None = None

    @override
    async def describe(self) -> TierInfo:
        if self.error_of_describe is not None:
            raise self.error_of_describe
        return TierInfo(version="Redis 7.0.15", total_keys=1, maxmemory_policy=self.maxmemory_policy)


class Stage:
    """A watch over a bench whose pauses a test lives through."""

    def __init__(self) -> None:
        """Wire it up; the tier holds a good position."""
        self.bench = Bench()
        self.tier = DescribedTier(self.bench.slow)
        self.pauses: list[float] = []
        self._enough: tuple[int, asyncio.Event] = (0, asyncio.Event())
        self.watch = PositionWatch(
            tier=self.tier,
            coherence=self.bench.coherence,
            observer=self.bench.events.append,
            sleep=self.sleep,
        )

    async def sleep(self, seconds: float) -> None:
        """Pass the time at once; the feed lives, the relay does nothing."""
        self.pauses.append(seconds)
        self.bench.pass_time(seconds, relay_lives=False)
        if len(self.pauses) >= self._enough[0]:
            self._enough[1].set()
        await asyncio.sleep(0)

    async def live_through(self, pauses: int) -> None:
        """Wait until the watch has made so many pauses."""
        self._enough = (pauses, asyncio.Event())
        await self._enough[1].wait()

    def told(self) -> list[str | None]:
        """Return the reasons that were told so far."""
        return [event.reason for event in self.bench.events if isinstance(event, TrustChanged)]

    def policies(self) -> list[str]:
        """Return the eviction policies that were told of so far."""
        return [event.policy for event in self.bench.events if isinstance(event, EvictionPolicyFound)]


@pytest.fixture
def stage() -> Stage:
    """A fresh stage."""
    return Stage()


async def test_watch_tells_once_when_the_tier_is_believed(stage: Stage) -> None:
    """The first look says how it stands; the same again is no news."""
    await stage.watch.look()
    await stage.watch.look()

    assert stage.told() == [None]
    assert stage.bench.coherence.verdict.belief is Belief.TRUSTED


async def test_watch_tells_the_reason_when_the_verdict_changes(stage: Stage) -> None:
    """Each change is told with its reason: position, tier, and back."""
    await stage.watch.look()
    stage.bench.place_position(epoch=OTHER_EPOCH)
    await stage.watch.look()
    stage.bench.memory.stored.pop(POSITION_KEY)
    await stage.watch.look()
    stage.bench.tier.error = CacheBypassed("circuit_open")
    await stage.watch.look()
    stage.bench.tier.error = None
    stage.bench.place_position()
    await stage.watch.look()

    assert stage.told() == [None, "Redis is of another epoch", "Redis has no position", "circuit_open", None]


@pytest.mark.parametrize(
    ("policy", "told"),
    [
        ("allkeys-lru", ["allkeys-lru"]),
        ("volatile-lru", ["volatile-lru"]),
        ("volatile-ttl", []),
        ("noeviction", []),
        (None, []),
    ],
)
async def test_watch_tells_of_the_policy_when_the_tier_evicts_the_wrong_way(
    stage: Stage, policy: str | None, told: list[str]
) -> None:
    """Once for each time that the tier is believed anew: it may be another server then."""
    stage.tier.maxmemory_policy = policy
    await stage.watch.look()
    await stage.watch.look()
    once = stage.policies()
    stage.bench.place_position(epoch=OTHER_EPOCH)
    await stage.watch.look()
    stage.bench.place_position()
    await stage.watch.look()

    assert once == told
    assert stage.policies() == told * 2


async def test_watch_goes_on_when_the_tier_does_not_describe_itself(stage: Stage) -> None:
    """The advice is not worth an error."""
    stage.tier.error_of_describe = CacheUnavailable("refused")

    await stage.watch.look()

    assert (stage.told(), stage.policies()) == ([None], [])


async def test_watch_knows_the_tier_when_nobody_reads(stage: Stage) -> None:
    """Its look alone makes the position known to this process."""
    before = stage.bench.coherence.position

    await stage.watch.look()

    assert before is None
    assert stage.bench.coherence.position is not None


async def test_watch_looks_every_second_when_it_runs(stage: Stage) -> None:
    """And notices by itself that the relay has stopped."""
    running = asyncio.create_task(stage.watch.run())
    await stage.live_through(25)

    running.cancel()
    with suppress(asyncio.CancelledError):
        await running

    assert set(stage.pauses) == {PERIOD_SECONDS}
    assert stage.told() == [None, "Redis is behind the change log"]


async def test_waiting_ends_when_the_tier_can_be_believed(stage: Stage) -> None:
    """The guard opens only after the relay has caught up."""
    stage.bench.place_position(age_seconds=600)
    waiting = asyncio.create_task(stage.watch.wait_until_caught_up(stage.bench.memory))
    await stage.live_through(5)
    before = waiting.done()

    stage.bench.place_position()
    await waiting

    assert not before


async def test_waiting_ends_at_once_when_there_is_no_feed(stage: Stage) -> None:
    """Nothing is believed then anyway, and what is left may be needed when the database is away."""
    stage.bench.coherence.feed_lost()
    stage.bench.memory.stored.clear()

    await stage.watch.wait_until_caught_up(stage.bench.memory)

    assert stage.pauses == []


async def test_waiting_fails_when_the_tier_does(stage: Stage) -> None:
    """A tier that breaks off while it is waited for is not well again."""
    await stage.bench.memory.close()

    with pytest.raises(CacheUnavailable):
        await stage.watch.wait_until_caught_up(stage.bench.memory)
