"""A connection to the database that comes back after each loss, and tells what a loss means for what was asked."""

import asyncio
from collections.abc import Sequence
from typing import Any, TypeAlias

import asyncpg

from tests.coherence.changes import Statement

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"

_CONNECT_SECONDS = 3.0
_COMMAND_SECONDS = 10.0
_LOST = (
    OSError,
    TimeoutError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,  # Upon some losses between two messages.
    asyncpg.OperatorInterventionError,
    asyncpg.PostgresConnectionError,
)


class DatabaseAwayError(Exception):
    """There is no connection: nothing was sent."""


class OutcomeUnknownError(Exception):
    """The connection was lost on the way: what was asked may have been committed."""


class RolledBackError(Exception):
    """The database refused: nothing was committed."""


class SqlClient:
    """One connection at a time."""

    def __init__(self, url: str, *, application_name: str = "somebody with psql") -> None:
        """Connect to this address when it is needed, under this name."""
        self._url = url
        self._application_name = application_name
        self._connection: Connection | None = None

    def close(self) -> None:
        """Cut the connection off."""
        if self._connection is not None:
            self._connection.terminate()
            self._connection = None

    async def fetch(self, sql: str, *arguments: object) -> list[dict[str, Any]]:
        """Run a statement that changes nothing. Raises DatabaseAwayError, whatever went wrong."""
        connection = await self._connected()
        try:
            return [dict(row) for row in await connection.fetch(sql, *arguments)]
        except (*_LOST, asyncpg.PostgresError) as error:
            self.close()
            message = f"{type(error).__name__}: {error}"
            raise DatabaseAwayError(message) from error

    async def run(
        self, parts: Sequence[Sequence[Statement]], *, held_seconds: float = 0.0, commits: bool = True
    ) -> list[dict[str, Any] | None]:
        """Run all parts in one transaction, wait, and commit or roll back.

        Returns:
            The last row of each part; None for a part that found no row, and was not gone on with.

        Raises:
            DatabaseAwayError, OutcomeUnknownError, RolledBackError: see there.
        """
        connection = await self._connected()
        try:
            transaction = connection.transaction()
            await transaction.start()
            rows = [await _run(connection, statements) for statements in parts]
            if held_seconds:
                await asyncio.sleep(held_seconds)
            await (transaction.commit() if commits else transaction.rollback())
        except _LOST as error:
            self.close()
            raise OutcomeUnknownError from error
        except asyncpg.PostgresError as error:
            self.close()
            raise RolledBackError from error
        return rows

    async def hold_transaction(self, seconds: float) -> None:
        """Keep a transaction open that has an id and changes nothing. Raises DatabaseAwayError."""
        connection = await self._connected()
        # No `async with`: who is cancelled would roll back on a connection that may be dead, and that error would
        # take the place of the cancellation.
        transaction = connection.transaction()
        try:
            await transaction.start()
            await connection.fetchval("SELECT pg_current_xact_id()")
            await asyncio.sleep(seconds)
            await transaction.rollback()
        except (*_LOST, asyncpg.PostgresError) as error:
            self.close()
            raise DatabaseAwayError from error

    async def _connected(self) -> "Connection":
        if self._connection is None or self._connection.is_closed():
            try:
                self._connection = await asyncpg.connect(
                    self._url,
                    timeout=_CONNECT_SECONDS,
                    command_timeout=_COMMAND_SECONDS,
                    server_settings={"application_name": self._application_name},
                )
            except (*_LOST, asyncpg.PostgresError) as error:
                self._connection = None
                raise DatabaseAwayError from error
        return self._connection


async def _run(connection: "Connection", statements: Sequence[Statement]) -> dict[str, Any] | None:
    row: dict[str, Any] | None = None
    for statement in statements:
        found = await connection.fetchrow(statement.sql, *statement.arguments)
        if found is None:
            return None
        row = dict(found)
    return row
