"""What the API stands on in these tests: the real services over parts that a test can break at will."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

from typing_extensions import override

from tests.fakes.in_memory_session_repository import InMemorySessionRepository
from zpmeow.domain.errors import DatabaseUnavailable, DomainError
from zpmeow.domain.ports import ControlState, ControlStore
from zpmeow.domain.records import Entity, ReadSource, Snapshot
from zpmeow.domain.references import SessionReference
from zpmeow.events import Event
from zpmeow.services.cache_control import CacheFacts, PoolFacts
from zpmeow.services.system_state import SystemState


class BreakableRepository(InMemorySessionRepository):
    """Sessions in memory; reads say `source`, and everything raises `failure` while there is one."""

    source: ReadSource = ReadSource.MISS
    failure: Exception | None = None
    invalidated: list[SessionReference]

    def __init__(self) -> None:
        """Start empty and whole."""
        super().__init__()
        self.invalidated = []

    @override
    async def find(
        self, reference: SessionReference, entities: frozenset[Entity], *, with_secrets: bool = False
    ) -> Snapshot | None:
        if self.failure is not None:
            raise self.failure
        found = await super().find(reference, entities, with_secrets=with_secrets)
        return None if found is None else Snapshot(records=found.records, source=self.source)

    async def invalidate(self, reference: SessionReference) -> Snapshot | None:
        """Remember whose cache was emptied."""
        found = await self.find(reference, frozenset())
        if found is not None:
            self.invalidated.append(reference)
        return found

    async def warm(self, limit: int) -> int:
        """Send four entries a session."""
        return 4 * len(await self.recent(limit))


@dataclass(slots=True)
class SettableClock:
    """A clock that stands until a test sets it; None: the wall's."""

    time: datetime | None = None

    def now(self) -> datetime:
        """Return the time."""
        return self.time or datetime.now(UTC)


@dataclass(slots=True)
class SettableHealth:
    """Something whose problem a test sets."""

    reason: str | None = None

    async def problem(self) -> str | None:
        """Return what the test set."""
        return self.reason


@dataclass(slots=True)
class MemoryControlStore(ControlStore):
    """The shared settings in memory."""

    mode: str = "normal"
    failure: DomainError | None = None

    @override
    async def read(self) -> ControlState:
        if self.failure is not None:
            raise self.failure
        return ControlState(mode=self.mode, epoch=bytes(16), read_at=datetime.now(UTC))

    @override
    async def set_mode(self, mode: str) -> None:
        if self.failure is not None:
            raise self.failure
        self.mode = mode


class WholeCache:
    """A cache that is well."""

    async def facts(self) -> CacheFacts:
        """Return how it is."""
        return CacheFacts(connected=True, keys=42, version="Redis 7.0.15", circuit="closed", trusted=True, problem=None)


class QuietPool:
    """A pool that nobody waits for."""

    def pool_facts(self) -> PoolFacts:
        """Return how it is."""
        return PoolFacts(size=10, idle=10, in_use=0, waiting=0)


class PlainExposition:
    """Writes the state down without any figures."""

    def as_json(self, state: SystemState) -> Mapping[str, object]:
        """Return the state."""
        return {
            "cache": {
                "connected": state.cache_connected,
                "total_keys": state.cache_keys,
                "version": state.cache_version,
                "hit_rate": None,
                "breaker": state.circuit,
                "mode": state.mode,
                "latency_ms": {"p50": None, "p99": None},
            },
            "database": {"pool": {"size": state.pool_size, "idle": state.pool_idle}},
        }

    def as_text(self, state: SystemState, accept: str) -> tuple[bytes, str]:
        """Return one metric."""
        kind = "application/openmetrics-text" if "openmetrics" in accept else "text/plain"
        return f"zpmeow_cache_connected {int(state.cache_connected)}\n".encode(), f"{kind}; charset=utf-8"


@dataclass(slots=True)
class RecordedEvents:
    """An observer that keeps everything."""

    events: list[Event] = field(default_factory=list)

    def __call__(self, event: Event, /) -> None:
        """Keep the event."""
        self.events.append(event)

    def of(self, kind: type[Event]) -> list[Event]:
        """Return the events of a kind."""
        return [event for event in self.events if isinstance(event, kind)]


def database_away() -> DatabaseUnavailable:
    """Return what repositories raise while the database is away."""
    return DatabaseUnavailable("the database does not answer")
