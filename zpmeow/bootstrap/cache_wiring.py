"""Puts the cache together: two tiers behind their guards, or no cache at all, and the endless tasks that go with it."""

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from zpmeow.bootstrap.cache_inspection import CacheInspection
from zpmeow.bootstrap.supervision import running
from zpmeow.cache.batching_tier import BatchingTier
from zpmeow.cache.breaker import CircuitBreaker
from zpmeow.cache.coherence import CLOCK_MARGIN_SECONDS, Coherence
from zpmeow.cache.entry_codec import EntryCodec
from zpmeow.cache.floors import FLOOR_SECONDS, Floors
from zpmeow.cache.loads import LoadLimits
from zpmeow.cache.local_tier import LocalTier
from zpmeow.cache.mode import CacheMode
from zpmeow.cache.null_tier import NullTier
from zpmeow.cache.pending_changes import PendingChanges
from zpmeow.cache.policy import TruthState
from zpmeow.cache.position_watch import PositionWatch
from zpmeow.cache.redis_tier import RedisTier
from zpmeow.cache.resilient_tier import ResilientTier
from zpmeow.cache.tier import CacheTier
from zpmeow.cache.tiered_cache import TieredCache
from zpmeow.domain.changes import ChangeLog
from zpmeow.domain.errors import Unavailable
from zpmeow.domain.ports import ControlState
from zpmeow.events import Observer
from zpmeow.postgres.database import Database
from zpmeow.repositories.cache_feed import CacheFeed
from zpmeow.repositories.cache_policies import CachePolicies
from zpmeow.repositories.change_keys import ChangeKeys
from zpmeow.repositories.invalidation_relay import InvalidationRelay
from zpmeow.settings import BreakerSettings, CacheSettings

_JOIN_SECONDS = 1.0  # Where CACHE_LOCAL_TTL names no bound.
_GRACE_SECONDS = 2.0  # At the stop, for fills under way.
_RELAY_TIMEOUT_SECONDS = 0.5  # A batch is 3 ms of Redis' time; the relay serves nobody who waits.


@dataclass(slots=True, frozen=True, kw_only=True)
class CacheParts:
    """The cache, and what steers and inspects it. Those that may be None are so where there is no cache."""

    cache: TieredCache
    coherence: Coherence
    tier: ResilientTier | None
    relay: InvalidationRelay | None
    keys: ChangeKeys
    position_watch: PositionWatch
    pending: PendingChanges
    inspection: CacheInspection | None

    def epoch_tag(self) -> str:
        """Return the epoch as a few letters and digits: versions of another epoch mean nothing in this one."""
        return (self.coherence.epoch or b"").hex()[:8]

    def wake_relay(self) -> None:
        """Let the relay look at the change log, if there is one."""
        if self.relay is not None:
            self.relay.wake()

    def follow(self, state: ControlState, _asked_at: float, _answered_at: float, /) -> None:
        """Take over the shared settings."""
        mode = CacheMode(state.mode)
        if self.coherence.set_epoch(state.epoch) or (self.coherence.bypassed and mode is CacheMode.NORMAL):
            self.cache.begin_anew()
        self.coherence.bypassed = mode is CacheMode.BYPASS
        if self.tier is not None:
            self.tier.set_mode(mode)


