"""`Database` against a real server: deadlines, cancellation, what an error tells, what is left behind."""

import asyncio
import random
import time
import traceback
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg
import pytest

from zpmeow.domain.errors import DatabaseUnavailable, Overloaded, SessionNotFound, Unavailable
from zpmeow.domain.patience import patience_until
from zpmeow.events import DatabaseReachabilityChanged, Event, QueryFinished, ignore
from zpmeow.postgres.database import Database, Transaction
from zpmeow.postgres.failures import ConstraintViolated, QueryFailedError
from zpmeow.postgres.health import DatabaseHealth

GUARD_SECONDS = 20.0
"""Far above what anything here takes: only a hang reaches it."""

JID = "5511999999999@s.whatsapp.net"


@asynccontextmanager
async def opened(url: str, **options: object) -> AsyncIterator[Database]:
    """Open a database with a short deadline, and close it."""
    settings = {"pool_size": 4, "timeout_seconds": 5.0, "observer": ignore, **options}
    database = await Database.open(url=url, **settings)  # type: ignore[arg-type]
    try:
        async with asyncio.timeout(GUARD_SECONDS):
            yield database
    finally:
        await database.close()


async def test_fetch_returns_rows_when_the_statement_has_some(database_url: str) -> None:
    """A statement's rows come back, and the query is reported under its name."""
    events: list[Event] = []
    async with opened(database_url, observer=events.append) as database:
        rows = await database.fetch("numbers", "SELECT generate_series(1, $1) AS number", 3)

    assert [row["number"] for row in rows] == [1, 2, 3]
    (finished,) = events
    assert isinstance(finished, QueryFinished)
    assert (finished.query, finished.outcome) == ("numbers", "ok")


async def test_connections_have_limits_of_their_own_when_they_are_opened(database_url: str) -> None:
    """What we abandon is ended by the server: it knows our deadlines and looks for us."""
    wanted = [
        "application_name",
        "statement_timeout",
        "lock_timeout",
        "idle_in_transaction_session_timeout",
        "client_connection_check_interval",
        "default_transaction_isolation",
        "max_parallel_workers_per_gather",
        "jit",
    ]
    async with opened(database_url, timeout_seconds=2.5) as database:
        rows = await database.fetch(
            "settings", "SELECT current_setting(name) AS value FROM unnest($1::text[]) name", wanted
        )

    assert [row["value"] for row in rows] == [
        "zpmeow",
        "3500ms",
        "2500ms",
        "3500ms",
        "500ms",
        "read committed",
        "0",
        "off",
    ]


async def test_callers_are_refused_as_overload_when_no_connection_comes_free(database_url: str) -> None:
    """Who gets no connection in time is told of overload, who had one, of the database; and health is fine."""
    async with opened(database_url, pool_size=2, timeout_seconds=0.5) as database:
        health = DatabaseHealth(database=database)

        outcomes, problem = await asyncio.gather(
            asyncio.gather(*(database.fetch("sleep", "SELECT pg_sleep(60)") for _ in range(6)), return_exceptions=True),
            health.problem(),
        )

        names = sorted(type(outcome).__name__ for outcome in outcomes)
        assert names == ["DatabaseUnavailable"] * 2 + ["Overloaded"] * 4
        assert problem is None
        statistics = database.statistics()
        assert (statistics.size, statistics.in_use, statistics.waiting) == (0, 0, 0)


async def test_second_question_of_a_request_has_what_the_first_left(database_url: str) -> None:
    """It says nothing about the database. With hardly anything left it is not even sent: only that is overload."""
    began_at = time.monotonic()
    events: list[Event] = []
    async with opened(database_url, timeout_seconds=GUARD_SECONDS, observer=events.append) as database:
        for seconds, error in ((0.2, DatabaseUnavailable), (0.05, Overloaded), (-1.0, Overloaded)):
            with patience_until(time.monotonic() + seconds * GUARD_SECONDS), pytest.raises(error):
                await database.fetch("sleep", "SELECT pg_sleep(60)")
        with patience_until(began_at):
            assert await database.fetch_row_from_reserve("one", "SELECT 1")

        assert database.problem is None
    assert time.monotonic() - began_at < GUARD_SECONDS
    outcomes = [event.outcome for event in events if isinstance(event, QueryFinished)]
    assert outcomes == ["timeout", "overloaded", "overloaded", "ok"]


