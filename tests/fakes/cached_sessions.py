"""The cached repository put together as the service does it, over a truth and a tier of the test's choice.

The change feed is there and live, and the relay runs one round when a test says `relay`.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from tests.fakes.in_memory_change_log import InMemoryChangeLog
from zpmeow.cache.change_sink import ChangeSink
from zpmeow.cache.coherence import Coherence
from zpmeow.cache.entry_codec import EntryCodec
from zpmeow.cache.floors import Floors
from zpmeow.cache.loads import LoadLimits
from zpmeow.cache.local_tier import LocalTier
from zpmeow.cache.pending_changes import PendingChanges
from zpmeow.cache.policy import TruthState
from zpmeow.cache.tier import CacheTier
from zpmeow.cache.tiered_cache import TieredCache
from zpmeow.domain.errors import Unavailable
from zpmeow.domain.ports import Clock, SessionRepository
from zpmeow.events import Observer, ignore
from zpmeow.repositories.cache_feed import CacheFeed
from zpmeow.repositories.cache_policies import CacheLifetimes, CachePolicies
from zpmeow.repositories.cached_session_repository import CachedSessionRepository
from zpmeow.repositories.change_keys import ChangeKeys
from zpmeow.repositories.entry_loads import entry_load_limits
from zpmeow.repositories.inspector import Inspector
from zpmeow.repositories.invalidation_relay import InvalidationRelay

LIFETIMES = CacheLifetimes(
    session_seconds=86_400, status_seconds=300, qr_seconds=60, credential_seconds=21_600, stale_if_error=True
)


@dataclass(frozen=True, kw_only=True)
class CachedSessions:
    """The repository and the parts that a test may want to reach."""

    repository: CachedSessionRepository
    cache: TieredCache
    coherence: Coherence
    local: LocalTier
    feed: CacheFeed
    log: InMemoryChangeLog
    relay: InvalidationRelay
    clock: Clock
    monotonic: Callable[[], float]
    tasks: list[asyncio.Task[None]] = field(default_factory=list)

    def confirm_feed(self) -> None:
        """Let the feed be heard now, and the process know the epoch."""
        if self.log.fault is None:
            if self.coherence.set_epoch(self.log.epoch):
                self.cache.begin_anew()
            self.feed.confirmed(self.monotonic())

    async def relay_once(self) -> None:
        """Let the relay bring everything that it can, and the process hear of it."""
        self.confirm_feed()
        if not self.tasks:
            self.tasks.append(asyncio.get_running_loop().create_task(self.relay.run()))
        self.relay.wake()
        for _ in range(40):
            await asyncio.sleep(0)
        self.confirm_feed()

    async def close(self) -> None:
        """End what runs."""
        for task in self.tasks:
            task.cancel()
        if self.tasks:
            await asyncio.wait(self.tasks)
        await self.repository.close(grace_seconds=1)
        await self.cache.close(grace_seconds=1)


class TierAndSink(CacheTier, ChangeSink, Protocol):
    """What the fakes are: both ends of a cache server."""


def make_cached_sessions(
    *,
    truth: SessionRepository,
    tier: TierAndSink,
    clock: Clock,
    monotonic: Callable[[], float],
    log: InMemoryChangeLog | None = None,
    truth_state: Callable[[], TruthState] = lambda: TruthState.ANSWERS,
    local_bytes: int = 0,
    load_limits: LoadLimits | None = None,
    observer: Observer = ignore,
) -> CachedSessions:
    """Wire the parts up, in an epoch, with a live feed. The local tier is off unless `local_bytes` are given."""

    def now_ms() -> int:
        return int(clock.now().timestamp() * 1000)

    change_log = log or InMemoryChangeLog(now=clock.now)
    policies = CachePolicies(LIFETIMES)
    codec = EntryCodec(now_ms=now_ms)
    keys = ChangeKeys(policies=policies, codec=codec)
    coherence = Coherence(floors=Floors(monotonic=monotonic), now_ms=now_ms, join_seconds=1.0, monotonic=monotonic)
    local = LocalTier(max_bytes=local_bytes, ttl_seconds=5, monotonic=monotonic)
    cache = TieredCache(
        tier=tier,
        local=local,
        codec=codec,
        coherence=coherence,
        now_ms=now_ms,
        truth_state=truth_state,
        unavailable=Unavailable,
        limits=load_limits or entry_load_limits(most_under_way=10, truth_seconds=5.0),
        grace_seconds=5,
        observer=observer,
    )
    coherence.set_epoch(change_log.epoch)

    gate = asyncio.Event()
    gate.set()

    async def no_pause(_seconds: float) -> None:
        await asyncio.sleep(0)

    relay = InvalidationRelay(log=change_log, sink=tier, keys=keys, gate=gate, observer=observer, sleep=no_pause)
    feed = CacheFeed(
        cache=cache,
        coherence=coherence,
        keys=keys,
        pending=PendingChanges(now_ms=now_ms),
        wake_relay=relay.wake,
        control_changed=lambda: None,
        observer=observer,
    )
    feed.opened(database=change_log.database, since=clock.now(), heard_at=monotonic())
    repository = CachedSessionRepository(
        truth=truth,
        cache=cache,
        policies=policies,
        clock=clock,
        inspector=Inspector(truth=truth, cache=cache, policies=policies, one_in=0, observer=observer),
        observer=observer,
    )
    return CachedSessions(
        repository=repository,
        cache=cache,
        coherence=coherence,
        local=local,
        feed=feed,
        log=change_log,
        relay=relay,
        clock=clock,
        monotonic=monotonic,
    )
