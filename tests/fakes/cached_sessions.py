"""The cached repository put together as the service does it, over a truth and a tier of the test's choice."""

from collections.abc import Callable
from dataclasses import dataclass

from zpmeow.cache.change_publisher import ChangePublisher
from zpmeow.cache.entry_codec import EntryCodec
from zpmeow.cache.floors import Floors
from zpmeow.cache.tier import CacheTier
from zpmeow.cache.tiered_cache import TieredCache
from zpmeow.cache.unsent import UnsentChanges
from zpmeow.domain.errors import Unavailable
from zpmeow.domain.ports import Clock, SessionRepository
from zpmeow.events import Observer, ignore
from zpmeow.repositories.cache_policies import CacheLifetimes, CachePolicies
from zpmeow.repositories.cached_session_repository import CachedSessionRepository

EPOCH = b"e" * 16
LIFETIMES = CacheLifetimes(
    session_seconds=86_400, status_seconds=300, qr_seconds=60, credential_seconds=21_600, stale_if_error=True
)


@dataclass(frozen=True, kw_only=True)
class CachedSessions:
    """The repository and the parts that a test may want to reach."""

    repository: CachedSessionRepository
    cache: TieredCache
    publisher: ChangePublisher

    async def close(self) -> None:
        """End what runs."""
        await self.repository.close(grace_seconds=1)
        await self.cache.close(grace_seconds=1)


def make_cached_sessions(
    *,
    truth: SessionRepository,
    tier: CacheTier,
    clock: Clock,
    monotonic: Callable[[], float],
    floor_seconds: float = 10,
    observer: Observer = ignore,
) -> CachedSessions:
    """Wire the parts up, in an epoch. Floors are short, so that tests outlive them."""

    def now_ms() -> int:
        return int(clock.now().timestamp() * 1000)

    publisher = ChangePublisher(
        tier=tier,
        observer=observer,
        floors=Floors(monotonic=monotonic, keep_seconds=floor_seconds),
        unsent=UnsentChanges(),
    )
    cache = TieredCache(
        tier=tier,
        codec=EntryCodec(now_ms=now_ms),
        publisher=publisher,
        now_ms=now_ms,
        unavailable=Unavailable,
        observer=observer,
    )
    cache.set_epoch(EPOCH)
    repository = CachedSessionRepository(
        truth=truth, cache=cache, policies=CachePolicies(LIFETIMES), clock=clock, observer=observer
    )
    return CachedSessions(repository=repository, cache=cache, publisher=publisher)