async def test_an_abandoned_statement_ends_when_its_caller_is_out_of_time(database_url: str) -> None:
    """The server does not go on with what nobody waits for."""
    running = (
        "SELECT count(*) AS number FROM pg_stat_activity WHERE query LIKE '%pg_sleep(60)%' AND pid <> pg_backend_pid()"
    )
    async with opened(database_url, timeout_seconds=0.5) as database:
        with pytest.raises(DatabaseUnavailable):
            await database.fetch("sleep", "SELECT pg_sleep(60)")

        left = 1
        while left:
            row = await database.fetch_row("count", running)
            assert row is not None
            left = row["number"]
            await asyncio.sleep(0.05)


async def test_nothing_leaks_when_callers_are_cancelled_at_random(database_url: str) -> None:
    """After 500 callers that were cancelled anywhere on their way, every place in line is free again."""
    chance = random.Random(7)
    async with opened(database_url, pool_size=4) as database:

        async def in_transaction(transaction: Transaction) -> None:
            await transaction.fetch_row("SELECT pg_sleep(0.001)")

        async def caller(number: int) -> None:
            if number % 2:
                await database.transaction("work", in_transaction)
            else:
                await database.fetch("work", "SELECT pg_sleep(0.002)")

        for _ in range(10):
            tasks = [asyncio.create_task(caller(number)) for number in range(50)]
            for task in tasks:
                await asyncio.sleep(chance.random() * 0.001)
                chance.choice(tasks).cancel()
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

        statistics = database.statistics()
        assert (statistics.in_use, statistics.waiting) == (0, 0)
        assert statistics.size <= 4
        await asyncio.gather(*(database.fetch("after", "SELECT pg_sleep(0.01)") for _ in range(20)))
        assert database.statistics().size <= 4
        assert database.problem is None


async def test_errors_hold_no_values_when_a_constraint_is_broken(database_url: str) -> None:
    """The constraint is named; the value that broke it appears nowhere, not in the whole traceback."""
    async with opened(database_url) as database:
        await database.fetch("make", "CREATE TABLE devices (jid text CONSTRAINT one_device UNIQUE CHECK (jid <> 'x'))")
        await database.fetch("put", "INSERT INTO devices VALUES ($1)", JID)

        with pytest.raises(ConstraintViolated) as violated:
            await database.fetch("put", "INSERT INTO devices VALUES ($1)", JID)

    assert violated.value.constraint == "one_device"
    assert violated.value.__context__ is None
    assert JID not in "".join(traceback.format_exception(violated.value))


@pytest.mark.parametrize("sql", ["SELECT $1::text::int", "SELECT $1::int", "SELECT $1::uuid"])
async def test_errors_hold_no_values_when_an_argument_does_not_fit(database_url: str, sql: str) -> None:
    """Neither the server's nor asyncpg's own words about a bad argument go on."""
    async with opened(database_url) as database:
        with pytest.raises(QueryFailedError) as failed:
            await database.fetch("bad", sql, JID)

        assert JID not in "".join(traceback.format_exception(failed.value))
        assert failed.value.__context__ is None
        assert database.problem is None
        assert await database.fetch("good", "SELECT 1")


async def test_transaction_leaves_nothing_when_its_work_is_refused(database_url: str) -> None:
    """A refusal within a transaction undoes it, and its connection serves the next caller."""
    async with opened(database_url, pool_size=1) as database:
        await database.fetch("make", "CREATE TABLE notes (text text)")
        backend = await database.fetch("backend", "SELECT pg_backend_pid()")

        async def work(transaction: Transaction) -> None:
            await transaction.fetch_row("INSERT INTO notes VALUES ('lost')")
            raise SessionNotFound

        with pytest.raises(SessionNotFound):
            await database.transaction("work", work)

        assert await database.fetch("read", "SELECT * FROM notes") == []
        assert await database.fetch("backend", "SELECT pg_backend_pid()") == backend


@pytest.mark.parametrize("trouble", [ZeroDivisionError, asyncio.CancelledError])
async def test_transaction_leaves_nothing_when_its_work_ends_unexpectedly(
    database_url: str, trouble: type[BaseException]
) -> None:
    """A defect or a cancellation undoes the transaction too; its connection is given up."""
    async with opened(database_url, pool_size=1) as database:
        await database.fetch("make", "CREATE TABLE notes (text text)")

        async def work(transaction: Transaction) -> None:
            await transaction.fetch_row("INSERT INTO notes VALUES ('lost')")
            raise trouble

        with pytest.raises(trouble):
            await database.transaction("work", work)

        assert database.statistics().size == 0
        assert await database.fetch("read", "SELECT * FROM notes") == []


