"""How the cache is, asked through its own guards: never longer than its deadline, never an error."""

from collections.abc import Callable

from typing_extensions import override

from zpmeow.cache.coherence import Coherence
from zpmeow.cache.errors import CacheBusy, CacheError
from zpmeow.cache.local_tier import LocalTier
from zpmeow.cache.pending_changes import PendingChanges
from zpmeow.cache.position import POSITION_KEY
from zpmeow.cache.resilient_tier import ResilientTier
from zpmeow.domain.ports import Health
from zpmeow.services.cache_control import CacheFacts


class CacheInspection(Health):
    """Asks the guarded tier. What it finds out counts for the breaker like any call."""

    def __init__(
        self,
        *,
        tier: ResilientTier,
        local: LocalTier,
        coherence: Coherence,
        pending: PendingChanges,
        leads: Callable[[], bool],
    ) -> None:
        """Inspect these tiers; `leads`: this process brings the change log to Redis."""
        self._tier = tier
        self._local = local
        self._coherence = coherence
        self._pending = pending
        self._leads = leads

    @override
    async def problem(self) -> str | None:
        reason = self._tier.unusable_because
        if reason is not None:
            return reason
        try:
            await self._tier.probe()
            (position,) = await self._tier.get_many([POSITION_KEY])
        except CacheBusy:
            return None  # Says nothing about Redis: this process has more to ask than connections.
        except CacheError as error:
            return str(error)
        doubt = self._coherence.judge(position).reason
        return None if doubt is None else f"not believed: {doubt}"

    async def facts(self) -> CacheFacts:
        """Return how the cache is now."""
        problem = self._tier.unusable_because
        info = None
        if problem is None:
            try:
                info = await self._tier.describe()
            except CacheError as error:
                problem = str(error)
        doubt = self._coherence.verdict.reason
        position = self._coherence.position
        return CacheFacts(
            connected=info is not None,
            keys=None if info is None else info.total_keys,
            version=None if info is None else info.version,
            circuit=self._tier.circuit_state.value,
            trusted=self._tier.unusable_because is None and doubt is None,
            problem=problem or doubt,
            lag_seconds=self._coherence.lag_seconds,
            lag_changes=self._pending.later_than(None if position is None else position.at_ms),
            leads_relay=self._leads(),
            local_entries=len(self._local),
            local_bytes=self._local.used_bytes,
        )
