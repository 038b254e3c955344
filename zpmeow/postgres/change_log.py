"""The change log in PostgreSQL: read by one process at a time, pruned by any.

"What is visible now and was not in an earlier snapshot" is found by transaction: those that ran at that snapshot, and
those that came later. So a line is read as soon as it is visible and once, whatever the order of the commits, and
nobody's open transaction holds up the others. Whoever reads must hold the lock of the log: a lock of the connection,
so that the death of its process frees it at once, and its being frozen after two seconds.
"""

import asyncio
import random
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from hashlib import sha256
from uuid import UUID

from asyncpg import Record as Row
from typing_extensions import override

from zpmeow.domain.changes import Change, ChangeLog, LogLine, LogPage, LogReader, LogSnapshot, LogState
from zpmeow.postgres import statements
from zpmeow.postgres.database import Database
from zpmeow.postgres.session import Session, open_session

RELAY_NAME = "zpmeow relay"
IDLE_TIMEOUT_SECONDS = 1.5
"""A leader asks twice a second; one that asks nothing for so long is frozen, and another takes over."""

_POLL_SECONDS = 0.3
_READ_SECONDS = 5.0
_PORTION = 5_000  # Lines removed at a time: some 4 ms, so that nobody waits behind it.
_IDENTITY = struct.Struct(">QII")

# One lock for each log: two schemas of one database may each have theirs.
_LOCK_KEY = int.from_bytes(sha256(b"zpmeow relay").digest()[:4], "big", signed=True)
_TRY_LOCK = "SELECT pg_try_advisory_lock($1::int, ('change_log'::regclass::oid::bigint & 2147483647)::int) AS locked"
_HAS_LINE = "SELECT EXISTS (SELECT FROM change_log WHERE txid = $1 AND seq = $2 AND nonce = $3::uuid) AS found"
# What was removed from the log before does not concern the new epoch, which is read from here on.
_RAISE_EPOCH = """
WITH bound AS (
    INSERT INTO change_log_state DEFAULT VALUES
    ON CONFLICT (the_only_row) DO UPDATE SET pruned_txid = excluded.pruned_txid
)
INSERT INTO control_settings DEFAULT VALUES
ON CONFLICT (the_only_row) DO UPDATE SET epoch = excluded.epoch
"""


class PostgresChangeLog(ChangeLog):
    """Leads by an advisory lock on a session of its own; prunes through the pool."""

    def __init__(self, *, url: str, database: Database) -> None:
        """Read the log at `url`, which is that of `database`."""
        self._url = url
        self._database = database

    @override
    @asynccontextmanager
    async def lead(self) -> AsyncIterator[LogReader]:
        settings = {"statement_timeout": str(round(_READ_SECONDS * 1000)), "lock_timeout": "1s"}
        async with open_session(
            url=self._url, name=RELAY_NAME, settings=settings, idle_timeout_seconds=IDLE_TIMEOUT_SECONDS
        ) as session:
            while not (await session.fetch_row(_TRY_LOCK, _LOCK_KEY))["locked"]:  # noqa: ASYNC110  (asks the server)
                await asyncio.sleep(_POLL_SECONDS * (0.5 + random.random() / 2))  # noqa: S311  (a pause, no secret)
            yield _PostgresLogReader(session)

    @override
    async def prune(self, *, older_than_seconds: float) -> int:
        rows = await self._database.fetch("prune_changes", statements.PRUNE_CHANGES, older_than_seconds, _PORTION)
        removed: int = rows[0]["removed"]
        return removed


class _PostgresLogReader(LogReader):
    def __init__(self, session: Session) -> None:
        self._session = session

    @override
    async def state(self) -> LogState:
        row = await self._session.fetch_row(statements.LOG_STATE)
        return LogState(
            database=database_identity(row),
            epoch=row["epoch"],
            epoch_snapshot=_snapshot(row["epoch_snapshot"]),
            newest=None if row["txid"] is None else (row["txid"], row["seq"], _hex(row["nonce"])),
            pruned_txid=_pruned(row),
        )

    @override
    async def has_line(self, txid: int, seq: int, nonce: str) -> bool:
        found: bool = (await self._session.fetch_row(_HAS_LINE, txid, seq, UUID(nonce)))["found"]
        return found

    @override
    async def read(self, after: LogSnapshot, *, limit: int, from_line: tuple[int, int] = (0, 0)) -> LogPage:
        _, xmax, running = after
        rows = await self._session.fetch(
            statements.READ_CHANGES, list(running), xmax, *from_line, limit, seconds=_READ_SECONDS
        )
        lines = [_line(row) for row in rows if row["txid"] is not None]
        return LogPage(
            lines=lines,
            snapshot=_snapshot(rows[0]["snapshot"]),
            read_at=rows[0]["read_at"],
            pruned_txid=_pruned(rows[0]),
            is_last=len(lines) < limit,
        )

    @override
    async def raise_epoch(self) -> None:
        await self._session.fetch(_RAISE_EPOCH)


_NOTHING_IS_LEFT = 2**63  # Somebody emptied the table that tells what was removed: then nothing can be relied on.


def database_identity(row: Row) -> bytes:
    """Pack what makes this database unlike any other, its own past before a failover included: 16 bytes."""
    system = row["system_identifier"] % 2**64
    return _IDENTITY.pack(system, int(row["timeline"], 16), row["database_oid"])


def _pruned(row: Row) -> int:
    pruned: int | None = row["pruned_txid"]
    return _NOTHING_IS_LEFT if pruned is None else pruned


def _snapshot(value: tuple[int, int, tuple[int, ...]]) -> LogSnapshot:
    xmin, xmax, running = value
    return (xmin, xmax, tuple(running))


def _line(row: Row) -> LogLine:
    return LogLine(
        txid=row["txid"],
        seq=row["seq"],
        nonce=_hex(row["nonce"]),
        change=Change(entity=row["entity"], key=row["key"], version=row["version"]),
    )


def _hex(value: UUID) -> str:
    return value.hex