async def test_transaction_is_kept_when_its_work_returns(database_url: str) -> None:
    """What the work did is committed when the call returns."""
    async with opened(database_url, pool_size=1) as database:
        await database.fetch("make", "CREATE TABLE notes (text text)")

        async def work(transaction: Transaction) -> str:
            row = await transaction.fetch_row("INSERT INTO notes VALUES ('kept') RETURNING text")
            assert row is not None
            return str(row["text"])

        assert await database.transaction("work", work) == "kept"
        assert len(await database.fetch("read", "SELECT * FROM notes")) == 1


async def test_calls_fail_as_unavailable_when_the_address_leads_nowhere() -> None:
    """Opening works with the database away; each call says so, health says why, and one event tells of it."""
    events: list[Event] = []
    async with opened("postgresql://nobody@127.0.0.1:1/nothing", observer=events.append) as database:
        for _ in range(3):
            with pytest.raises(DatabaseUnavailable):
                await database.fetch("any", "SELECT 1")

        assert await DatabaseHealth(database=database).problem() == "connection refused"

    changes = [event for event in events if isinstance(event, DatabaseReachabilityChanged)]
    assert changes == [DatabaseReachabilityChanged("connection refused")]


async def test_the_password_is_not_told_when_the_database_refuses(database_url: str) -> None:
    """What operators are told of a refused connection names the database, never the password."""
    refused = database_url.replace("postgres@", "postgres:s3cret@").rpartition("/")[0] + "/nothing_here"
    async with opened(refused) as database:
        with pytest.raises(DatabaseUnavailable) as unavailable:
            await database.fetch("any", "SELECT 1")

        assert database.problem == 'database "nothing_here" does not exist (3D000)'
        assert "s3cret" not in "".join(traceback.format_exception(unavailable.value))


async def test_callers_see_the_connection_break_off_when_the_database_is_closed(database_url: str) -> None:
    """Closing waits for nobody, and afterwards no connection can be had."""
    async with opened(database_url, pool_size=2) as database:
        calls = [asyncio.create_task(database.fetch("sleep", "SELECT pg_sleep(60)")) for _ in range(3)]
        await asyncio.sleep(0.2)  # Whether they still connect or already sleep then: the promise is the same.

        await database.close()

        outcomes = await asyncio.gather(*calls, return_exceptions=True)
        assert all(isinstance(outcome, DatabaseUnavailable) for outcome in outcomes)
        with pytest.raises(Unavailable):
            await database.fetch("any", "SELECT 1")
        assert database.statistics().size == 0


async def test_health_asks_once_when_many_ask_at_the_same_time(database_url: str) -> None:
    """A crowd of health checks costs one query; a caller that goes away takes it from nobody."""
    events: list[Event] = []
    async with opened(database_url, observer=events.append) as database:
        health = DatabaseHealth(database=database)
        checks = [asyncio.create_task(health.problem()) for _ in range(50)]
        await asyncio.sleep(0)
        checks[0].cancel()

        problems = await asyncio.gather(*checks[1:])

    assert problems == [None] * 49
    assert [event.query for event in events if isinstance(event, QueryFinished)] == ["ping"]


async def test_sessions_of_others_are_left_alone_when_a_server_limit_is_reached(database_url: str) -> None:
    """With no connection left for us the database is unavailable, not broken: it works again when one is free."""
    name = database_url.rpartition("/")[2]
    await _execute(database_url, f'ALTER DATABASE "{name}" CONNECTION LIMIT 1')
    await _execute(database_url, "CREATE ROLE limited LOGIN")
    try:
        limited = database_url.replace("postgres@", "limited@")
        async with opened(limited, pool_size=2) as database:
            await database.fetch("first", "SELECT 1")
            outcomes = await asyncio.gather(
                *(database.fetch("sleep", "SELECT pg_sleep(0.1)") for _ in range(2)), return_exceptions=True
            )

            assert [isinstance(outcome, DatabaseUnavailable) for outcome in outcomes] == [False, True]
            assert await database.fetch("after", "SELECT 1")
            assert database.problem is None
    finally:
        await _execute(database_url, "DROP ROLE limited")


async def _execute(url: str, sql: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(sql)
    finally:
        await connection.close()
