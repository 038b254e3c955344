"""What the API stands on in these tests: the real services over parts that a test can break at will."""

import asyncio
import math
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import TypeVar
from uuid import UUID

from typing_extensions import override

from tests.fakes.in_memory_command_queue import InMemoryCommandQueue
from tests.fakes.in_memory_session_repository import InMemorySessionRepository
from zpmeow.domain.changes import Change
from zpmeow.domain.errors import DatabaseUnavailable, DomainError
from zpmeow.domain.patience import patience_left
from zpmeow.domain.ports import ControlState, ControlStore
from zpmeow.domain.records import Entity, ReadSource, Snapshot, SnapshotRecall
from zpmeow.domain.references import ById, ByName, SessionReference
from zpmeow.events import Event
from zpmeow.services.cache_control import CacheFacts, PoolFacts
from zpmeow.services.log_control import LogControl, LogLevel
from zpmeow.services.system_state import SystemState

EventT = TypeVar("EventT")


class BreakableRepository(InMemorySessionRepository):
    """Sessions in memory; reads say `source`, and everything raises `failure` while there is one.

    `patience` is what the last reader had. With a `recall`, reads can be repeated, from this process' memory or by
    reading again. While the `gate` is not set, reads wait; those of a session that is `lost`, by its id, fail.
    """

    source: ReadSource = ReadSource.MISS
    failure: Exception | None = None
    recall: "SettableRecall | None" = None
    epoch_tag: str = "0"
    finds: int = 0
    patience: float = math.inf
    invalidated: list[SessionReference]
    gate: asyncio.Event
    lost: set[UUID]

    def __init__(
        self,
        *,
        commands: InMemoryCommandQueue | None = None,
        committed: Callable[[Sequence[Change]], None] = lambda _changes: None,
    ) -> None:
        """Start empty and whole."""
        super().__init__(commands=commands, committed=committed)
        self.invalidated = []
        self.lost = set()
        self.gate = asyncio.Event()
        self.gate.set()

    @override
    async def find(
        self, reference: SessionReference, entities: frozenset[Entity], *, with_secrets: bool = False
    ) -> Snapshot | None:
        self.finds += 1
        self.patience = patience_left(time.monotonic())
        await self.gate.wait()
        if self.failure is not None:
            raise self.failure
        if isinstance(reference, ById) and reference.id in self.lost:
            message = "only the database could answer for it"
            raise DatabaseUnavailable(message)
        found = await super().find(reference, entities, with_secrets=with_secrets)
        if found is None:
            return None
        if self.recall is None or with_secrets:
            return Snapshot(records=found.records, source=self.source)
        recall = self.recall
        return Snapshot(
            records=found.records,
            source=self.source,
            make_recall=lambda: RepeatableRead(recall, lambda: self.find(ById(found.session.id), entities)),
        )

    def restore(self, name: str, *, proxy_url: str) -> None:
        """Change the session as a restored backup does: under the same version."""
        rows = self._look_up(ByName(name))
        assert rows is not None
        rows.session = replace(rows.session, proxy_url=proxy_url)

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
class SettableRecall:
    """Whether this process' memory repeats a read, as a test sets it, and how often it has."""

    holds: bool = True
    repeated: int = 0


@dataclass(slots=True)
class RepeatableRead(SnapshotRecall):
    """A read that is repeated while `recall` says that it holds."""

    recall: SettableRecall
    find: Callable[[], Awaitable[Snapshot | None]]

    @override
    def repeat(self) -> bool:
        self.recall.repeated += self.recall.holds
        return self.recall.holds

    @override
    async def read(self) -> Snapshot | None:
        return await self.find()


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


class RecordedLog(LogControl):
    """Notes to which levels it was set."""

    def __init__(self) -> None:
        """To none yet."""
        self.levels: list[LogLevel] = []

    @override
    def set_level(self, level: LogLevel) -> None:
        self.levels.append(level)


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

    def of(self, kind: type[EventT]) -> list[EventT]:
        """Return the events of a kind."""
        return [event for event in self.events if isinstance(event, kind)]


def database_away() -> DatabaseUnavailable:
    """Return what repositories raise while the database is away."""
    return DatabaseUnavailable("the database does not answer")
