"""Reads of the truth by id, several in one query."""

import asyncio
from collections.abc import Collection
from uuid import UUID, uuid4

import pytest
from typing_extensions import override

from tests.fakes.in_memory_session_repository import InMemorySessionRepository
from zpmeow.domain.errors import DatabaseUnavailable, Overloaded
from zpmeow.domain.patience import patience_left, patience_until
from zpmeow.domain.ports import NewSession
from zpmeow.domain.records import Entity, Snapshot
from zpmeow.domain.references import ById, ByName, SessionReference
from zpmeow.repositories.batched_finds import MOST_IN_A_BATCH, BatchedFinds

ALL = frozenset(Entity)
STATUS = frozenset({Entity.SESSION, Entity.STATUS})
TRUTH_SECONDS = 10.0


class Truth(InMemorySessionRepository):
    """Notes what it is asked, and answers when it may."""

    def __init__(self) -> None:
        """Answer at once."""
        super().__init__()
        self.queries: list[set[UUID] | str] = []
        self.patience: list[float] = []
        self.may_answer = asyncio.Event()
        self.may_answer.set()
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
        await self._note({reference.id} if isinstance(reference, ById) else "by name")
        return await super().find(reference, entities, with_secrets=with_secrets)

    @override
    async def find_many(self, session_ids: Collection[UUID], entities: frozenset[Entity]) -> dict[UUID, Snapshot]:
        await self._note(set(session_ids))
        found = {one: await super(Truth, self).find(ById(one), entities) for one in session_ids}
        return {one: snapshot for one, snapshot in found.items() if snapshot is not None}

    async def _note(self, asked: set[UUID] | str) -> None:
        self.queries.append(asked)
        self.patience.append(patience_left(CLOCK.now))
        await self.may_answer.wait()
        if self.error is not None:
            raise self.error
        if not isinstance(asked, str) and self.unreadable in asked:
            raise KeyError(self.unreadable)


class Clock:
    """A clock that is set."""

    now = 100.0

    def __call__(self) -> float:
        """Return the time."""
        return self.now


CLOCK = Clock()


@pytest.fixture
def truth() -> Truth:
    """A truth that answers at once."""
    CLOCK.now = 100.0
    return Truth()


def finds_in(truth: Truth, *, most_under_way: int = 1) -> BatchedFinds:
    """Read that truth."""
    return BatchedFinds(truth=truth, most_under_way=most_under_way, truth_seconds=TRUTH_SECONDS, monotonic=CLOCK)


async def settle() -> None:
    """Let everything run that can."""
    for _ in range(10):
        await asyncio.sleep(0)


async def test_reads_of_one_turn_are_one_query(truth: Truth) -> None:
    """Each gets its own answer: the session, or that there is none."""
    ids, absent = await truth.make(3), uuid4()
    finds = finds_in(truth)

    found = await asyncio.gather(*(finds.find(ById(one), ALL) for one in [*ids, absent, ids[0]]))

    assert truth.queries == [{*ids, absent}]
    assert [None if one is None else one.session.id for one in found] == [*ids, None, ids[0]]


async def test_read_that_is_alone_is_asked_alone(truth: Truth) -> None:
    """By the query for one; other records, names and secrets are asked for on their own."""
    (session_id,) = await truth.make(1)
    finds = finds_in(truth, most_under_way=9)

    found = await asyncio.gather(
        finds.find(ById(session_id), ALL),
        finds.find(ById(session_id), STATUS),
        finds.find(ById(session_id), ALL, with_secrets=True),
        finds.find(ByName("s-0"), ALL),
    )

    assert sorted(map(str, truth.queries)) == sorted(["by name", *[str({session_id})] * 3])
    assert all(one is not None and one.session.id == session_id for one in found)
    assert found[1] is not None
    assert found[1].records.keys() == STATUS


async def test_reads_wait_for_a_query_to_end_when_so_many_are_under_way(truth: Truth) -> None:
    """What comes meanwhile is one query then."""
    ids = await truth.make(6)
    finds = finds_in(truth, most_under_way=2)
    truth.may_answer.clear()
    reads = []
    for session_id in ids:
        reads.append(asyncio.create_task(finds.find(ById(session_id), ALL)))
        await settle()

    assert truth.queries == [{ids[0]}, {ids[1]}]
    truth.may_answer.set()
    found = await asyncio.gather(*reads)

    assert truth.queries[2:] == [set(ids[2:])]
    assert [one.session.id for one in found if one is not None] == ids


async def test_batch_takes_no_more_when_it_is_full(truth: Truth) -> None:
    """The next one is begun."""
    finds = finds_in(truth, most_under_way=9)
    ids = [UUID(int=number) for number in range(MOST_IN_A_BATCH + 1)]

    await asyncio.gather(*(finds.find(ById(one), ALL) for one in ids))

    assert [len(one) for one in truth.queries] == [MOST_IN_A_BATCH, 1]


