"""Brings the schema to where this code needs it, and tells whether it is there.

The files `migrations/NNNN_name.sql` are applied in order, each in a transaction of its own together with its line in
`schema_migrations`, by one process at a time (an advisory lock); whoever comes second finds nothing to do. What was
applied must never change: its checksum is compared.

A database may be ahead of the code: during a roll-out the previous release runs on the new schema, and may have to
start on it. A migration says by its first line, `-- works-with: N`, which oldest schema level's code goes on working;
without that line none does. The line is kept in `schema_migrations`, for code that does not have the file.
"""

import asyncio
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from importlib.resources import files

import asyncpg

from zpmeow import __version__
from zpmeow.domain.errors import DatabaseUnavailable
from zpmeow.postgres.connections import Connection
from zpmeow.postgres.database import APPLICATION_NAME, MIN_SERVER_VERSION, Database
from zpmeow.postgres.failures import Failure, classify

_LOCK_KEY = int.from_bytes(sha256(b"zpmeow migrations").digest()[:8], "big", signed=True)
_LOCK_POLL_SECONDS = 0.1  # Asking again and again, not waiting in the server: a waiter's snapshot holds up others.
_CONNECT_SECONDS = 10.0
_QUERY_SECONDS = 30.0
_FILE_SECONDS = 3600.0  # Arbitrary: a migration of large tables takes its time, yet nothing waits for ever.
_TABLE_LOCK_TIMEOUT = "10s"  # Who waits for a table's lock makes all who come later wait behind him.
_FILE_NAME = re.compile(r"(?P<version>\d{4})_(?P<name>[a-z0-9_]+)\.sql")
_WORKS_WITH = re.compile(r"-- works-with: (?P<level>\d+)\n")

_CREATE_TABLE = """
CREATE TABLE IF NOT EXISTS schema_migrations (
    version int PRIMARY KEY,
    name text NOT NULL,
    checksum text NOT NULL,
    works_with int NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    applied_by text NOT NULL
)
"""
_TABLE_EXISTS = "SELECT to_regclass('schema_migrations') IS NOT NULL AS present"
_READ = "SELECT version, name, checksum, works_with FROM schema_migrations ORDER BY version"
_NOTE = """
INSERT INTO schema_migrations (version, name, checksum, works_with, applied_by) VALUES ($1, $2, $3, $4, $5)
"""
# Functions remember this search_path, so that they work for callers who have another.
_ONE_SCHEMA = "SELECT set_config('search_path', quote_ident(current_schema()), true)"


class MigrationError(Exception):
    """The schema cannot be brought to where the code needs it. The message says what to do."""


@dataclass(slots=True, frozen=True, kw_only=True)
class Migration:
    """One step of the schema. Code of level `works_with` and above runs on what it leaves."""

    version: int
    name: str
    works_with: int
    sql: str

    def __str__(self) -> str:
        """Name it as its file is named."""
        return f"{self.version:04}_{self.name}"

    @property
    def checksum(self) -> str:
        """SHA-256 of the text; line ends and blanks before them do not count, since tools and checkouts change them."""
        normalised = "\n".join(line.rstrip() for line in self.sql.splitlines()).strip()
        return sha256(normalised.encode()).hexdigest()


@dataclass(slots=True, frozen=True, kw_only=True)
class AppliedMigration:
    """A line of `schema_migrations`."""

    version: int
    name: str
    checksum: str
    works_with: int


def load_migrations() -> list[Migration]:
    """Read the files of this release, in order."""
    found = []
    for file in (files("zpmeow.postgres") / "migrations").iterdir():
        matched = _FILE_NAME.fullmatch(file.name)
        if matched is not None:
            found.append(parse_migration(int(matched["version"]), matched["name"], file.read_text(encoding="utf-8")))
    return sorted(found, key=lambda migration: migration.version)


def parse_migration(version: int, name: str, text: str) -> Migration:
    """Make a migration from a file's text; without a first line that says otherwise, only its own code runs on it."""
    declared = _WORKS_WITH.match(text.replace("\r\n", "\n"))
    return Migration(version=version, name=name, works_with=int(declared["level"]) if declared else version, sql=text)


def pending_migrations(known: Sequence[Migration], applied: Sequence[AppliedMigration]) -> list[Migration]:
    """Return what is still to be applied.

    Raises:
        MigrationError: an applied file has changed, one was skipped, or the database is newer than this code can use.
    """
    by_version = {migration.version: migration for migration in known}
    level = max(by_version, default=0)
    for line in applied:
        migration = by_version.get(line.version)
        if migration is not None and migration.checksum != line.checksum:
            message = f"migration {migration} was changed after it was applied; restore the file and add a new one"
            raise MigrationError(message)
        if migration is None and line.works_with > level:
            message = (
                f"the database is newer than this zpmeow: migration {line.version:04}_{line.name} is unknown here and "
                f"needs code of schema level {line.works_with} or above, this is level {level}; install a newer zpmeow"
            )
            raise MigrationError(message)
    done = {line.version for line in applied}
    pending = [migration for migration in known if migration.version not in done]
    if pending and done and pending[0].version < max(done):
        message = f"migration {pending[0]} was never applied, though later ones were; is this the right database?"
        raise MigrationError(message)
    return pending


