"""What several of these tests work on."""

from collections.abc import AsyncIterator

import asyncpg
import pytest

from zpmeow.postgres.database import Database
from zpmeow.postgres.migrations import migrate


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    """A database with the newest schema."""
    await migrate(url=database_url)
    database = await Database.open(url=database_url, pool_size=10, timeout_seconds=10.0)
    try:
        yield database
    finally:
        await database.close()


@pytest.fixture
async def psql(database: Database, database_url: str) -> AsyncIterator["asyncpg.Connection[asyncpg.Record]"]:
    """Another client of the same database, who knows nothing of our rules."""
    del database  # Its schema is the newest by then.
    connection = await asyncpg.connect(database_url)
    try:
        yield connection
    finally:
        await connection.close()
