"""The guarded Redis tier through whole outages: nobody waits long, and it comes back by itself."""

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest

from tests.servers.redis_server import RedisServer
from zpmeow.cache.breaker import CircuitBreaker, CircuitState
from zpmeow.cache.call_budget import open_budget
from zpmeow.cache.errors import CacheBusy, CacheBypassed, CacheError, CacheTimeout
from zpmeow.cache.mode import CacheMode
from zpmeow.cache.redis_tier import RedisTier
from zpmeow.cache.resilient_tier import ResilientTier
from zpmeow.cache.tier import Hint
from zpmeow.events import CircuitChanged, Event

TIMEOUT_SECONDS = 0.25  # Five times the default, so that a busy machine does not look like a hung server.
KEYS = [f"key-{number}" for number in range(50)]


@dataclass(slots=True)
class Guarded:
    """A guarded tier with its probe loop running, and what it told."""

    tier: ResilientTier
    redis: RedisTier
    events: list[Event] = field(default_factory=list)

    async def wait_for(self, state: CircuitState) -> None:
        """Wait until the breaker is in a state."""
        async with asyncio.timeout(10):
            while self.tier.circuit_state is not state:  # noqa: ASYNC110  (the breaker has no event for tests)
                await asyncio.sleep(0.005)

    async def fill(self) -> None:
        """Let each key hold its own name."""
        await self.tier.put_many([Hint(key=key, text=key.encode(), lifetime_seconds=600) for key in KEYS])

    @property
    def transitions(self) -> list[tuple[str, str]]:
        """The transitions told so far."""
        return [(event.previous, event.current) for event in self.events if isinstance(event, CircuitChanged)]


@asynccontextmanager
async def guarded(url: str) -> AsyncIterator[Guarded]:
    """Open a guarded tier on a server and run its probe loop."""
    events: list[Event] = []
    redis = RedisTier(url=url, pool_size=10, timeout_seconds=TIMEOUT_SECONDS, observer=events.append)
    breaker = CircuitBreaker(
        failure_threshold=5,
        window_seconds=10,
        failure_rate=0.5,
        probe_interval_seconds=0.5,
        observer=events.append,
    )
    tier = ResilientTier(inner=redis, breaker=breaker, mode=CacheMode.NORMAL, timeout_seconds=TIMEOUT_SECONDS)
    running = asyncio.create_task(tier.run())
    try:
        yield Guarded(tier, redis, events)
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await tier.close()


async def kind_of(call: Awaitable[object]) -> str:
    """Make a call and tell how it ended."""
    try:
        await call
    except CacheError as error:
        return type(error).__name__
    return "answered"


async def test_first_wave_opens_the_breaker_when_the_server_hangs(own_redis: RedisServer) -> None:
    """Of fifty readers ten talk and time out, forty are busy; then all are bypassed; then the server wakes up."""
    async with guarded(own_redis.url) as stage:
        await stage.wait_for(CircuitState.CLOSED)
        await stage.fill()
        own_redis.pause()

        first: Counter[str] = Counter()
        while "CacheTimeout" not in first:  # A wave during which this machine stood still says nothing of the server.
            first = Counter(await asyncio.gather(*(kind_of(stage.tier.get_many([key])) for key in KEYS)))
        assert set(first) == {"CacheTimeout", "CacheBusy"}
        assert first["CacheTimeout"] >= 10  # Ten, and on a very busy machine some of those that followed them.
        second = Counter(await asyncio.gather(*(kind_of(stage.tier.get_many([key])) for key in KEYS)))
        assert second == {"CacheBypassed": 50}
        await asyncio.sleep(0.7)  # Long enough for some probes to fail.
        assert stage.tier.unusable_because is not None
        assert "timeout" in stage.tier.unusable_because

        own_redis.resume()
        await stage.wait_for(CircuitState.CLOSED)
        answers = await asyncio.gather(*(stage.tier.get_many([key]) for key in KEYS))
        assert answers == [[key.encode()] for key in KEYS]
        assert stage.transitions[-1] == ("half_open", "closed")


