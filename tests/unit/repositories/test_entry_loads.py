"""Loads of entries: the records of several sessions by one query, and how long they may take."""

import asyncio
import math
from collections.abc import Collection
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest
from typing_extensions import override

from tests.fakes.cached_sessions import LIFETIMES, make_cached_sessions
from tests.fakes.in_memory_session_repository import InMemorySessionRepository
from tests.fakes.memory_tier import MemoryTier
from zpmeow.cache.policy import EntryKey, Loaded
from zpmeow.domain.errors import DatabaseUnavailable, Overloaded
from zpmeow.domain.patience import patience_left
from zpmeow.domain.ports import NewSession
from zpmeow.domain.records import Entity, Snapshot, StatusRecord
from zpmeow.domain.references import ById, SessionReference
from zpmeow.repositories.cache_policies import CachePolicies
from zpmeow.repositories.entry_loads import EntryLoads, entry_load_limits
from zpmeow.repositories.session_entries import SessionEntries

ALL = frozenset(Entity)
STATUS = frozenset({Entity.SESSION, Entity.STATUS})
TRUTH_SECONDS = 10.0


class Truth(InMemorySessionRepository):
    """Notes what it is asked."""

    def __init__(self) -> None:
        """Answer all."""
        super().__init__()
        self.queries: list[set[UUID] | str] = []
        self.error: Exception | None = None
        self.unreadable: UUID | None = None

    async def make(self, count: int) -> list[UUID]:
        """Make sessions."""
        made = [await self.create(NewSession(name=f"s-{n}", key_hash=uuid4().bytes)) for n in range(count)]
        return [one.session.id for one in made]

    @override
    async def find(
        self, reference: SessionReference, entities: frozenset[Entity], *, with_secrets: bool = False
    ) -> Snapshot | None:
        self._note({reference.id} if isinstance(reference, ById) else "by name")
        return await super().find(reference, entities, with_secrets=with_secrets)

    @override
    async def find_many(self, session_ids: Collection[UUID], entities: frozenset[Entity]) -> dict[UUID, Snapshot]:
        self._note(set(session_ids))
        found = {one: await super(Truth, self).find(ById(one), entities) for one in session_ids}
        return {one: snapshot for one, snapshot in found.items() if snapshot is not None}

    def _note(self, asked: set[UUID] | str) -> None:
        self.queries.append(asked)
        if self.error is not None:
            raise self.error
        if not isinstance(asked, str) and self.unreadable in asked:
            raise KeyError(self.unreadable)


class Clock:
    """Both clocks, set by hand."""

    seconds = 100.0

    def monotonic(self) -> float:
        """Return this process' clock."""
        return self.seconds

    def now(self) -> datetime:
        """Return the database's clock."""
        return datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=self.seconds)


CLOCK = Clock()
POLICIES = CachePolicies(LIFETIMES)


@pytest.fixture
def truth() -> Truth:
    """A truth that answers."""
    CLOCK.seconds = 100.0
    return Truth()


@pytest.fixture
def loads(truth: Truth) -> EntryLoads:
    """Loads from that truth."""
    return EntryLoads(truth=truth, entries=SessionEntries(policies=POLICIES, clock=CLOCK))


def keys_of(*session_ids: UUID, entities: Collection[Entity] = ALL) -> list[EntryKey]:
    """Return where these records of the sessions are cached."""
    return [POLICIES.entry_key(one, entity) for one in session_ids for entity in entities]


async def test_records_of_several_sessions_are_one_query(truth: Truth, loads: EntryLoads) -> None:
    """A session that is not there has no entries."""
    ids, absent = await truth.make(3), uuid4()

    found = await loads(keys_of(*ids, absent, entities=STATUS))

    assert truth.queries == [{*ids, absent}]
    assert list(found) == keys_of(*ids, entities=STATUS)
    records = [one.value for one in found.values() if isinstance(one, Loaded)]
    assert [record.session_id for record in records if isinstance(record, StatusRecord)] == ids


async def test_session_that_is_alone_is_asked_for_alone(truth: Truth, loads: EntryLoads) -> None:
    """By the query for one, and for no other records than are wanted."""
    (session_id,) = await truth.make(1)

    found = await loads(keys_of(session_id, entities=[Entity.STATUS]))

    assert truth.queries == [{session_id}]
    assert list(found) == keys_of(session_id, entities=[Entity.STATUS])
    assert await loads(keys_of(uuid4())) == {}


