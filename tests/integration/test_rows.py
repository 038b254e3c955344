"""Rows that say what that session's last row said are not read into records again."""

import asyncpg

from zpmeow.domain.ports import NewSession
from zpmeow.domain.records import Entity, Webhook
from zpmeow.postgres import statements
from zpmeow.postgres.database import Database
from zpmeow.postgres.rows import SnapshotReader, snapshot
from zpmeow.postgres.session_repository import PostgresSessionRepository

CHILDREN = frozenset({Entity.STATUS, Entity.QR, Entity.CREDENTIAL})
WEBHOOK = Webhook(url="https://a.test/hook", events=("status", "qr"))


async def rows(database: Database) -> list[asyncpg.Record]:
    """Return the rows of all sessions, in the order of their names."""
    ids = await database.fetch("ids", "SELECT array_agg(id) AS ids FROM sessions")
    found = await database.fetch("find_many", statements.FIND_MANY[CHILDREN], ids[0]["ids"])
    return sorted(found, key=lambda row: str(row["name"]))


async def create(database: Database, *names: str) -> None:
    """Make sessions with a webhook."""
    repository = PostgresSessionRepository(database=database)
    for name in names:
        await repository.create(NewSession(name=name, key_hash=name.encode().ljust(32, b"."), webhook=WEBHOOK))


async def test_row_is_the_same_snapshot_when_it_says_the_same(database: Database) -> None:
    """Also with a webhook, whose events are a list."""
    await create(database, "alpha", "beta")
    reader = SnapshotReader(CHILDREN)

    once, twice, again = [[reader.read(row) for row in await rows(database)] for _ in range(3)]

    assert [one is other for one, other in zip(once, twice, strict=True)] == [False, False]  # Most are read once.
    assert [one is other for one, other in zip(twice, again, strict=True)] == [True, True]
    assert once == twice == [snapshot(row, *CHILDREN) for row in await rows(database)]
    assert [one.session.name for one in again] == ["alpha", "beta"]


async def test_row_is_read_anew_when_anything_is_another(database: Database) -> None:
    """A version that has not changed proves nothing: triggers can be off."""
    await create(database, "alpha")
    reader = SnapshotReader(CHILDREN)
    (row,) = await rows(database)
    before = reader.read(row)
    assert reader.read(row) is reader.read(row)

    await database.fetch("forge", "ALTER TABLE sessions DISABLE TRIGGER ALL")
    await database.fetch("forge", "UPDATE sessions SET webhook_events = ARRAY['message']")
    (row,) = await rows(database)
    after = reader.read(row)

    assert row["version"] == before.session.version
    assert after == snapshot(row, *CHILDREN) != before


async def test_last_rows_are_kept_when_there_are_too_many(database: Database) -> None:
    """The bound is one of sessions; what was read first goes first."""
    await create(database, "alpha", "beta", "gamma")
    reader = SnapshotReader(CHILDREN, most=2)

    alpha, beta, gamma = await rows(database)
    for row in (alpha, alpha, beta, beta):
        reader.read(row)
    first = [reader.read(row) for row in (alpha, beta)]
    for row in (gamma, gamma):
        reader.read(row)
    again = [reader.read(row) for row in (beta, alpha)]

    assert [one is other for one, other in zip(reversed(first), again, strict=True)] == [True, False]


async def test_large_row_is_read_each_time(database: Database) -> None:
    """What is kept is bounded in bytes, too."""
    await create(database, "alpha")
    reader = SnapshotReader(CHILDREN)
    small = reader.read((await rows(database))[0])
    await database.fetch("enlarge", "UPDATE sessions SET webhook_url = 'https://a.test/' || repeat('x', 2048)")

    first, *again = [reader.read((await rows(database))[0]) for _ in range(4)]

    assert [first] * 3 == again
    assert small not in again
    assert len({id(one) for one in (first, *again)}) == 4
