"""The way of every query: a place in line, a connection, the statement, all within one deadline.

What is guaranteed:

- A call ends within its deadline, whatever the server does: waiting, connecting, a whole transaction and its
  commit included. Who spent it before anything was sent gets `Overloaded`, anyone else `DatabaseUnavailable`.
- The deadline is shorter for who asks for the second time in one request: what is left of the first's.
- A call that runs out of time or is cancelled cuts its connection off without waiting, and its place is free at once.
  The server ends the abandoned statement by itself: it looks for its client twice a second (PostgreSQL 14 and newer)
  and has a statement_timeout a little above the deadline.
- No error of asyncpg gets out.

Beside the connections of the requests there is one more, the reserve, for what must work while all those are busy:
health checks and the shared settings. It is one connection per process above the pool's size.

Not meant for PgBouncer in transaction mode: prepared statements are kept, and settings are sent at connecting.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass
from typing import Self, TypeVar

import asyncpg

from zpmeow.domain.errors import DatabaseUnavailable, DomainError, Overloaded
from zpmeow.domain.patience import patience_left
from zpmeow.events import Observer, QueryFinished, ignore
from zpmeow.postgres.connections import Connection, ConnectionPool, PoolStatistics
from zpmeow.postgres.failures import Failure, QueryOutcome, classify, timed_out
from zpmeow.postgres.reachability import Reachability

Result = TypeVar("Result")

APPLICATION_NAME = "zpmeow"
MIN_SERVER_VERSION = 13
RESERVE_TIMEOUT_SECONDS = 0.9  # A health check has 1 s.
_STATEMENT_GRACE_SECONDS = 1.0  # Ours is the deadline; the server's is for what we abandoned.
_LEAST_RATIO = 0.1  # Who has less than that share of the deadline left has no time: nothing is sent for him.
_FAIR_RATIO = 0.5  # A statement that had less than that share of the deadline says nothing about the server.
_CLIENT_CHECK = "SET client_connection_check_interval = '500ms'"
_CLIENT_CHECK_SINCE_VERSION = 14


class Transaction:
    """A transaction under way: statements see and lock rows together until it ends."""

    def __init__(self, connection: "Connection") -> None:
        """Run on the connection, which is in a transaction."""
        self._connection = connection

    async def fetch_row(self, sql: str, *arguments: object) -> asyncpg.Record | None:
        """Run a statement and return its first row."""
        return await self._connection.fetchrow(sql, *arguments)


@dataclass(slots=True, kw_only=True)
class _Lane:
    """Connections with the deadline of their calls.

    Requests that find no place mean overload, and have less time when they ask again; others mean no database.
    """

    pool: ConnectionPool
    timeout_seconds: float
    is_for_requests: bool


class Database:
    """PostgreSQL as the rest of this package uses it."""

    def __init__(self, *, url: str, pool_size: int, timeout_seconds: float, observer: Observer = ignore) -> None:
        """Prepare; nothing is opened before the first call, so this works with the database away.

        Args:
            url: a postgresql:// URL; a socket's folder as `?host=/path`; `sslmode` as libpq has it.
            pool_size: connections for requests; one more is kept in reserve.
            timeout_seconds: the deadline of one call.
            observer: is told of each query and of each change of reachability.
        """
        self._url = url
        self._timeout_seconds = timeout_seconds
        self._observer = observer
        self._reachability = Reachability(observer=observer)
        self._requests = _Lane(
            pool=ConnectionPool(size=pool_size, connect=self._connect),
            timeout_seconds=timeout_seconds,
            is_for_requests=True,
        )
        self._reserve = _Lane(
            pool=ConnectionPool(size=1, connect=self._connect),
            timeout_seconds=min(timeout_seconds, RESERVE_TIMEOUT_SECONDS),
            is_for_requests=False,
        )

    @classmethod
    async def open(cls, *, url: str, pool_size: int, timeout_seconds: float, observer: Observer = ignore) -> Self:
        """Make a database that can be called; arguments as above. Works with the database away."""
        return cls(url=url, pool_size=pool_size, timeout_seconds=timeout_seconds, observer=observer)

    async def close(self) -> None:
        """Close all connections, cut off calls that are under way. Takes at most about 1 s; twice is once."""
        await asyncio.gather(self._requests.pool.close(), self._reserve.pool.close())

    @property
    def problem(self) -> str | None:
        """Why the database does not answer, as far as calls have found out; None while it does."""
        return self._reachability.problem

    @property
    def is_down(self) -> bool:
        """Whether nobody listens at its address: then nobody can change anything."""
        return self._reachability.is_down

    @property
    def answered_at(self) -> float:
        """When it answered last, by the monotonic clock."""
        return self._reachability.answered_at

    def statistics(self) -> PoolStatistics:
        """Return how the connections of the requests are used."""
        return self._requests.pool.statistics()

    async def fetch(self, query: str, sql: str, *arguments: object) -> list[asyncpg.Record]:
        """Run one statement and return its rows. `query` names it in metrics."""
        return await self._call(self._requests, query, lambda connection: connection.fetch(sql, *arguments))

    async def fetch_row(self, query: str, sql: str, *arguments: object) -> asyncpg.Record | None:
        """Run one statement and return its first row."""
        return await self._call(self._requests, query, lambda connection: connection.fetchrow(sql, *arguments))

    async def fetch_on_several(self, query: str, many: int, statements: Collection[tuple[str, object]]) -> None:
        """Run the same statements, each with its argument, on so many connections at once. Returns nothing of it."""

        async def run(connection: "Connection") -> None:
            for sql, argument in statements:
                await connection.fetch(sql, argument)

        calls = (self._call(self._requests, query, run) for _ in range(many))
        for outcome in await asyncio.gather(*calls, return_exceptions=True):
            if isinstance(outcome, BaseException):
                raise outcome

    async def fetch_row_from_reserve(self, query: str, sql: str, *arguments: object) -> asyncpg.Record | None:
        """Run one small statement on the reserved connection, within 0.9 s. For health and shared settings only."""
        return await self._call(self._reserve, query, lambda connection: connection.fetchrow(sql, *arguments))

    async def transaction(self, query: str, work: Callable[[Transaction], Awaitable[Result]]) -> Result:
        """Run `work` in a transaction; what it raises undoes all and is raised here.

        One deadline for all of it. When that passes during the commit, nobody knows whether it happened.
        """

        async def run(connection: "Connection") -> Result:
            # Not asyncpg's own context manager: cancelled, it would wait for the server to roll back.
            await connection.execute("BEGIN")
            try:
                result = await work(Transaction(connection))
            except (DomainError, asyncpg.PostgresError):
                if not connection.is_closed():
                    await connection.execute("ROLLBACK")
                raise
            await connection.execute("COMMIT")
            return result

        return await self._call(self._requests, query, run)

    async def _call(self, lane: _Lane, query: str, work: Callable[["Connection"], Awaitable[Result]]) -> Result:
        began_at = time.monotonic()
        outcome = await self._attempt(lane, work)
        duration_seconds = time.monotonic() - began_at
        # Raised here, outside of any except clause, so that asyncpg's error is not even the context of ours.
        if isinstance(outcome, Failure):
            self._observer(QueryFinished(query, outcome.outcome, duration_seconds))
            raise outcome.error
        self._observer(QueryFinished(query, QueryOutcome.OK, duration_seconds))
        return outcome

    async def _attempt(self, lane: _Lane, work: Callable[["Connection"], Awaitable[Result]]) -> Result | Failure:
        began = self._reachability.begin()
        began_at = time.monotonic()
        seconds = min(lane.timeout_seconds, patience_left(began_at)) if lane.is_for_requests else lane.timeout_seconds
        place_at: float | None = None
        connection: Connection | None = None
        fit = False
        try:
            async with asyncio.timeout(seconds):
                await lane.pool.take_place()
                place_at = time.monotonic()
                if began_at + seconds - place_at < lane.timeout_seconds * _LEAST_RATIO:
                    return _no_time(lane)
                connection = await lane.pool.borrow()
                result = await work(connection)
        except TimeoutError:
            if place_at is not None and time.monotonic() - place_at > lane.timeout_seconds * _FAIR_RATIO:
                failure = timed_out(lane.timeout_seconds)
            else:
                failure = _no_time(lane) if connection is None else _no_answer_in_short_time()
        except Exception as error:  # noqa: BLE001  (classify lets through what is not the database's)
            failure = classify(error, connecting=connection is None)
            fit = failure.problem is None and isinstance(error, (asyncpg.PostgresError, DomainError))
        else:
            fit = True
            self._reachability.answered()
            return result
        finally:
            # No await from here on: a cancelled caller and one that is out of time are gone at once.
            if place_at is not None:
                lane.pool.give_back(connection, fit=fit)
        if failure.problem is not None:
            self._note_failure(began, failure.problem, is_down=failure.is_down)
        elif fit:
            self._reachability.answered()
        return failure

    def _note_failure(self, began: int, problem: str, *, is_down: bool) -> None:
        self._reachability.failed(began, problem, is_down=is_down)
        if self._reachability.problem is not None:
            # A server that was cut off from us tells nobody. Each of its connections would cost a caller his deadline.
            self._requests.pool.drop_idle()
            self._reserve.pool.drop_idle()

    async def _connect(self) -> "Connection":
        milliseconds = 1000
        connection = await asyncpg.connect(
            self._url,
            timeout=self._timeout_seconds,
            max_cached_statement_lifetime=0,  # As long as the connection, or until asyncpg's hundred places are full.
            server_settings={
                "application_name": APPLICATION_NAME,
                # The statements rely on it: each sees what was committed before it began.
                "default_transaction_isolation": "read committed",
                # Each reads a few rows by an index. Prepared, with a LIMIT that the planner does not know, a page looks
                # large to it: starting a worker took 6 of 7 ms.
                "max_parallel_workers_per_gather": "0",
                "jit": "off",
                "statement_timeout": str(round((self._timeout_seconds + _STATEMENT_GRACE_SECONDS) * milliseconds)),
                "idle_in_transaction_session_timeout": str(
                    round((self._timeout_seconds + _STATEMENT_GRACE_SECONDS) * milliseconds)
                ),
                "lock_timeout": str(max(1, round(self._timeout_seconds * milliseconds))),
            },
        )
        try:
            await _prepare_for_use(connection)
        except BaseException:
            connection.terminate()
            raise
        return connection


def _no_answer_in_short_time() -> Failure:
    """Not `Overloaded`, which promises that nothing was done: the statement may have been carried out."""
    return Failure(
        error=DatabaseUnavailable("the database did not answer in the time that was left"),
        outcome=QueryOutcome.TIMEOUT,
        problem=None,
    )


def _no_time(lane: _Lane) -> Failure:
    if not lane.is_for_requests:
        return timed_out(lane.timeout_seconds)
    return Failure(
        error=Overloaded("no database connection came free in time"), outcome=QueryOutcome.OVERLOADED, problem=None
    )


async def _prepare_for_use(connection: "Connection") -> None:
    version = connection.get_server_version()
    if version.major < MIN_SERVER_VERSION:
        message = f"PostgreSQL {version.major} is too old: {MIN_SERVER_VERSION} or newer is needed"
        raise DatabaseUnavailable(message)
    if version.major >= _CLIENT_CHECK_SINCE_VERSION:
        try:
            await connection.execute(_CLIENT_CHECK)
        except asyncpg.InvalidParameterValueError:
            return  # The server's platform cannot look for its client; statement_timeout ends what we abandon.
