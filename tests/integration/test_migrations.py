"""Migrations against a real server: by many at once, twice, changed, from the future, and half-way."""

import asyncio
import sys
from collections.abc import AsyncIterator
from dataclasses import replace

import asyncpg
import pytest

from tests.servers.postgres_server import PostgresServer
from zpmeow.domain.errors import DatabaseUnavailable
from zpmeow.postgres.database import Database
from zpmeow.postgres.migrations import (
    Migration,
    MigrationError,
    load_migrations,
    migrate,
    parse_migration,
    schema_problem,
)


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    """An empty database."""
    database = await Database.open(url=database_url, pool_size=2, timeout_seconds=10.0)
    try:
        yield database
    finally:
        await database.close()


def future(*, works_with: int) -> list[Migration]:
    """What a later release brings."""
    newest = load_migrations()[-1].version
    text = f"-- works-with: {works_with}\nALTER TABLE sessions ADD COLUMN later text;"
    return [*load_migrations(), parse_migration(newest + 1, "later", text)]


async def test_migrate_applies_all_when_the_database_is_empty(database: Database, database_url: str) -> None:
    """An empty database becomes one that this code works on; its problem is told before, and gone after."""
    before = await schema_problem(database)

    applied = await migrate(url=database_url)

    assert before == "the database has no schema of zpmeow; run `zpmeow migrate`"
    assert applied == [str(migration) for migration in load_migrations()]
    assert await schema_problem(database) is None


async def test_migrate_applies_nothing_when_it_is_run_again(database_url: str) -> None:
    """A second run finds nothing to do."""
    await migrate(url=database_url)

    assert await migrate(url=database_url) == []


async def test_migrate_applies_each_once_when_many_processes_start_at_once(
    database: Database, database_url: str
) -> None:
    """Five processes that start together end well, and each migration ran in one of them."""
    program = """
import asyncio, sys
from zpmeow.postgres.migrations import migrate
print(*asyncio.run(migrate(url=sys.argv[1])))
"""
    processes = [
        await asyncio.create_subprocess_exec(
            sys.executable, "-c", program, database_url, stdout=asyncio.subprocess.PIPE
        )
        for _ in range(5)
    ]
    outputs = [(await process.communicate())[0].decode() for process in processes]

    assert [process.returncode for process in processes] == [0] * 5
    assert sorted(" ".join(outputs).split()) == [str(migration) for migration in load_migrations()]
    assert await schema_problem(database) is None


async def test_migrate_gives_up_when_another_process_holds_the_lock(database_url: str) -> None:
    """The wait for another process is bounded, and its end says what to look for."""
    observer = await asyncpg.connect(database_url)
    slow = [Migration(version=1, name="slow", works_with=1, sql="SELECT pg_sleep(1)")]
    try:
        first = asyncio.create_task(migrate(url=database_url, migrations=slow))
        while not await observer.fetchval("SELECT count(*), pg_sleep(0.01) FROM pg_locks WHERE locktype = 'advisory'"):
            continue

        with pytest.raises(MigrationError, match="another process has been migrating"):
            await migrate(url=database_url, wait_seconds=0.2, migrations=slow)

        assert await first == ["0001_slow"]
    finally:
        await observer.close()


async def test_migrate_is_refused_when_an_applied_file_was_changed(database: Database, database_url: str) -> None:
    """An applied migration never changes."""
    changed = [replace(migration, sql=migration.sql + "-- more\n") for migration in load_migrations()]
    await migrate(url=database_url, migrations=changed)

    with pytest.raises(MigrationError, match=r"0001_sessions was changed after it was applied"):
        await migrate(url=database_url)

    assert "was changed after it was applied" in str(await schema_problem(database))


async def test_older_code_works_when_the_newer_schema_says_that_it_may(database: Database, database_url: str) -> None:
    """The previous release runs and starts on the next one's schema."""
    level = load_migrations()[-1].version
    await migrate(url=database_url, migrations=future(works_with=level))

    assert await schema_problem(database) is None
    assert await migrate(url=database_url) == []


