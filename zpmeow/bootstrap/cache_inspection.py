"""How the cache is, asked through its own guards: never longer than its deadline, never an error."""

from collections.abc import Callable

from typing_extensions import override

from zpmeow.cache.errors import CacheBusy, CacheError
from zpmeow.cache.resilient_tier import ResilientTier
from zpmeow.domain.ports import Health
from zpmeow.services.cache_control import CacheFacts


class CacheInspection(Health):
    """Asks the guarded tier. What it finds out counts for the breaker like any call."""

    def __init__(self, *, tier: ResilientTier, is_believed: Callable[[], bool]) -> None:
        """Inspect this tier; `is_believed`: this process has not lost track of what it should hold."""
        self._tier = tier
        self._is_believed = is_believed

    @override
    async def problem(self) -> str | None:
        reason = self._tier.unusable_because
        if reason is not None:
            return reason
        try:
            await self._tier.probe()
        except CacheBusy:
            return None  # Says nothing about Redis: this process has more to ask than connections.
        except CacheError as error:
            return str(error)
        return None

    async def facts(self) -> CacheFacts:
        """Return how the cache is now."""
        problem = self._tier.unusable_because
        info = None
        if problem is None:
            try:
                info = await self._tier.describe()
            except CacheError as error:
                problem = str(error)
        return CacheFacts(
            connected=info is not None,
            keys=None if info is None else info.total_keys,
            version=None if info is None else info.version,
            circuit=self._tier.circuit_state.value,
            trusted=self._tier.unusable_because is None and self._is_believed(),
            problem=problem,
        )
