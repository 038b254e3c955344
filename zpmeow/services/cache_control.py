"""What operators do with the cache: look at it, switch it, empty one session's part of it, warm it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from zpmeow.cache.mode import CacheMode
from zpmeow.domain.errors import SessionNotFound
from zpmeow.domain.ports import ControlStore, Health
from zpmeow.domain.records import Snapshot
from zpmeow.domain.references import SessionReference
from zpmeow.services.control_watch import ControlWatch
from zpmeow.services.system_state import SystemState


@dataclass(slots=True, frozen=True, kw_only=True)
class CacheFacts:
    """What the cache says of itself. `keys` and `version` are None while Redis does not answer.

    `lag_seconds`: how old the position is that Redis was last seen with; None: it has none. `lag_changes`: changes that
    were told of since. `local_…`: the tier inside the process.
    """

    connected: bool
    keys: int | None
    version: str | None
    circuit: str
    trusted: bool
    problem: str | None
    lag_seconds: float | None = None
    lag_changes: int = 0
    leads_relay: bool = False
    local_entries: int = 0
    local_bytes: int = 0


@dataclass(slots=True, frozen=True, kw_only=True)
class PoolFacts:
    """Database connections of this process, and callers waiting for one."""

    size: int
    idle: int
    in_use: int
    waiting: int


class CacheInspection(Protocol):
    """Asks the cache how it is, within the cache's deadline; never raises."""

    async def facts(self) -> CacheFacts:
        """Return the facts of now."""
        ...


class PoolInspection(Protocol):
    """Tells how the pool is used, without waiting."""

    def pool_facts(self) -> PoolFacts:
        """Return the facts of now."""
        ...


class SessionCache(Protocol):
    """The part of the cached repository that operators reach."""

    async def invalidate(self, reference: SessionReference) -> Snapshot | None:
        """Make the session's cached entries unreadable; return the session as the database has it."""
        ...

    async def warm(self, limit: int) -> int:
        """Load the most recently changed sessions into the cache; return how many entries were sent."""
        ...


class CacheControl:
    """The operator's hand on the cache."""

    def __init__(
        self,
        *,
        cache: CacheInspection | None,
        sessions: SessionCache,
        store: ControlStore,
        watch: ControlWatch,
        database: Health,
        pool: PoolInspection,
        feed_is_live: Callable[[], bool],
    ) -> None:
        """Work on these parts; no cache: it is disabled. The change feed runs without one, too."""
        self._cache = cache
        self._sessions = sessions
        self._store = store
        self._watch = watch
        self._database = database
        self._pool = pool
        self._feed_is_live = feed_is_live

    async def state(self) -> SystemState:
        """Return how everything is now."""
        disabled = CacheFacts(
            connected=False, keys=None, version=None, circuit="closed", trusted=False, problem="disabled"
        )
        cache = disabled if self._cache is None else await self._cache.facts()
        pool = self._pool.pool_facts()
        return SystemState(
            cache_enabled=self._cache is not None,
            cache_connected=cache.connected,
            cache_keys=cache.keys,
            cache_version=cache.version,
            circuit=cache.circuit,
            mode=self._watch.mode,
            cache_trusted=cache.trusted,
            cache_problem=cache.problem,
            lag_seconds=cache.lag_seconds,
            lag_changes=cache.lag_changes,
            feed_is_live=self._feed_is_live(),
            leads_relay=cache.leads_relay,
            local_entries=cache.local_entries,
            local_bytes=cache.local_bytes,
            database_problem=await self._database.problem(),
            pool_size=pool.size,
            pool_idle=pool.idle,
            pool_in_use=pool.in_use,
            pool_waiting=pool.waiting,
        )

    async def set_mode(self, mode: CacheMode) -> None:
        """Switch the mode: here at once, in every process within 1 s, and after restarts."""
        await self._store.set_mode(mode)
        await self._watch.refresh()

    async def invalidate(self, reference: SessionReference) -> Snapshot:
        """Empty the cache of one session. Raises SessionNotFound."""
        found = await self._sessions.invalidate(reference)
        if found is None:
            message = "no session has that id or name"
            raise SessionNotFound(message)
        return found

    async def warm(self, limit: int) -> int:
        """Load up to `limit` sessions into the cache; return how many entries were sent."""
        return await self._sessions.warm(limit)
