"""The connections to one Redis server: the only door to redis-py.

A conversation waits for its turn (first come, first served; at most `pool_size` talk at once), takes an idle
connection or makes one, sends commands, reads one reply for each, and gives the connection back only if
every reply was read. A connection that was left in the middle, by a timeout, a cancellation or a confused
parser, is closed and never used again: its late reply would be taken for the answer to somebody else's
question.

redis-py is used at the level of its connections. Its client and pools await between taking a connection and
giving it back, where a cancellation loses the connection, and its defaults make one GET on a hung server
last 59.6 s. Its `socket_timeout` stays unset on purpose: it would wrap each send in asyncio.wait_for, which
in Python 3.11 swallows a cancellation that comes as the send ends, and with it the deadline. The limits are
here instead: `timeout_seconds` for waiting, and again for connecting and talking together.

Whatever the driver raises leaves this module as CacheTimeout, CacheUnavailable or CacheBusy, with a short
text that holds no key, value or password.
"""

import asyncio
import os
import re
import socket
import ssl
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

from redis import exceptions as driver
from redis.asyncio.connection import AbstractConnection, SSLConnection, parse_url
from redis.asyncio.connection import Connection as TcpConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.maint_notifications import MaintNotificationsConfig
from redis.utils import HIREDIS_AVAILABLE

from zpmeow.cache.call_budget import report_talking, report_waiting
from zpmeow.cache.deadline import Deadline
from zpmeow.cache.errors import CacheBusy, CacheError, CacheTimeout, CacheUnavailable

Command = tuple[str | bytes | int, ...]
Replies = list[object]
Ask = Callable[[Sequence[Command]], Awaitable[Replies]]
"""Sends all commands in one write and returns one reply for each: bytes, int, None, a list, an ErrorReply."""


@dataclass(slots=True, frozen=True)
class ErrorReply:
    """The server's answer that it will not do what it was told, such as NOSCRIPT or READONLY."""

    code: str


class RedisConnections:
    """At most `pool_size` connections to one server, made when needed, kept while they are sound."""

    def __init__(self, *, url: str, pool_size: int, timeout_seconds: float) -> None:
        """Prepare; nothing is connected yet. Raises ValueError, without repeating it, for an unusable URL."""
        self._timeout_seconds = timeout_seconds
        self._turns = asyncio.Semaphore(pool_size)
        self._idle: list[AbstractConnection] = []
        self._generation = 0
        self._closed = False
        try:
            self._options: dict[str, Any] = {**parse_url(url), **_own_options(timeout_seconds)}
            self._class = _connection_class(self._options.pop("connection_class", TcpConnection), self._options)
            sample = self._make()
        except Exception as error:  # noqa: BLE001  (its text may hold the password: part of the URL)
            message = f"the URL of Redis cannot be used ({type(error).__name__})"
            raise ValueError(message) from None
        _check(sample, timeout_seconds)

    @property
    def idle_count(self) -> int:
        """How many connections wait for a conversation."""
        return len(self._idle)

    async def converse(self, conversation: Callable[[Ask], Awaitable[Replies]]) -> Replies:
        """Hold a conversation over one connection and return its replies, error replies included.

        Raises CacheError. After a cancellation the connection is closed if a reply was still to come.
        """
        try:
            await self._take_turn()
            try:
                return await self._talk(conversation)
            finally:
                self._turns.release()
        except CacheError:
            raise
        except (TimeoutError, driver.TimeoutError):
            message = "timeout"
            raise CacheTimeout(message) from None
        except Exception as error:  # noqa: BLE001  (whatever a driver raises is an unusable tier, and nobody's crash)
            await self.drop()  # The others lead to the same server, which may be another one now.
            raise CacheUnavailable(_explain(error)) from None

    async def drop(self) -> None:
        """Close all: the idle ones now, those in use when their conversation ends. Waits for nothing."""
        self._generation += 1
        idle, self._idle = self._idle, []
        for connection in idle:
            await connection.disconnect(nowait=True)

    async def close(self) -> None:
        """Close all for good."""
        self._closed = True
        await self.drop()

    async def _take_turn(self) -> None:
        if not self._turns.locked():
            await self._turns.acquire()  # Does not wait.
            return
        clock = asyncio.get_running_loop().time
        report_waiting()
        try:
            async with Deadline(clock() + self._timeout_seconds):
                await self._turns.acquire()
        except TimeoutError:
            message = "no connection came free in time"
            raise CacheBusy(message) from None
        report_talking(clock())

    async def _talk(self, conversation: Callable[[Ask], Awaitable[Replies]]) -> Replies:
        generation = self._generation
        connection: AbstractConnection | None = None
        finished = False

        async def ask(commands: Sequence[Command]) -> Replies:
            assert connection is not None
            return await _ask(connection, commands)

        try:
            async with Deadline(asyncio.get_running_loop().time() + self._timeout_seconds):
                connection = await self._take_connection()
                await connection.connect()  # type: ignore[no-untyped-call]  # Nothing, if it is connected.
                replies = await conversation(ask)
                finished = True
        finally:
            # Neither way waits, so no cancellation can come in between.
            if connection is not None:
                if finished and generation == self._generation and not self._closed:
                    self._idle.append(connection)
                else:
                    await connection.disconnect(nowait=True)
        return replies

    async def _take_connection(self) -> AbstractConnection:
        """Return the idle connection used last that is still sound, or a new one, not connected yet."""
        if self._closed:
            message = "closed"
            raise CacheUnavailable(message)
        while self._idle:
            connection = self._idle.pop()
            if await _is_sound(connection):
                return connection
            await connection.disconnect(nowait=True)
        return self._make()

    def _make(self) -> AbstractConnection:
        return self._class(**self._options)