async def test_failure_is_that_of_all_who_asked(truth: Truth) -> None:
    """And of nobody after them."""
    (session_id,) = await truth.make(1)
    finds = finds_in(truth)
    truth.error = DatabaseUnavailable("away")

    failed = await asyncio.gather(
        *(finds.find(ById(one), ALL) for one in (session_id, uuid4())), return_exceptions=True
    )
    truth.error = None

    assert len(truth.queries) == 1
    assert failed == [truth_error := failed[0], truth_error]
    assert isinstance(failed[0], DatabaseUnavailable)
    assert await finds.find(ById(session_id), ALL) is not None


async def test_session_that_cannot_be_read_is_its_own_readers_trouble(truth: Truth) -> None:
    """When a query for several fails by something else than an unavailable database, each is asked for alone."""
    ids = await truth.make(3)
    truth.unreadable = ids[1]

    found = await asyncio.gather(*(finds_in(truth).find(ById(one), ALL) for one in ids[1:2]), return_exceptions=True)
    finds = finds_in(truth)
    together = await asyncio.gather(*(finds.find(ById(one), ALL) for one in ids), return_exceptions=True)

    assert [type(one) for one in found] == [KeyError]
    assert [type(one) for one in together] == [Snapshot, KeyError, Snapshot]
    assert truth.queries[:2] == [{ids[1]}, set(ids)]
    assert sorted(truth.queries[2:], key=str) == sorted(({one} for one in ids), key=str)


async def test_statement_that_fails_for_all_is_not_sent_for_each(truth: Truth) -> None:
    """A missing right, say: everybody learns of it, and the database is not asked a hundred times in a row."""
    ids = await truth.make(20)
    truth.error = KeyError("no such column")

    finds = finds_in(truth)
    together = await asyncio.gather(*(finds.find(ById(one), ALL) for one in ids), return_exceptions=True)

    assert [type(one) for one in together] == [KeyError] * 20
    assert len(truth.queries) == 1 + 3


async def test_read_that_waited_in_line_is_told_of_overload(truth: Truth) -> None:
    """Who had a query for most of the time is told what became of it."""
    ids = await truth.make(2)
    finds = finds_in(truth)
    truth.may_answer.clear()
    truth.error = DatabaseUnavailable("silent")
    reads = []
    for session_id in ids:
        reads.append(asyncio.create_task(finds.find(ById(session_id), ALL)))
        await settle()
    CLOCK.now += 0.8 * TRUTH_SECONDS
    truth.may_answer.set()

    ended = await asyncio.gather(*reads, return_exceptions=True)

    assert [type(one) for one in ended] == [DatabaseUnavailable, Overloaded]


async def test_waiting_callers_are_counted(truth: Truth) -> None:
    """Those whose query may not be asked yet."""
    ids = await truth.make(4)
    finds = finds_in(truth)
    truth.may_answer.clear()
    first = asyncio.create_task(finds.find(ById(ids[0]), ALL))
    await settle()
    rest = [asyncio.create_task(finds.find(ById(one), ALL)) for one in ids[1:]]
    await settle()

    waiting = finds.waiting
    truth.may_answer.set()
    await asyncio.gather(first, *rest)

    assert (waiting, finds.waiting) == (3, 0)


async def test_others_are_answered_when_one_goes_away(truth: Truth) -> None:
    """Before the query and during it; a query that nobody waits for is not made."""
    ids = await truth.make(3)
    finds = finds_in(truth)
    truth.may_answer.clear()
    reads = [asyncio.create_task(finds.find(ById(one), ALL)) for one in ids]
    await asyncio.sleep(0)
    reads[0].cancel()
    await settle()
    reads[1].cancel()
    truth.may_answer.set()
    ended = await asyncio.gather(*reads, return_exceptions=True)

    lonely = asyncio.create_task(finds.find(ById(ids[0]), ALL))
    await asyncio.sleep(0)
    lonely.cancel()
    await settle()

    assert truth.queries == [{ids[1], ids[2]}]
    assert [isinstance(one, asyncio.CancelledError) for one in ended] == [True, True, False]


async def test_batch_has_a_time_of_its_own(truth: Truth) -> None:
    """Nearly all that there is, whatever its callers have left."""
    ids = await truth.make(2)
    finds = finds_in(truth)

    with patience_until(CLOCK.now + 2.0):
        await asyncio.gather(*(finds.find(ById(one), ALL) for one in ids))

    assert truth.queries == [set(ids)]
    assert truth.patience == [0.9 * TRUTH_SECONDS]


async def test_batch_that_has_waited_takes_nobody_any_more(truth: Truth) -> None:
    """Who comes late would have too little of its time."""
    ids = await truth.make(3)
    finds = finds_in(truth)
    truth.may_answer.clear()
    reads = []
    for session_id in ids:
        reads.append(asyncio.create_task(finds.find(ById(session_id), ALL)))
        await settle()
        CLOCK.now += 0.2 * TRUTH_SECONDS
    truth.may_answer.set()
    await asyncio.gather(*reads)

    assert truth.queries == [{one} for one in ids]
