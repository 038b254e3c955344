"""What every `ChangeLog` promises, real and fake."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Protocol

import asyncpg
import pytest
from typing_extensions import override

from tests.fakes.in_memory_change_log import InMemoryChangeLog
from tests.servers.postgres_server import PostgresServer
from zpmeow.domain.changes import Change, ChangeLog, LogLine, LogReader, LogSnapshot
from zpmeow.postgres.change_log import PostgresChangeLog
from zpmeow.postgres.connections import Connection
from zpmeow.postgres.database import Database
from zpmeow.postgres.migrations import migrate

GUARD_SECONDS = 10.0


class OpenTransaction(Protocol):
    """A transaction that stays open for a while."""

    async def commit(self, changes: Sequence[Change]) -> None:
        """Write and end."""
        ...

    async def roll_back(self, changes: Sequence[Change]) -> None:
        """Write and end all the same as if it had never been."""
        ...


class Subject(Protocol):
    """A log, and those who write to it."""

    log: ChangeLog

    async def begin(self) -> OpenTransaction:
        """Begin a transaction that is seen as running."""
        ...

    async def age(self, seconds: float) -> None:
        """Let all lines be that much older."""
        ...

    async def close(self) -> None:
        """End what was begun."""
        ...


class FakeTransaction(OpenTransaction):
    """In memory."""

    def __init__(self, log: InMemoryChangeLog) -> None:
        """Begin."""
        self._log = log
        self._txid = log.begin()

    @override
    async def commit(self, changes: Sequence[Change]) -> None:
        self._log.end(self._txid, changes)

    @override
    async def roll_back(self, changes: Sequence[Change]) -> None:
        self._log.end(self._txid, [])


class FakeSubject(Subject):
    """The fake."""

    def __init__(self) -> None:
        """Begin with a new log."""
        self.log = self._log = InMemoryChangeLog()

    @override
    async def begin(self) -> OpenTransaction:
        return FakeTransaction(self._log)

    @override
    async def age(self, seconds: float) -> None:
        self._log.age(seconds)

    @override
    async def close(self) -> None:
        return


class PostgresTransaction(OpenTransaction):
    """On a connection of its own."""

    def __init__(self, connection: "Connection") -> None:
        """Take over a connection whose transaction has a number."""
        self._connection = connection

    @override
    async def commit(self, changes: Sequence[Change]) -> None:
        await self._write(changes)
        await self._connection.execute("COMMIT")

    @override
    async def roll_back(self, changes: Sequence[Change]) -> None:
        await self._write(changes)
        await self._connection.execute("ROLLBACK")

    async def _write(self, changes: Sequence[Change]) -> None:
        lines = [(change.entity, change.key, change.version) for change in changes]
        await self._connection.executemany("INSERT INTO change_log (entity, key, version) VALUES ($1, $2, $3)", lines)


class PostgresSubject(Subject):
    """The log in PostgreSQL."""

    def __init__(self, url: str, database: Database) -> None:
        """Write to the database at `url`."""
        self.log = PostgresChangeLog(url=url, database=database)
        self._url = url
        self._database = database
        self._connections: list[Connection] = []

    @override
    async def begin(self) -> OpenTransaction:
        connection = await asyncpg.connect(self._url)
        self._connections.append(connection)
        await connection.execute("BEGIN; SELECT pg_current_xact_id()")
        return PostgresTransaction(connection)

    @override
    async def age(self, seconds: float) -> None:
        await self._database.fetch("age", "UPDATE change_log SET at = at - make_interval(secs => $1)", seconds)

    @override
    async def close(self) -> None:
        for connection in self._connections:
            connection.terminate()
        await self._database.close()


@pytest.fixture(scope="session")
def shared_database_url(postgres_server: PostgresServer) -> str:
    """One database for all of this suite."""
    return postgres_server.create_database("change_log_contract")


@pytest.fixture(params=["in_memory", "postgres"])
async def subject(request: pytest.FixtureRequest) -> AsyncIterator[Subject]:
    """Each implementation in turn, with the lines of one epoch."""
    if request.param == "in_memory":
        yield FakeSubject()
        return
    url = request.getfixturevalue("shared_database_url")
    await migrate(url=url)
    database = await Database.open(url=url, pool_size=4, timeout_seconds=10.0)
    await database.fetch("empty", "TRUNCATE change_log")
    await database.fetch("empty", "UPDATE change_log_state SET pruned_txid = '0'")
    subject = PostgresSubject(url, database)
    try:
        yield subject
    finally:
        await subject.close()


def change(key: str, version: int = 1) -> Change:
    """Describe a change of a look-up."""
    return Change(entity="name", key=key, version=version)


async def commit(subject: Subject, *keys: str) -> None:
    """Commit a transaction that touched these."""
    await (await subject.begin()).commit([change(key) for key in keys])


def keys_of(lines: Sequence[LogLine]) -> list[str]:
    """Return what was touched."""
    return [line.change.key for line in lines]


async def caught_up(reader: LogReader) -> LogSnapshot:
    """Return the snapshot of now."""
    return (await reader.read((1, 1, ()), limit=1)).snapshot


async def test_read_returns_what_became_visible_when_asked_again_and_again(subject: Subject) -> None:
    """Each line once, in the order of transactions and numbers, the change as it was written."""
    async with subject.log.lead() as reader:
        snapshot = await caught_up(reader)
        await (await subject.begin()).commit([change("b", 2**62), change("a")])
        await commit(subject, "c")

        first = await reader.read(snapshot, limit=10)
        second = await reader.read(first.snapshot, limit=10)

    assert [line.change for line in first.lines] == [change("b", 2**62), change("a"), change("c")]
    places = [(line.txid, line.seq) for line in first.lines]
    assert places == sorted(places)
    assert len({line.nonce for line in first.lines}) == 3
    assert (list(second.lines), first.is_last, second.is_last) == ([], True, True)


async def test_read_returns_a_line_when_its_transaction_commits_and_not_before(subject: Subject) -> None:
    """Those that came later are not held up, and it is not forgotten."""
    async with subject.log.lead() as reader:
        slow = await subject.begin()
        snapshot = await caught_up(reader)
        await commit(subject, "later")

        first = await reader.read(snapshot, limit=10)
        await slow.commit([change("slow")])
        second = await reader.read(first.snapshot, limit=10)
        third = await reader.read(second.snapshot, limit=10)

    assert [keys_of(page.lines) for page in (first, second, third)] == [["later"], ["slow"], []]


async def test_read_returns_nothing_when_a_transaction_was_rolled_back(subject: Subject) -> None:
    """What was not committed is in no snapshot's future."""
    async with subject.log.lead() as reader:
        snapshot = await caught_up(reader)
        await (await subject.begin()).roll_back([change("never")])

        page = await reader.read(snapshot, limit=10)

    assert list(page.lines) == []


