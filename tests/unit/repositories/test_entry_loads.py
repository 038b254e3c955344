"""Loads of entries: the records of several sessions by one query, and how long they may take."""

import asyncio
import math
import time
from collections.abc import Collection
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest
from typing_extensions import override

from tests.fakes.cached_sessions import LIFETIMES, make_cached_sessions
from tests.fakes.in_memory_session_repository import InMemorySessionRepository
from tests.fakes.memory_tier import MemoryTier
from zpmeow.cache.policy import EntryKey, Loaded, LoadFailure
from zpmeow.cache.single_flight import MOST_KEYS
from zpmeow.domain.errors import DatabaseUnavailable, Overloaded
from zpmeow.domain.patience import patience_left, patience_until
from zpmeow.domain.ports import NewSession
from zpmeow.domain.records import Entity, Snapshot, StatusRecord
from zpmeow.domain.references import ById, ByName, SessionReference
from zpmeow.repositories.cache_policies import CachePolicies
from zpmeow.repositories.entry_loads import EntryLoads, entry_load_limits
from zpmeow.repositories.session_entries import SessionEntries

ALL = frozenset(Entity)
STATUS = frozenset({Entity.SESSION, Entity.STATUS})
TRUTH_SECONDS = 10.0


class Truth(InMemorySessionRepository):
    """Notes what it is asked, and answers when it may."""

    def __init__(self) -> None:
        """Answer all."""
        super().__init__()
        self.queries: list[set[UUID] | str] = []
        self.patience: list[float] = []
        self.may_answer = asyncio.Event()
        self.may_answer.set()
        self.error: Exception | None = None
        self.unreadable: set[UUID] = set()

    async def make(self, count: int) -> list[UUID]:
        """Make sessions."""
        made = [await self.create(NewSession(name=f"s-{n}", key_hash=uuid4().bytes)) for n in range(count)]
        return [one.session.id for one in made]

    @override
    async def find(
        self, reference: SessionReference, entities: frozenset[Entity], *, with_secrets: bool = False
    ) -> Snapshot | None:
        await self._note({reference.id} if isinstance(reference, ById) else "by name")
        return await super().find(reference, entities, with_secrets=with_secrets)

    @override
    async def find_many(self, session_ids: Collection[UUID], entities: frozenset[Entity]) -> dict[UUID, Snapshot]:
        await self._note(set(session_ids))
        found = {one: await super(Truth, self).find(ById(one), entities) for one in session_ids}
        return {one: snapshot for one, snapshot in found.items() if snapshot is not None}

    async def _note(self, asked: set[UUID] | str) -> None:
        self.queries.append(asked)
        self.patience.append(patience_left(CLOCK.seconds))
        await self.may_answer.wait()
        if self.error is not None:
            raise self.error
        if not isinstance(asked, str) and asked & self.unreadable:
            raise KeyError(*asked)


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
    """When a query for several fails by something else than an unavailable database, halves are asked for."""
    ids = await truth.make(100)
    truth.unreadable = {ids[30]}

    with pytest.raises(KeyError):
        await loads(keys_of(ids[30]))
    together = await loads(keys_of(*ids, entities=[Entity.STATUS]))

    failed = [key for key, one in together.items() if isinstance(one, LoadFailure)]
    assert failed == keys_of(ids[30], entities=[Entity.STATUS])
    assert len(together) == 100
    assert len(truth.queries) < 20


async def test_others_are_answered_when_the_truth_goes_away_while_one_that_cannot_be_read_is_looked_for(
    truth: Truth, loads: EntryLoads
) -> None:
    """Those that were read by then, that is; no other is asked for any more."""
    ids = await truth.make(8)
    truth.unreadable = {ids[3]}
    find_many = truth.find_many

    async def find_many_and_go_away(session_ids: Collection[UUID], entities: frozenset[Entity]) -> dict[UUID, Snapshot]:
        found = await find_many(session_ids, entities)
        truth.error = DatabaseUnavailable("away")
        return found

    truth.find_many = find_many_and_go_away  # type: ignore[method-assign]
    together = await loads(keys_of(*ids, entities=[Entity.STATUS]))

    assert [isinstance(one, LoadFailure) for one in together.values()] == [False] * 2 + [True] * 6
    errors = [type(one.error()) for one in together.values() if isinstance(one, LoadFailure)]
    assert errors == [DatabaseUnavailable] * 6
    assert truth.queries == [set(ids), set(ids[:4]), set(ids[:2]), set(ids[2:4])]