def _own_options(timeout_seconds: float) -> dict[str, Any]:
    """Return what the URL must not decide."""
    return {
        "socket_timeout": None,  # See the module's docstring.
        "socket_connect_timeout": timeout_seconds,
        "retry": Retry(NoBackoff(), 0),
        "retry_on_timeout": False,
        "retry_on_error": [],
        "health_check_interval": 0,
        # RESP2 without a name: connecting costs no round trip beyond what password and database need.
        "protocol": 2,
        "driver_info": None,
        "client_name": None,
        "maint_notifications_config": MaintNotificationsConfig(enabled=False),
        "decode_responses": False,
    }


def _connection_class(kind: type[AbstractConnection], options: dict[str, Any]) -> type[AbstractConnection]:
    """Let all TLS connections share one context: making one reads the system's certificates from disk."""
    if not issubclass(kind, SSLConnection):
        return kind
    shared = kind(**options).ssl_context
    shared.get()

    class SharedContextConnection(SSLConnection):
        def __init__(self, **options: Any) -> None:  # noqa: ANN401  (the driver's own options)
            super().__init__(**options)
            self.ssl_context = shared

    return SharedContextConnection


def _check(sample: AbstractConnection, timeout_seconds: float) -> None:
    """Refuse a driver that did not take its settings: its defaults would undo every deadline, silently."""
    settings = {
        "retries": (sample.retry.get_retries(), 0),
        "retried errors": (sample.retry_on_error, []),
        "connect timeout": (sample.socket_connect_timeout, timeout_seconds),
        "socket timeout": (sample.socket_timeout, None),
        "health check interval": (sample.health_check_interval, 0),
        "protocol": (sample.protocol, 2),
        "hiredis": (HIREDIS_AVAILABLE, True),
    }
    wrong = [f"{name} is {found!r}" for name, (found, wanted) in settings.items() if found != wanted]
    if wrong:
        message = f"redis-py did not take its settings: {', '.join(wrong)}"
        raise RuntimeError(message)


async def _ask(connection: AbstractConnection, commands: Sequence[Command]) -> Replies:
    await connection.send_packed_command(connection.pack_commands(commands), check_health=False)
    replies: Replies = []
    for _ in commands:
        try:
            replies.append(await connection.read_response())
        except driver.ResponseError as error:
            replies.append(ErrorReply(_code(error) or "ERR"))
    return replies


async def _is_sound(connection: AbstractConnection) -> bool:
    """Tell whether the peer has neither closed the connection nor said something unasked."""
    try:
        return connection.is_connected and not await connection.can_read()
    except (driver.RedisError, OSError):
        return False


def _explain(error: Exception) -> str:
    """Return a short reason without secrets: an error's own text may repeat arguments."""
    if isinstance(error, driver.RedisError) and (code := _code(error)):
        return f"Redis answered {code}"
    for cause in (error, error.__cause__, error.__context__):
        if isinstance(cause, OSError):
            return _explain_os_error(cause)
    if isinstance(error, driver.ConnectionError):
        return "the connection was closed"
    return f"unexpected {type(error).__name__}"


def _explain_os_error(error: OSError) -> str:
    match error:
        case ssl.SSLError():
            return f"TLS failed: {error.reason or type(error).__name__}"
        case socket.gaierror():
            return "the host's name cannot be resolved"
        case OSError(errno=int(number)):
            return os.strerror(number).lower()
        case _:
            return "cannot connect"


def _code(error: driver.RedisError) -> str:
    """Find the code of an error reply; Redis 6.2 wraps the one that a script ran into in a text."""
    if error.status_code and error.status_code != "ERR":
        return error.status_code
    found = re.search(r"(?:^|-)([A-Z]{3,20})\b", str(error)) if isinstance(error, driver.ResponseError) else None
    return found.group(1) if found else error.status_code or ""