@pytest.mark.parametrize(("limit", "sizes"), [(1, [1] * 6 + [0]), (4, [4, 2]), (3, [3, 3, 0]), (6, [6, 0]), (7, [6])])
async def test_pages_hold_every_line_once_when_there_are_many(subject: Subject, limit: int, sizes: list[int]) -> None:
    """A full page may not be the last one; each goes on behind the last line of the one before."""
    async with subject.log.lead() as reader:
        slow = await subject.begin()
        snapshot = await caught_up(reader)
        await commit(subject, "b", "c")
        await commit(subject, "d", "e", "f")
        await slow.commit([change("a")])

        pages = [await reader.read(snapshot, limit=limit)]
        while not pages[-1].is_last:
            last = pages[-1].lines[-1]
            pages.append(await reader.read(snapshot, limit=limit, from_line=(last.txid, last.seq)))

    assert [len(page.lines) for page in pages] == sizes
    assert [key for page in pages for key in keys_of(page.lines)] == ["a", "b", "c", "d", "e", "f"]


async def test_line_that_comes_between_pages_is_read_next_time_when_its_place_is_past(subject: Subject) -> None:
    """The first page's snapshot is where the next reading begins."""
    async with subject.log.lead() as reader:
        slow = await subject.begin()
        snapshot = await caught_up(reader)
        await commit(subject, "b", "c", "d")

        first = await reader.read(snapshot, limit=2)
        await slow.commit([change("a")])
        place = (first.lines[-1].txid, first.lines[-1].seq)
        second = await reader.read(snapshot, limit=2, from_line=place)
        next_time = await reader.read(first.snapshot, limit=10)

    assert keys_of([*first.lines, *second.lines]) == ["b", "c", "d"]
    assert keys_of(next_time.lines) == ["a"]


