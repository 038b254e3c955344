"""The database hangs, dies and comes back: callers are answered in time, and service goes on without a restart."""

import asyncio
import time
from collections.abc import AsyncIterator

import pytest

from tests.servers.postgres_server import PostgresServer
from zpmeow.domain.errors import DatabaseUnavailable, Unavailable
from zpmeow.events import DatabaseReachabilityChanged, Event
from zpmeow.postgres.database import Database
from zpmeow.postgres.health import DatabaseHealth

TIMEOUT_SECONDS = 1.0
GUARD_SECONDS = 30.0
BACK_SECONDS = 2.0
"""The promise: service again within this time of the database's return."""


@pytest.fixture
def events() -> list[Event]:
    """What the database told its observer."""
    return []


@pytest.fixture
async def database(own_postgres: PostgresServer, events: list[Event]) -> AsyncIterator[Database]:
    """A database on a server that the test may break."""
    database = await Database.open(
        url=own_postgres.url, pool_size=5, timeout_seconds=TIMEOUT_SECONDS, observer=events.append
    )
    try:
        async with asyncio.timeout(GUARD_SECONDS):
            yield database
    finally:
        await database.close()


def reachability(events: list[Event]) -> list[bool]:
    """Tell for each change of reachability whether the database came."""
    return [event.problem is None for event in events if isinstance(event, DatabaseReachabilityChanged)]


async def ask(database: Database) -> None:
    """Make a small query."""
    await database.fetch("ask", "SELECT 1")


async def ask_until_answered(database: Database) -> None:
    """Ask again and again, as callers do; fail if the promise is broken."""
    give_up_at = time.monotonic() + BACK_SECONDS
    while True:
        try:
            await ask(database)
        except Unavailable:
            assert time.monotonic() < give_up_at
            await asyncio.sleep(0.02)
        else:
            return


async def test_callers_are_answered_in_time_when_the_server_hangs(
    database: Database, own_postgres: PostgresServer, events: list[Event]
) -> None:
    """A stopped server costs each caller its deadline and no more; nothing leaks, and one event tells of it."""
    await asyncio.gather(*(ask(database) for _ in range(20)))
    own_postgres.pause()
    try:
        began = time.monotonic()
        outcomes = await asyncio.gather(*(ask(database) for _ in range(40)), return_exceptions=True)
        problem = await DatabaseHealth(database=database).problem()
        took = time.monotonic() - began
    finally:
        own_postgres.resume()
    await ask_until_answered(database)

    assert all(isinstance(outcome, Unavailable) for outcome in outcomes)
    assert problem is not None
    # One deadline for the callers, one for health; the rest is the machine's noise.
    assert took < 2 * TIMEOUT_SECONDS + 1.0
    assert reachability(events) == [False, True]
    statistics = database.statistics()
    assert (statistics.in_use, statistics.waiting) == (0, 0)
    assert statistics.size <= 5


async def test_one_caller_pays_for_all_when_connections_lead_to_a_server_that_is_no_more(
    database: Database, own_postgres: PostgresServer
) -> None:
    """The first failure drops the idle connections, so that no later caller waits on one of them."""
    await asyncio.gather(*(database.fetch("ask", "SELECT pg_sleep(0.05)") for _ in range(5)))
    before = database.statistics().idle
    own_postgres.pause()
    try:
        with pytest.raises(DatabaseUnavailable):
            await ask(database)
    finally:
        own_postgres.resume()

    assert before == 5
    assert database.statistics().size == 0


async def test_a_transaction_ends_in_time_when_the_server_hangs_in_its_midst(
    database: Database, own_postgres: PostgresServer
) -> None:
    """The deadline covers commit and rollback: neither is waited for beyond it."""
    paused = False

    async def work(transaction: object) -> None:
        nonlocal paused
        own_postgres.pause()
        paused = True

    try:
        with pytest.raises(DatabaseUnavailable):
            await database.transaction("work", work)
    finally:
        if paused:
            own_postgres.resume()

    assert database.statistics().size == 0
    await ask_until_answered(database)


@pytest.mark.parametrize("way", ["kill", "stop"])
async def test_service_goes_on_when_the_server_went_and_came_back(
    database: Database, own_postgres: PostgresServer, events: list[Event], way: str
) -> None:
    """While it is away calls fail at once; after its return they work again, without any help."""
    await asyncio.gather(*(ask(database) for _ in range(20)))
    await asyncio.to_thread(getattr(own_postgres, way))

    outcomes = await asyncio.gather(*(ask(database) for _ in range(40)), return_exceptions=True)
    problem = await DatabaseHealth(database=database).problem()
    await asyncio.to_thread(own_postgres.start)
    await ask_until_answered(database)

    assert all(isinstance(outcome, DatabaseUnavailable) for outcome in outcomes)
    assert problem is not None
    assert await DatabaseHealth(database=database).problem() is None
    assert reachability(events) == [False, True]
    assert database.statistics().in_use == 0


async def test_running_queries_fail_as_unavailable_when_the_server_dies(
    database: Database, own_postgres: PostgresServer
) -> None:
    """Whoever is in the middle of a query learns at once that it broke off."""
    calls = [asyncio.create_task(database.fetch("sleep", "SELECT pg_sleep(30)")) for _ in range(5)]
    await asyncio.sleep(0.4)  # Whether they still connect or already sleep then: the promise is the same.

    await asyncio.to_thread(own_postgres.kill)

    outcomes = await asyncio.gather(*calls, return_exceptions=True)
    assert all(isinstance(outcome, DatabaseUnavailable) for outcome in outcomes)
