"""What the tests of change log, feed and relay share: a migrated database, foreign writers, and someone who listens."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TypeAlias

import asyncpg

from zpmeow.domain.changes import Change, LogLine, LogReader, LogSnapshot
from zpmeow.postgres.change_log import PostgresChangeLog
from zpmeow.postgres.database import Database
from zpmeow.postgres.migrations import migrate

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"

INSERT = "INSERT INTO sessions (name, key_hash) VALUES ($1, sha256($1::text::bytea)) RETURNING id"
EVERYTHING: LogSnapshot = (1, 1, ())
"""A snapshot from before the first transaction: all lines became visible after it."""

GUARD_SECONDS = 30.0
_MARK = "the end"


@asynccontextmanager
async def connected(url: str) -> AsyncIterator[Connection]:
    """Open a session of another program."""
    connection: Connection = await asyncpg.connect(url)
    try:
        yield connection
    finally:
        connection.terminate()


@asynccontextmanager
async def opened_log(url: str) -> AsyncIterator[PostgresChangeLog]:
    """Migrate the database and open its log."""
    await migrate(url=url)
    database = await Database.open(url=url, pool_size=2, timeout_seconds=10.0)
    try:
        yield PostgresChangeLog(url=url, database=database)
    finally:
        await database.close()


@dataclass
class Listener:
    """Hears what the triggers notify."""

    connection: Connection
    payloads: list[str] = field(default_factory=list)

    @classmethod
    @asynccontextmanager
    async def listening(cls, url: str) -> AsyncIterator["Listener"]:
        """Listen while the block runs."""
        async with connected(url) as connection:
            listener = cls(connection)
            await connection.add_listener("zpmeow_changes", listener._hear)
            yield listener

    async def heard(self) -> list[str]:
        """Return the payloads of all that was committed by now, and forget them."""
        async with connected_to_same(self.connection) as other:
            await other.execute("SELECT pg_notify('zpmeow_changes', $1)", _MARK)
        async with asyncio.timeout(GUARD_SECONDS):
            while _MARK not in self.payloads:  # noqa: ASYNC110  (what comes is seldom waited for)
                await asyncio.sleep(0.005)
        end = self.payloads.index(_MARK)
        heard, self.payloads = self.payloads[:end], self.payloads[end + 1 :]
        return heard

    def _hear(self, _connection: object, _pid: int, _channel: str, payload: object) -> None:
        self.payloads.append(str(payload))


@asynccontextmanager
async def connected_to_same(connection: Connection) -> AsyncIterator[Connection]:
    """Open another session where this one is."""
    database = await connection.fetchval("SELECT current_database()")
    host, port = connection._addr  # type: ignore[attr-defined]
    async with connected(f"postgresql://postgres@{host}:{port}/{database}") as other:
        yield other


def parse(payload: str) -> list[Change]:
    """Read a payload, strictly."""
    parts = [line.split(":") for line in payload.split(",")]
    return [Change(entity=entity, key=key, version=int(version)) for entity, key, version in parts]


async def read_new(reader: LogReader, after: LogSnapshot, *, limit: int = 100_000) -> tuple[list[LogLine], LogSnapshot]:
    """Follow the log as the relay does: page by page, and on from the first page's snapshot."""
    first = page = await reader.read(after, limit=limit)
    lines = list(page.lines)
    while not page.is_last:
        page = await reader.read(after, limit=limit, from_line=(lines[-1].txid, lines[-1].seq))
        lines += page.lines
    return lines, first.snapshot
