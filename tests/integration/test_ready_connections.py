"""Connections that stand ready: who asks first after an outage of Redis opens and prepares nothing."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import UUID

import pytest

from tests.servers.postgres_server import PostgresServer
from zpmeow.domain.errors import Unavailable
from zpmeow.domain.records import Entity
from zpmeow.postgres import statements
from zpmeow.postgres.database import Database
from zpmeow.postgres.migrations import migrate
from zpmeow.postgres.ready_connections import MANY, ReadyConnections
from zpmeow.postgres.session_repository import PostgresSessionRepository

INFO = frozenset({Entity.SESSION, Entity.STATUS, Entity.CREDENTIAL})
INFO_CHILDREN = INFO - {Entity.SESSION}
LOOK = """
    SELECT pg_backend_pid() AS process, array(SELECT statement FROM pg_prepared_statements) AS prepared
    FROM pg_sleep(0.2)
"""


@asynccontextmanager
async def opened(url: str, *, pool_size: int = 10) -> AsyncIterator[Database]:
    """Open a database; no test of this file waits longer than 2 s for it."""
    database = await Database.open(url=url, pool_size=pool_size, timeout_seconds=2.0)
    try:
        yield database
    finally:
        await database.close()


async def prepared_on_each(database: Database, many: int) -> dict[int, set[str]]:
    """Return what is prepared on so many connections, by their process."""
    rows = await asyncio.gather(*(database.fetch_row("look", LOOK) for _ in range(many)))
    return {row["process"]: set(row["prepared"]) for row in rows if row is not None}


async def test_crowd_finds_connections_open_and_statements_prepared_when_it_comes(database_url: str) -> None:
    """All that the first reads would wait for besides their answer was done before."""
    await migrate(url=database_url)
    async with opened(database_url) as database:
        ready = ReadyConnections(database=database, read=[INFO], pool_size=10)
        assert database.statistics().size == 0

        await ready.make_ready()

        assert database.statistics().idle == MANY
        before = await prepared_on_each(database, MANY)
        sessions = PostgresSessionRepository(database=database)
        await asyncio.gather(*(sessions.find_many([UUID(int=1)], INFO) for _ in range(MANY)))
        assert await prepared_on_each(database, MANY) == before
        assert database.statistics().size == MANY
        wanted = {statements.FIND_MANY[INFO_CHILDREN]}
        wanted |= {
            sql
            for (_, ones, with_secrets), sql in statements.FIND.items()
            if ones == INFO_CHILDREN and not with_secrets
        }
        assert len(wanted) == 4
        assert len(before) == MANY
        assert all(wanted <= prepared for prepared in before.values())


async def test_small_pool_stays_within_its_size_when_it_is_made_ready(database_url: str) -> None:
    """As many as there may be."""
    await migrate(url=database_url)
    async with opened(database_url, pool_size=1) as database:
        await ReadyConnections(database=database, read=[INFO], pool_size=1).make_ready()

        assert database.statistics().size == 1


async def test_connections_are_made_ready_again_when_the_database_is_back(own_postgres: PostgresServer) -> None:
    """That it was away ends nothing."""
    url = own_postgres.create_database("ready")
    await migrate(url=url)
    rounds: asyncio.Queue[None] = asyncio.Queue()
    go_on = asyncio.Event()

    async def rest(_seconds: float) -> None:
        rounds.put_nowait(None)
        await go_on.wait()
        go_on.clear()

    async with opened(url) as database:
        ready = ReadyConnections(database=database, read=[INFO], pool_size=10, sleep=rest)
        own_postgres.kill()
        with pytest.raises(Unavailable):
            await ready.make_ready()
        running = asyncio.create_task(ready.run())
        await rounds.get()
        own_postgres.start()
        assert database.statistics().size == 0

        go_on.set()
        await rounds.get()

        assert database.statistics().idle == MANY
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
