"""Frequent statements are planned once, however many sessions there are: planning takes as long as they do."""

import math
from collections.abc import AsyncIterator
from operator import itemgetter
from uuid import UUID

import asyncpg
import pytest

from zpmeow.domain.records import Entity
from zpmeow.postgres import statements
from zpmeow.postgres.database import Database
from zpmeow.postgres.ready_connections import ReadyConnections
from zpmeow.postgres.session_repository import PostgresSessionRepository

STATUS = frozenset({Entity.SESSION, Entity.STATUS})
MAKE = """
    INSERT INTO sessions (name, key_hash)
    SELECT 's-' || number, sha256(number::text::bytea) FROM generate_series(1, $1) AS number
    RETURNING id, created_at
"""
PLANS = "SELECT generic_plans, custom_plans FROM pg_prepared_statements WHERE statement = $1"


@pytest.fixture
async def single(psql: object, database_url: str) -> AsyncIterator[Database]:
    """The same database, behind a single connection."""
    del psql
    database = await Database.open(url=database_url, pool_size=1, timeout_seconds=10.0)
    try:
        yield database
    finally:
        await database.close()


async def make(psql: "asyncpg.Connection[asyncpg.Record]", count: int) -> "list[asyncpg.Record]":
    """Make sessions, and let the planner know."""
    made = await psql.fetch(MAKE, count)
    await psql.execute("ANALYZE")
    return sorted(made, key=itemgetter("created_at", "id"))


@pytest.mark.parametrize("filters", [(), ("cursor",)])
async def test_page_is_not_planned_anew_each_time_when_there_are_many_sessions(
    psql: "asyncpg.Connection[asyncpg.Record]", single: Database, filters: tuple[str, ...]
) -> None:
    """Of the usual size, that is."""
    made = await make(psql, 5000)
    repository = PostgresSessionRepository(database=single)

    for row in made[:20]:
        await repository.list_sessions(limit=100, cursor=row["id"] if filters else None)

    plans = await single.fetch_row("plans", PLANS, statements.LIST[filters, True])
    assert plans is not None
    assert plans["generic_plans"] > plans["custom_plans"]


@pytest.mark.parametrize("limit", [1, 99, 100, 101, 250])
async def test_list_returns_every_session_once_whatever_the_size_of_a_page(
    psql: "asyncpg.Connection[asyncpg.Record]", single: Database, limit: int
) -> None:
    """In the order of making."""
    made = await make(psql, 210)
    repository = PostgresSessionRepository(database=single)

    pages = [await repository.list_sessions(limit=limit, cursor=None)]
    while pages[-1].next_cursor is not None:
        pages.append(await repository.list_sessions(limit=limit, cursor=pages[-1].next_cursor))

    assert [line.session.id for page in pages for line in page.sessions] == [row["id"] for row in made]
    assert len(pages) == math.ceil(210 / limit)


@pytest.mark.parametrize("count", [2, 5, 10, 30])
async def test_several_sessions_are_not_planned_anew_each_time_when_there_are_many(
    psql: "asyncpg.Connection[asyncpg.Record]", single: Database, count: int
) -> None:
    """Nor are few of them, on a connection that was kept ready for hours."""
    made = await make(psql, 5000)
    ready = ReadyConnections(database=single, read=[STATUS], pool_size=1)
    for _ in range(20):
        await ready.make_ready()
    repository = PostgresSessionRepository(database=single)

    for start in range(20):
        wanted = [UUID(int=row["id"].int) for row in made[start : start + count]]
        assert (await repository.find_many(wanted, STATUS)).keys() == set(wanted)

    plans = await single.fetch_row("plans", PLANS, statements.FIND_MANY[STATUS - {Entity.SESSION}])
    assert plans is not None
    assert plans["custom_plans"] <= 5
    assert plans["generic_plans"] >= 35