async def test_newest_line_is_told_and_known_when_the_log_is_asked_for_its_state(subject: Subject) -> None:
    """Of the highest transaction; the same numbers with another nonce are another line."""
    async with subject.log.lead() as reader:
        snapshot = await caught_up(reader)
        await commit(subject, "a", "b")

        state = await reader.state()
        last = (await reader.read(snapshot, limit=10)).lines[-1]

        assert state.newest == (last.txid, last.seq, last.nonce)
        assert await reader.has_line(last.txid, last.seq, last.nonce)
        assert not await reader.has_line(last.txid, last.seq, "0" * 32)
    assert (len(state.database), len(state.epoch)) == (16, 16)


async def test_epoch_is_a_line_like_others_when_it_is_raised(subject: Subject) -> None:
    """It is another epoch, its line comes after the snapshot that it began with, and nothing committed before does."""
    async with subject.log.lead() as reader:
        slow = await subject.begin()
        await commit(subject, "before")
        before = await reader.state()

        await reader.raise_epoch()
        await slow.commit([change("slow")])
        after = await reader.state()
        page = await reader.read(after.epoch_snapshot, limit=10)

    assert after.epoch != before.epoch
    assert after.database == before.database
    assert [(line.change.entity, line.change.key) for line in page.lines] == [
        ("name", "slow"),
        ("epoch", after.epoch.hex()),
    ]


async def test_prune_removes_old_lines_and_tells_when_there_are_younger_ones(subject: Subject) -> None:
    """State and pages tell up to where lines may be missing; the young ones are there."""
    async with subject.log.lead() as reader:
        await commit(subject, "old")
        await commit(subject, "old too")
        await subject.age(100)
        snapshot = await caught_up(reader)
        await commit(subject, "young")

        removed = await subject.log.prune(older_than_seconds=90)
        again = await subject.log.prune(older_than_seconds=90)
        state, page = await reader.state(), await reader.read(snapshot, limit=10)

    assert removed > 0
    assert again == 0
    assert 0 < state.pruned_txid == page.pruned_txid < snapshot[0]
    assert keys_of(page.lines) == ["young"]


async def test_prune_removes_nothing_when_nothing_is_old(subject: Subject) -> None:
    """The bound stays where it is."""
    await commit(subject, "young")

    removed = await subject.log.prune(older_than_seconds=90)

    async with subject.log.lead() as reader:
        assert (removed, (await reader.state()).pruned_txid) == (0, 0)


async def test_prune_keeps_the_newest_line_when_all_are_old(subject: Subject) -> None:
    """A position is recognised by it."""
    await commit(subject, "a", "b")
    await subject.age(100)
    async with subject.log.lead() as reader:
        newest = (await reader.state()).newest

        await subject.log.prune(older_than_seconds=90)

        assert (await reader.state()).newest == newest


async def test_prune_stops_when_a_transaction_is_open(subject: Subject) -> None:
    """Nothing that came after it is removed, so that the bound stays below every line that may still come."""
    await commit(subject, "before")
    slow = await subject.begin()
    async with subject.log.lead() as reader:
        snapshot = await caught_up(reader)
        await commit(subject, "after")
        await commit(subject, "and after")
        await subject.age(100)

        await subject.log.prune(older_than_seconds=90)
        await slow.commit([change("slow")])
        page = await reader.read(snapshot, limit=10)

    assert page.pruned_txid < snapshot[0]
    assert keys_of(page.lines) == ["slow", "after", "and after"]


async def test_next_one_leads_when_the_leader_goes(subject: Subject) -> None:
    """There is one at a time."""
    leads = asyncio.Event()

    async def wait_and_lead() -> int:
        async with subject.log.lead() as reader:
            leads.set()
            return len((await reader.read((1, 1, ()), limit=1)).lines)

    async with subject.log.lead() as reader:
        heir = asyncio.create_task(wait_and_lead())
        for _ in range(4):
            await asyncio.sleep(0.1)
            await reader.state()
        led_meanwhile = leads.is_set()

    async with asyncio.timeout(GUARD_SECONDS):
        assert await heir == 1
    assert not led_meanwhile
