"""A connection of its own, outside the pool: for who listens, or holds a lock for as long as the connection lives.

Every call has a deadline. Whatever goes wrong, the session is over then: its user opens another. No error of asyncpg
gets out.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, TypeVar

import asyncpg

from zpmeow.domain.errors import DatabaseUnavailable
from zpmeow.postgres.database import MIN_SERVER_VERSION
from zpmeow.postgres.failures import classify

if TYPE_CHECKING:
    from zpmeow.postgres.connections import Connection

T = TypeVar("T")

CONNECT_SECONDS = 3.0
QUERY_SECONDS = 3.0
_FAREWELL_SECONDS = 1.0
_IDLE_TIMEOUT_SINCE_VERSION = 14
_KEEPALIVE = {"tcp_keepalives_idle": "5", "tcp_keepalives_interval": "2", "tcp_keepalives_count": "3"}
"""A client that went away without a word (its host is off, a cable is out) is given up after some ten seconds."""


class Session:
    """One connection to PostgreSQL; use `open_session`."""

    def __init__(self, connection: "Connection") -> None:
        """Take the connection over."""
        self._connection = connection

    async def fetch(self, sql: str, *arguments: object, seconds: float = QUERY_SECONDS) -> list[asyncpg.Record]:
        """Run one statement within the deadline and return its rows. Raises DatabaseUnavailable."""
        return await self._within(seconds, self._connection.fetch(sql, *arguments))

    async def fetch_row(self, sql: str, *arguments: object, seconds: float = QUERY_SECONDS) -> asyncpg.Record:
        """Run one statement that returns at least one row, and return the first."""
        rows = await self.fetch(sql, *arguments, seconds=seconds)
        if not rows:
            message = "a row is missing that must be there"
            raise DatabaseUnavailable(message)
        return rows[0]

    async def listen(self, channel: str, receive: Callable[[str], None]) -> None:
        """Call `receive` with the payload of each notification from now on. Raises DatabaseUnavailable."""
        listening = self._connection.add_listener(
            channel, lambda _connection, _pid, _channel, payload: receive(str(payload))
        )
        await self._within(QUERY_SECONDS, listening)

    def on_end(self, tell: Callable[[], None]) -> None:
        """Call `tell` when the connection is gone, whoever ended it."""
        self._connection.add_termination_listener(lambda _connection: tell())

    async def _within(self, seconds: float, call: Awaitable[T]) -> T:
        failure: Exception
        try:
            async with asyncio.timeout(seconds):
                return await call
        except TimeoutError:
            failure = DatabaseUnavailable(f"no answer within {seconds:g} s")
        except Exception as error:  # noqa: BLE001  (whatever ended the call ended the session)
            found = classify(error, connecting=False)
            failure = DatabaseUnavailable(found.problem or str(found.error))
        self._connection.terminate()
        raise failure


@asynccontextmanager
async def open_session(
    *, url: str, name: str, settings: dict[str, str], idle_timeout_seconds: float | None = None
) -> AsyncIterator[Session]:
    """Open a session for as long as the block runs.

    Args:
        url: the database.
        name: what pg_stat_activity shows.
        settings: of the session.
        idle_timeout_seconds: the server ends the session if nothing is asked for so long (PostgreSQL 14 and newer).

    Raises:
        DatabaseUnavailable: the database cannot be reached, or is too old.
    """
    failure: Exception
    try:
        connection = await asyncpg.connect(
            url, timeout=CONNECT_SECONDS, server_settings={"application_name": name, **_KEEPALIVE, **settings}
        )
    except Exception as error:  # noqa: BLE001  (told as one error, whatever the driver or the system raised)
        found = classify(error, connecting=True)
        failure = DatabaseUnavailable(found.problem or str(found.error))
    else:
        session = Session(connection)
        try:
            await _prepare(connection, session, idle_timeout_seconds)
            yield session
            await _say_goodbye(connection)
        finally:
            connection.terminate()
        return
    raise failure


async def _prepare(connection: "Connection", session: Session, idle_timeout_seconds: float | None) -> None:
    version = connection.get_server_version().major
    if version < MIN_SERVER_VERSION:
        message = f"PostgreSQL {version} is too old: {MIN_SERVER_VERSION} or newer is needed"
        raise DatabaseUnavailable(message)
    if idle_timeout_seconds is not None and version >= _IDLE_TIMEOUT_SINCE_VERSION:
        milliseconds = str(round(idle_timeout_seconds * 1000))
        await session.fetch("SELECT set_config('idle_session_timeout', $1, false)", milliseconds)


async def _say_goodbye(connection: "Connection") -> None:
    try:
        await connection.close(timeout=_FAREWELL_SECONDS)
    except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError):
        return  # It is cut off next.
