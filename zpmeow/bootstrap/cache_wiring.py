"""Puts the cache together: Redis behind its guards, or no cache at all, and the endless tasks that go with it."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from zpmeow.bootstrap.cache_inspection import CacheInspection
from zpmeow.bootstrap.supervision import running
from zpmeow.cache.breaker import CircuitBreaker
from zpmeow.cache.change_publisher import ChangePublisher
from zpmeow.cache.entry_codec import EntryCodec
from zpmeow.cache.errors import CacheError
from zpmeow.cache.floors import Floors
from zpmeow.cache.mode import CacheMode
from zpmeow.cache.null_tier import NullTier
from zpmeow.cache.redis_tier import RedisTier
from zpmeow.cache.resilient_tier import ResilientTier
from zpmeow.cache.tier import CacheTier
from zpmeow.cache.tiered_cache import TieredCache
from zpmeow.cache.unsent import UnsentChanges
from zpmeow.domain.errors import Unavailable
from zpmeow.domain.ports import ControlState
from zpmeow.events import Observer
from zpmeow.settings import BreakerSettings, CacheSettings

_GRACE_SECONDS = 2.0  # At the stop, for fills under way and for changes that Redis has not confirmed.


@dataclass(slots=True, frozen=True, kw_only=True)
class CacheParts:
    """The cache, and what steers and inspects it. `tier` and `inspection` are None where there is no cache."""

    cache: TieredCache
    publisher: ChangePublisher
    tier: ResilientTier | None
    inspection: CacheInspection | None

    def epoch_tag(self) -> str:
        """Return the epoch as a few letters and digits: versions of another epoch mean nothing in this one."""
        return (self.cache.epoch or b"").hex()[:8]

    def follow(self, state: ControlState, _asked_at: float, _answered_at: float, /) -> None:
        """Take over the shared settings."""
        self.cache.set_epoch(state.epoch)
        if self.tier is not None:
            self.tier.set_mode(CacheMode(state.mode))


@asynccontextmanager
async def open_cache(
    *,
    redis_url: str | None,
    settings: CacheSettings,
    breaker: BreakerSettings,
    now_ms: Callable[[], int],
    raise_epoch: Callable[[], Awaitable[bytes]],
    observer: Observer,
) -> AsyncIterator[CacheParts]:
    """Open the cache; without a URL it is the no-op cache. Works with Redis away.

    `raise_epoch` is called at the end if Redis still lacks changes: nobody else knows of them, so that all of
    the cache must become void. May raise Unavailable.
    """
    async with AsyncExitStack() as stack:
        publisher: ChangePublisher
        guarded: ResilientTier | None = None
        tier: CacheTier = NullTier()
        if redis_url is not None:
            redis = RedisTier(
                url=redis_url,
                pool_size=settings.pool_size,
                timeout_seconds=settings.timeout_seconds,
                observer=observer,
            )
            stack.push_async_callback(redis.close)
            # The publisher sends through the guards, and the guards let it catch up before they open.
            tier = guarded = ResilientTier(
                inner=redis,
                breaker=_make_breaker(breaker, observer),
                mode=CacheMode.NORMAL,
                timeout_seconds=settings.timeout_seconds,
                catch_up=lambda: publisher.flush(redis),
            )
        codec = EntryCodec(now_ms=now_ms)
        publisher = ChangePublisher(tier=tier, observer=observer, floors=Floors(), unsent=UnsentChanges())
        cache = TieredCache(
            tier=tier,
            codec=codec,
            publisher=publisher,
            now_ms=now_ms,
            unavailable=Unavailable,
            observer=observer,
        )
        if guarded is not None:
            stack.push_async_callback(_send_the_rest, publisher, redis, guarded, raise_epoch)
            await stack.enter_async_context(running("breaker-probe", guarded.run, observer=observer))
            await stack.enter_async_context(running("flush-changes", publisher.run, observer=observer))
        stack.push_async_callback(cache.close, grace_seconds=_GRACE_SECONDS)
        yield CacheParts(
            cache=cache,
            publisher=publisher,
            tier=guarded,
            inspection=None if guarded is None else CacheInspection(tier=guarded, is_believed=lambda: cache.is_trusted),
        )


def _make_breaker(settings: BreakerSettings, observer: Observer) -> CircuitBreaker:
    return CircuitBreaker(
        failure_threshold=settings.failure_threshold,
        window_seconds=settings.window_seconds,
        failure_rate=settings.failure_rate,
        probe_interval_seconds=settings.probe_interval_seconds,
        observer=observer,
    )


async def _send_the_rest(
    publisher: ChangePublisher, redis: RedisTier, guarded: ResilientTier, raise_epoch: Callable[[], Awaitable[bytes]]
) -> None:
    """The stop's last word to Redis, whatever the breaker says: Redis may be back and the next probe not due yet.

    In bypass nothing is sent. With Redis and the database both away, nothing more can be done.
    """
    if guarded.mode is CacheMode.NORMAL:
        await _flush(publisher, redis)
    if publisher.unsent_count or publisher.lost_changes:
        await _make_void(raise_epoch)


async def _flush(publisher: ChangePublisher, redis: RedisTier) -> None:
    try:
        await publisher.flush(redis)
    except CacheError:
        return  # Each call had its deadline; that Redis is away has been told by the breaker.


async def _make_void(raise_epoch: Callable[[], Awaitable[bytes]]) -> None:
    try:
        await raise_epoch()
    except Unavailable:
        return  # It had its deadline, too, and the database's observers tell of it.