async def test_unavailable_truth_fails_the_load(truth: Truth, loads: EntryLoads) -> None:
    """And is not asked again for each."""
    ids = await truth.make(2)
    truth.error = DatabaseUnavailable("away")

    with pytest.raises(DatabaseUnavailable):
        await loads(keys_of(*ids))

    assert len(truth.queries) == 1


async def test_session_that_cannot_be_read_is_its_own_readers_trouble(truth: Truth, loads: EntryLoads) -> None:
    """When a query for several fails by something else than an unavailable database, each is asked for alone."""
    ids = await truth.make(3)
    truth.unreadable = ids[1]

    with pytest.raises(KeyError):
        await loads(keys_of(ids[1]))
    together = await loads(keys_of(*ids, entities=[Entity.STATUS]))

    assert [type(one) for one in together.values()] == [Loaded, KeyError, Loaded]
    assert truth.queries == [{ids[1]}, set(ids), *({one} for one in ids)]


async def test_statement_that_fails_for_all_is_not_sent_for_each(truth: Truth, loads: EntryLoads) -> None:
    """A missing right, say: everybody learns of it, and the database is not asked a hundred times in a row."""
    ids = await truth.make(20)
    truth.error = KeyError("no such column")

    with pytest.raises(KeyError):
        await loads(keys_of(*ids))

    assert len(truth.queries) == 1 + 3


@pytest.mark.parametrize("waited_seconds", [0.0, 4.0])
async def test_load_has_a_time_of_its_own(waited_seconds: float) -> None:
    """Nearly all that there is, since the first of its callers asked."""
    limits = entry_load_limits(most_under_way=1, truth_seconds=TRUTH_SECONDS, monotonic=CLOCK.monotonic)

    with limits.within(waited_seconds):
        left = patience_left(CLOCK.seconds)

    assert left == 0.9 * TRUTH_SECONDS - waited_seconds
    assert patience_left(CLOCK.seconds) == math.inf


@pytest.mark.parametrize(
    ("waited_seconds", "error"), [(0.0, DatabaseUnavailable), (4.0, DatabaseUnavailable), (4.9, Overloaded)]
)
async def test_load_that_waited_in_line_is_told_of_overload(waited_seconds: float, error: type[Exception]) -> None:
    """Who had a query for most of the time is told what became of it."""
    limits = entry_load_limits(most_under_way=1, truth_seconds=TRUTH_SECONDS, monotonic=CLOCK.monotonic)

    with pytest.raises(error), limits.within(waited_seconds):  # noqa: PT012  (the clock goes on inside)
        CLOCK.seconds += 4.5
        message = "silent"
        raise DatabaseUnavailable(message)


async def test_readers_of_one_turn_share_a_query_and_one_unreadable_session_is_one_readers_trouble(
    truth: Truth,
) -> None:
    """Through an empty cache: each has its own answer, or its own error, or learns that there is none."""
    ids = await truth.make(3)
    cached = make_cached_sessions(truth=truth, tier=MemoryTier(), clock=CLOCK, monotonic=CLOCK.monotonic)
    truth.unreadable = ids[1]

    found = await asyncio.gather(
        *(cached.repository.find(ById(one), STATUS) for one in (*ids, uuid4(), ids[1])), return_exceptions=True
    )
    truth.unreadable = None
    again = await cached.repository.find(ById(ids[1]), STATUS)
    await cached.close()

    assert [type(one) for one in found] == [Snapshot, KeyError, Snapshot, type(None), KeyError]
    assert again is not None
    assert len(truth.queries[0]) == 4


async def test_readers_of_other_records_have_a_query_of_their_own(truth: Truth) -> None:
    """Nobody is made to fetch what he does not want."""
    ids = await truth.make(4)
    cached = make_cached_sessions(truth=truth, tier=MemoryTier(), clock=CLOCK, monotonic=CLOCK.monotonic)

    await asyncio.gather(
        *(
            cached.repository.find(ById(one), wanted)
            for one, wanted in zip(ids, (STATUS, ALL, STATUS, ALL), strict=True)
        )
    )
    await cached.close()

    assert truth.queries == [{ids[0], ids[2]}, {ids[1], ids[3]}]