async def test_all_others_are_read_when_several_cannot_be(truth: Truth, loads: EntryLoads) -> None:
    """However many, once one was read."""
    ids = await truth.make(40)
    truth.unreadable = set(ids[::5])

    together = await loads(keys_of(*ids, entities=[Entity.STATUS]))

    failed = {key for key, one in together.items() if isinstance(one, LoadFailure)}
    assert failed == set(keys_of(*truth.unreadable, entities=[Entity.STATUS]))
    assert len(together) == 40


async def test_statement_that_fails_for_all_is_not_sent_for_each(truth: Truth, loads: EntryLoads) -> None:
    """A missing right, say: everybody learns of it, and the database is not asked a hundred times in a row."""
    ids = await truth.make(100)
    truth.error = KeyError("no such column")

    with pytest.raises(KeyError):
        await loads(keys_of(*ids))

    assert len(truth.queries) < 12


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
    truth.unreadable = {ids[1]}

    found = await asyncio.gather(
        *(cached.repository.find(ById(one), STATUS) for one in (*ids, uuid4(), ids[1])), return_exceptions=True
    )
    truth.unreadable = set()
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


async def test_what_comes_while_all_queries_are_under_way_is_the_next_one(truth: Truth) -> None:
    """It has less time then, and is told of overload if most of that was spent in line."""
    ids = await truth.make(4)
    limits = entry_load_limits(most_under_way=1, truth_seconds=TRUTH_SECONDS, monotonic=CLOCK.monotonic)
    cached = make_cached_sessions(
        truth=truth, tier=MemoryTier(), clock=CLOCK, monotonic=CLOCK.monotonic, load_limits=limits
    )
    truth.may_answer.clear()
    truth.error = DatabaseUnavailable("silent")
    reads = []
    for session_id in ids[:3]:
        reads.append(asyncio.create_task(cached.repository.find(ById(session_id), ALL)))
        await settle()
    waiting = cached.cache.waiting
    CLOCK.seconds += 0.8 * TRUTH_SECONDS
    reads.append(asyncio.create_task(cached.repository.find(ById(ids[3]), ALL)))  # Too late for that one.
    await settle()
    truth.may_answer.set()
    ended = await asyncio.gather(*reads, return_exceptions=True)
    await cached.close()

    assert (waiting, cached.cache.waiting) == (2, 0)
    assert truth.queries == [{ids[0]}, {ids[1], ids[2]}, {ids[3]}]
    assert truth.patience == pytest.approx([9.0, 1.0, 9.0])
    assert [type(one) for one in ended] == [DatabaseUnavailable, Overloaded, Overloaded, DatabaseUnavailable]


async def test_queries_are_of_so_many_sessions_at_most(truth: Truth) -> None:
    """The conversation costs next to nothing by then."""
    cached = make_cached_sessions(truth=truth, tier=MemoryTier(), clock=CLOCK, monotonic=CLOCK.monotonic)
    ids = [UUID(int=number) for number in range(MOST_KEYS // len(ALL) + 1)]

    await asyncio.gather(*(cached.repository.find(ById(one), ALL) for one in ids))
    await cached.close()

    assert [len(one) for one in truth.queries] == [len(ids) - 1, 1]


@pytest.mark.parametrize("reference", [ById(UUID(int=1)), ByName("s-0")])
async def test_caller_waits_for_a_load_as_long_as_he_has_time(
    truth: Truth, reference: SessionReference, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The load goes on without him."""
    monkeypatch.setattr("zpmeow.domain.patience._GRACE_SECONDS", 0.0)
    cached = make_cached_sessions(truth=truth, tier=MemoryTier(), clock=CLOCK, monotonic=CLOCK.monotonic)
    truth.may_answer.clear()

    with patience_until(time.monotonic()), pytest.raises(Overloaded):
        await cached.repository.find(reference, ALL)
    truth.may_answer.set()
    await cached.close()

    assert len(truth.queries) == 1


async def test_several_names_of_one_turn_are_loaded_each_by_its_own_query(truth: Truth) -> None:
    """There is no statement for several; one name that is asked for twice is loaded once."""
    ids = await truth.make(2)
    cached = make_cached_sessions(truth=truth, tier=MemoryTier(), clock=CLOCK, monotonic=CLOCK.monotonic)

    found = await asyncio.gather(*(cached.repository.find(ByName(name), ALL) for name in ("s-0", "s-1", "s-0")))
    await cached.close()

    assert [one.session.id for one in found if one is not None] == [*ids, ids[0]]
    assert truth.queries == ["by name", "by name"]


async def settle() -> None:
    """Let everything run that can."""
    for _ in range(20):
        await asyncio.sleep(0)