@asynccontextmanager
async def open_cache(
    *,
    redis_url: str | None,
    settings: CacheSettings,
    breaker: BreakerSettings,
    database_timeout_seconds: float,
    policies: CachePolicies,
    change_log: ChangeLog,
    now_ms: Callable[[], int],
    database: Database,
    load_limits: LoadLimits,
    observer: Observer,
) -> AsyncIterator[CacheParts]:
    """Open the cache; without a URL it is the no-op cache. Works with Redis away."""
    coherence = _make_coherence(settings, database_timeout_seconds=database_timeout_seconds, now_ms=now_ms)
    codec = EntryCodec(now_ms=now_ms, lifetime_seconds=policies.longest_lifetime_seconds)
    keys = ChangeKeys(policies=policies, codec=codec)
    pending = PendingChanges(now_ms=now_ms)
    async with AsyncExitStack() as stack:
        guarded: ResilientTier | None = None
        tier: CacheTier = NullTier()
        if redis_url is not None:
            redis = _open_redis(stack, redis_url, settings.pool_size, settings.timeout_seconds, observer)
            guarded = ResilientTier(
                inner=redis,
                breaker=_make_breaker(breaker, observer),
                mode=CacheMode.NORMAL,
                timeout_seconds=settings.timeout_seconds,
                catch_up=lambda: watch.wait_until_caught_up(redis),
            )
            tier = BatchingTier(guarded, check_usable=guarded.check_usable, budget_seconds=settings.timeout_seconds)
        local = LocalTier(
            max_bytes=0 if redis_url is None else settings.local_max_bytes, ttl_seconds=settings.local_ttl_seconds
        )
        cache = TieredCache(
            tier=tier,
            local=local,
            codec=codec,
            coherence=coherence,
            now_ms=now_ms,
            truth_state=_make_truth_state(database, coherence, settings.local_ttl_seconds),
            unavailable=Unavailable,
            limits=load_limits,
            grace_seconds=settings.local_ttl_seconds,
            observer=observer,
        )
        watch = PositionWatch(tier=tier, coherence=coherence, observer=observer)
        relay = inspection = None
        if guarded is not None:
            assert redis_url is not None
            sink = _open_redis(stack, redis_url, 1, _RELAY_TIMEOUT_SECONDS, observer)
            relay = InvalidationRelay(log=change_log, sink=sink, keys=keys, gate=guarded.normal, observer=observer)
            inspection = CacheInspection(
                tier=guarded, local=local, coherence=coherence, pending=pending, leads=lambda: relay.leads
            )
            await stack.enter_async_context(running("breaker-probe", guarded.run, observer=observer))
        stack.push_async_callback(cache.close, grace_seconds=_GRACE_SECONDS)
        yield CacheParts(
            cache=cache,
            coherence=coherence,
            tier=guarded,
            relay=relay,
            keys=keys,
            position_watch=watch,
            pending=pending,
            inspection=inspection,
        )


def make_cache_feed(parts: CacheParts, *, control_changed: Callable[[], None], observer: Observer) -> CacheFeed:
    """Return who tells the cache what the change feed says."""
    return CacheFeed(
        cache=parts.cache,
        coherence=parts.coherence,
        keys=parts.keys,
        pending=parts.pending,
        wake_relay=parts.wake_relay,
        control_changed=control_changed,
        observer=observer,
    )


def _make_coherence(
    settings: CacheSettings, *, database_timeout_seconds: float, now_ms: Callable[[], int]
) -> Coherence:
    # Longer than any load lives, so that what it brings can be held against every change since it began.
    floors = Floors(keep_seconds=max(FLOOR_SECONDS, database_timeout_seconds + 2 * CLOCK_MARGIN_SECONDS))
    return Coherence(floors=floors, now_ms=now_ms, join_seconds=settings.local_ttl_seconds or _JOIN_SECONDS)


def _make_truth_state(database: Database, coherence: Coherence, bound_seconds: float) -> Callable[[], TruthState]:
    def truth_state() -> TruthState:
        if database.problem is None:
            return TruthState.ANSWERS
        # If the feed fell silent before the database did, there were changes that nobody here has heard of.
        heard = coherence.heard_after(database.answered_at - bound_seconds)
        return TruthState.DOWN if database.is_down and heard else TruthState.SILENT

    return truth_state


def _open_redis(
    stack: AsyncExitStack, url: str, pool_size: int, timeout_seconds: float, observer: Observer
) -> RedisTier:
    tier = RedisTier(url=url, pool_size=pool_size, timeout_seconds=timeout_seconds, observer=observer)
    stack.push_async_callback(tier.close)
    return tier


def _make_breaker(settings: BreakerSettings, observer: Observer) -> CircuitBreaker:
    return CircuitBreaker(
        failure_threshold=settings.failure_threshold,
        window_seconds=settings.window_seconds,
        failure_rate=settings.failure_rate,
        probe_interval_seconds=settings.probe_interval_seconds,
        observer=observer,
    )