async def migrate(*, url: str, wait_seconds: float = 60.0, migrations: Sequence[Migration] | None = None) -> list[str]:
    """Apply what is missing and return the names of what was applied; safe at any time, in any number of processes.

    Args:
        url: the database; its user must be allowed to create tables and functions.
        wait_seconds: how long another process that migrates is waited for.
        migrations: what to apply instead of this release's files, for tests.

    Raises:
        MigrationError: the message says what is wrong. What was applied before stays, the failed file left nothing.
        DatabaseUnavailable: the database cannot be reached, or is too old.
    """
    known = load_migrations() if migrations is None else migrations
    failure: Exception
    try:
        connection = await _connect(url)
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError) as error:
        failure = _in_full(classify(error, connecting=True))
    else:
        try:
            return await _apply_missing(connection, known, wait_seconds)
        except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError) as error:
            failure = _in_full(classify(error, connecting=False))
        finally:
            # The server frees the lock when the connection is gone, however we end.
            connection.terminate()
    raise failure


async def schema_problem(database: Database) -> str | None:
    """Say what keeps this code from working on the database's schema, None if nothing does. Raises Unavailable."""
    row = await database.fetch_row("schema_check", _TABLE_EXISTS)
    if row is None or not row["present"]:
        return "the database has no schema of zpmeow; run `zpmeow migrate`"
    lines = [AppliedMigration(**line) for line in await database.fetch("schema_check", _READ)]
    try:
        pending = pending_migrations(load_migrations(), lines)
    except MigrationError as error:
        return str(error)
    if pending:
        return f"the database's schema lacks {pending[0]}; run `zpmeow migrate`"
    return None


def _in_full(failure: Failure) -> Exception:
    """Return the error with the reason in full: it is read by operators, not by callers of the API."""
    return failure.error if failure.problem is None else DatabaseUnavailable(failure.problem)


async def _connect(url: str) -> "Connection":
    connection = await asyncpg.connect(
        url,
        timeout=_CONNECT_SECONDS,
        command_timeout=_QUERY_SECONDS,
        server_settings={
            "application_name": f"{APPLICATION_NAME} migrate",
            "statement_timeout": "0",
            "lock_timeout": _TABLE_LOCK_TIMEOUT,
        },
    )
    version = connection.get_server_version()
    if version.major < MIN_SERVER_VERSION:
        connection.terminate()
        message = f"PostgreSQL {version.major} is too old: {MIN_SERVER_VERSION} or newer is needed"
        raise MigrationError(message)
    return connection


async def _apply_missing(connection: "Connection", known: Sequence[Migration], wait_seconds: float) -> list[str]:
    await _lock(connection, wait_seconds)
    await connection.execute(_CREATE_TABLE)
    lines = [AppliedMigration(**line) for line in await connection.fetch(_READ)]
    pending = pending_migrations(known, lines)
    for migration in pending:
        await _apply(connection, migration)
    return [str(migration) for migration in pending]


async def _lock(connection: "Connection", wait_seconds: float) -> None:
    give_up_at = time.monotonic() + wait_seconds
    while not await connection.fetchval("SELECT pg_try_advisory_lock($1)", _LOCK_KEY):
        if time.monotonic() >= give_up_at:
            message = (
                f"another process has been migrating this database for {wait_seconds:g} s; if none is, look in "
                "pg_stat_activity for one that hangs (application_name 'zpmeow migrate') and end it"
            )
            raise MigrationError(message)
        await asyncio.sleep(_LOCK_POLL_SECONDS)


async def _apply(connection: "Connection", migration: Migration) -> None:
    failure: str
    # No `async with`: who is cancelled would wait for the rollback of a server that may not answer any more. The caller
    # cuts the connection off, which rolls back, too.
    transaction = connection.transaction()
    try:
        await transaction.start()
        await connection.execute(_ONE_SCHEMA)
        await connection.execute(migration.sql, timeout=_FILE_SECONDS)
        await connection.execute(
            _NOTE, migration.version, migration.name, migration.checksum, migration.works_with, __version__
        )
        await transaction.commit()
    except asyncpg.PostgresError as error:
        failure = str(classify(error, connecting=False).error)
    else:
        return
    message = f"migration {migration} failed and left nothing: {failure}"
    raise MigrationError(message)