async def test_older_code_is_refused_when_the_newer_schema_does_not_allow_it(
    database: Database, database_url: str
) -> None:
    """A database from the future is left alone, with a clear word."""
    level = load_migrations()[-1].version
    await migrate(url=database_url, migrations=future(works_with=level + 1))

    with pytest.raises(MigrationError, match="the database is newer than this zpmeow"):
        await migrate(url=database_url)

    assert "install a newer zpmeow" in str(await schema_problem(database))


async def test_migrate_leaves_nothing_of_a_file_when_it_fails_half_way(database: Database, database_url: str) -> None:
    """A failed migration is undone as a whole, those before it stay, and mending it is enough to go on."""
    broken = [
        *load_migrations(),
        Migration(version=9999, name="broken", works_with=1, sql="CREATE TABLE half (a int); SELECT no_such_thing();"),
    ]

    with pytest.raises(MigrationError, match=r"9999_broken failed and left nothing: .*no_such_thing"):
        await migrate(url=database_url, migrations=broken)

    assert await database.fetch("half", "SELECT WHERE to_regclass('half') IS NOT NULL") == []
    assert await schema_problem(database) is None
    mended = [*load_migrations(), replace(broken[-1], sql="CREATE TABLE half (a int)")]
    assert await migrate(url=database_url, migrations=mended) == ["9999_broken"]


async def test_schema_problem_is_told_when_a_migration_is_missing(database: Database, database_url: str) -> None:
    """Code that is newer than the schema says what it lacks."""
    await migrate(url=database_url, migrations=[])

    assert await schema_problem(database) == "the database's schema lacks 0001_sessions; run `zpmeow migrate`"


async def test_migrate_works_when_the_schema_has_another_name(database_url: str) -> None:
    """Tables may live in any one schema, and their functions find them without being told."""
    admin = await asyncpg.connect(database_url)
    try:
        await admin.execute('CREATE SCHEMA "Odd Name"')
        await migrate(url=database_url + "?options=-csearch_path%3D%22Odd%5C%20Name%22")

        await admin.execute("""INSERT INTO "Odd Name".sessions (name, key_hash) VALUES ('abc', sha256('x'))""")

        assert await admin.fetchval('SELECT count(*) FROM "Odd Name".session_qr') == 1
    finally:
        await admin.close()


async def test_change_log_begins_when_sessions_are_older_than_it(database: Database, database_url: str) -> None:
    """Sessions of the first release stay as they are; the log begins with its epoch, and their next change is in it."""
    await migrate(url=database_url, migrations=load_migrations()[:1])
    await database.fetch("old", "INSERT INTO sessions (name, key_hash) VALUES ('abc', sha256('x'))")
    before = await database.fetch("old", "SELECT id, version FROM sessions")

    assert await migrate(url=database_url) == [str(migration) for migration in load_migrations()[1:]]

    assert await database.fetch("old", "SELECT id, version FROM sessions") == before
    await database.fetch("change", "UPDATE sessions SET name = 'abcd'")
    lines = await database.fetch("lines", "SELECT entity FROM change_log ORDER BY seq")
    assert sorted(line["entity"] for line in lines) == ["epoch", "name", "name", "session"]


async def test_migrate_fails_as_unavailable_when_the_database_is_away() -> None:
    """A database that cannot be reached is no fault of the schema."""
    with pytest.raises(DatabaseUnavailable):
        await migrate(url="postgresql://nobody@127.0.0.1:1/nothing")


async def test_migrate_can_be_cancelled_when_the_server_hangs(own_postgres: PostgresServer) -> None:
    """Who stops a process in the middle of a migration does not wait for a server that answers nothing any more."""
    endless = [parse_migration(1, "endless", "SELECT pg_sleep(60);")]
    migrating = asyncio.create_task(migrate(url=own_postgres.url, migrations=endless))
    sleepers = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'"
    while await asyncio.to_thread(own_postgres.execute, sleepers) != "1":  # noqa: ASYNC110  (nobody is there to tell)
        await asyncio.sleep(0.01)
    own_postgres.pause()

    migrating.cancel()

    done, _ = await asyncio.wait([migrating], timeout=5.0)
    assert done, "it waits for the server"
    assert migrating.cancelled()
