"""Is the service well: the database decides, the cache only degrades."""

import asyncio
from dataclasses import dataclass
from enum import StrEnum

from zpmeow.domain.errors import DatabaseUnavailable
from zpmeow.domain.ports import Health


class HealthStatus(StrEnum):
    """OK: all works. DEGRADED: works without its cache. UNHEALTHY: cannot work."""

    OK = "ok"
    DEGRADED = "degraded"
    UNHEALTHY = "unhealthy"


@dataclass(slots=True, frozen=True, kw_only=True)
class HealthReport:
    """How the parts are: a problem in a few words, None where there is none."""

    status: HealthStatus
    database_problem: str | None
    cache_problem: str | None
    cache_enabled: bool


class HealthService:
    """Checks the parts side by side, each within 1 s."""

    def __init__(self, *, database: Health, cache: Health | None) -> None:
        """Watch the database and the cache; no cache: it is disabled."""
        self._database = database
        self._cache = cache
        self._has_started = False
        self._accepts_traffic = False

    async def report(self) -> HealthReport:
        """Check all parts now."""
        if self._cache is None:
            database_problem, cache_problem = await self._database.problem(), None
        else:
            database_problem, cache_problem = await asyncio.gather(self._database.problem(), self._cache.problem())
        if database_problem is not None:
            status = HealthStatus.UNHEALTHY
        elif cache_problem is not None:
            status = HealthStatus.DEGRADED
        else:
            status = HealthStatus.OK
        return HealthReport(
            status=status,
            database_problem=database_problem,
            cache_problem=cache_problem,
            cache_enabled=self._cache is not None,
        )

    @property
    def accepts_traffic(self) -> bool:
        """Whether the service is between its start and its stop."""
        return self._accepts_traffic

    def check_started(self) -> None:
        """Raise DatabaseUnavailable before the start is done: nobody knows yet what the database holds."""
        if not self._has_started:
            message = "the service is starting and waits for its database"
            raise DatabaseUnavailable(message)

    def open_to_traffic(self) -> None:
        """The start is done."""
        self._has_started = True
        self._accepts_traffic = True

    def close_to_traffic(self) -> None:
        """The stop has begun."""
        self._accepts_traffic = False