async def test_breaker_follows_when_the_server_is_killed_and_started_again(own_redis: RedisServer) -> None:
    """No request is needed for the way back, and each transition is told once, in order."""
    async with guarded(own_redis.url) as stage:
        await stage.wait_for(CircuitState.CLOSED)
        for _ in range(2):
            own_redis.kill()
            ended = Counter([await kind_of(stage.tier.get_many(["key"])) for _ in range(10)])
            assert ended == {"CacheUnavailable": 5, "CacheBypassed": 5}
            assert "refused" in (stage.tier.unusable_because or "") or "closed" in (stage.tier.unusable_because or "")

            own_redis.start()
            await stage.wait_for(CircuitState.CLOSED)
            assert await stage.tier.get_many(["key"]) == [None]

        for before, after in zip(stage.transitions, stage.transitions[1:], strict=False):
            assert before[1] == after[0]


async def test_tier_starts_in_bypass_when_the_server_is_away(own_redis: RedisServer) -> None:
    """A start without Redis refuses at once, and lets it in when it comes."""
    own_redis.kill()
    async with guarded(own_redis.url) as stage:
        for _ in range(3):
            with pytest.raises(CacheBypassed):
                await stage.tier.get_many(["key"])
            await asyncio.sleep(0.05)
        assert stage.tier.unusable_because is not None
        assert "connection refused" in stage.tier.unusable_because

        own_redis.start()
        await stage.wait_for(CircuitState.CLOSED)
        assert await stage.tier.get_many(["key"]) == [None]


async def test_breaker_opens_when_the_server_became_a_replica_and_closes_after_the_failover(
    own_redis: RedisServer,
) -> None:
    """Writes that are refused open it, a read-only server does not pass the probe, a writable one does."""
    async with guarded(own_redis.url) as stage:
        await stage.wait_for(CircuitState.CLOSED)
        own_redis.command("REPLICAOF", "127.0.0.1", "1")
        write = [Hint(key="key", text=b"text", lifetime_seconds=9)]
        ended = [await kind_of(stage.tier.put_many(write)) for _ in range(6)]
        assert ended == ["CacheUnavailable"] * 5 + ["CacheBypassed"]
        await asyncio.sleep(0.3)
        assert stage.tier.unusable_because is not None
        assert stage.tier.unusable_because.endswith("Redis answered READONLY")

        own_redis.command("REPLICAOF", "NO", "ONE")
        await stage.wait_for(CircuitState.CLOSED)
        await stage.tier.put_many(write)


async def test_answers_stay_with_their_questions_when_the_server_stutters(own_redis: RedisServer) -> None:
    """Pauses and wake-ups under load: every answer is the right one or a CacheError, never somebody else's."""
    chance = random.Random(11)
    ended: Counter[str] = Counter()

    async with guarded(own_redis.url) as stage:
        await stage.wait_for(CircuitState.CLOSED)
        await stage.fill()
        over = False

        async def request() -> None:
            with open_budget(0.05):
                for _ in range(2):
                    keys = chance.sample(KEYS, 3)
                    try:
                        assert await stage.tier.get_many(keys) == [key.encode() for key in keys]
                        ended["answered"] += 1
                    except (CacheTimeout, CacheBusy, CacheBypassed) as error:
                        ended[type(error).__name__] += 1

        async def caller() -> None:
            while not over:
                task = asyncio.create_task(request())
                await asyncio.sleep(chance.random() * 0.02)
                if chance.random() < 0.2:
                    task.cancel()
                (one,) = await asyncio.gather(task, return_exceptions=True)
                assert one is None or isinstance(one, asyncio.CancelledError), one

        callers = [asyncio.create_task(caller()) for _ in range(30)]
        for _ in range(8):
            own_redis.pause()
            await asyncio.sleep(chance.random() * 0.12)
            own_redis.resume()
            await asyncio.sleep(chance.random() * 0.12)
        over = True
        await asyncio.gather(*callers)
        await stage.wait_for(CircuitState.CLOSED)
        await stage.tier.probe()

    assert ended["answered"] > 0
    assert ended["CacheTimeout"] + ended["CacheBusy"] + ended["CacheBypassed"] > 0
