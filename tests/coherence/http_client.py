"""A small HTTP/1.1 client on one keep-alive connection: what it costs is what the checker can read per second.

It knows what this service sends: a status, headers, a body with Content-Length. One request at a time.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, cast

import orjson
from typing_extensions import override

_END_OF_HEAD = b"\r\n\r\n"
ANSWER_SECONDS = 20.0
"""Longer than any process is frozen or waits for its database."""


class ConnectionLostError(Exception):
    """The connection could not be made, or ended before the answer was complete."""


@dataclass(slots=True, frozen=True, kw_only=True)
class Request:
    """What a caller asks for."""

    method: str
    path: str
    key: str
    body: Mapping[str, object] | None = field(default=None)

    def encode(self) -> bytes:
        """Return the bytes to send."""
        body = b"" if self.body is None else orjson.dumps(self.body)
        head = f"{self.method} {self.path} HTTP/1.1\r\nHost: 127.0.0.1\r\nX-API-Key: {self.key}\r\n"
        if self.body is not None:
            head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
        elif self.method != "GET":
            head += "Content-Length: 0\r\n"
        return f"{head}\r\n".encode() + body

    def __str__(self) -> str:
        """Show it without the rest of its key."""
        return f"{self.method} {self.path} by {self.key[:12]}"


@dataclass(slots=True, frozen=True, kw_only=True)
class Answer:
    """An answer, read whole."""

    status: int
    cache_status: str | None
    body: bytes

    @property
    def data(self) -> dict[str, Any]:
        """What stands under `data`."""
        data: dict[str, Any] = orjson.loads(self.body)["data"]
        return data

    @property
    def error(self) -> str:
        """The error's code."""
        code: str = orjson.loads(self.body)["error"]["code"]
        return code


class HttpClient:
    """A caller of one process. The connection is made when it is needed, and anew after it broke."""

    def __init__(self, port: int) -> None:
        """Call the process on this port of 127.0.0.1."""
        self._port = port
        self._connection: _Connection | None = None

    async def ask(self, request: Request) -> Answer:
        """Send a request and return the answer. After a cancellation the connection is reset.

        Raises:
            ConnectionLostError: there is no answer, and there will be none.
            TimeoutError: there was none in time.
        """
        data = request.encode()
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                await self.connect()
                connection = self._connection
                assert connection is not None
                answer = await connection.exchange(data)
        except BaseException:
            self.close()
            raise
        if connection.is_closing:
            self.close()
        return answer

    async def connect(self) -> None:
        """Connect, if there is no connection that lives. Raises ConnectionLostError."""
        if self._connection is None or self._connection.is_closing:
            self._connection = await self._connect()

    def close(self) -> None:
        """Reset the connection, if there is one."""
        if self._connection is not None:
            self._connection.abort()
            self._connection = None

    async def _connect(self) -> "_Connection":
        try:
            _, connection = await asyncio.get_running_loop().create_connection(_Connection, "127.0.0.1", self._port)
        except OSError as error:
            message = f"cannot connect: {error}"
            raise ConnectionLostError(message) from error
        return connection


class _Connection(asyncio.Protocol):
    """One connection and the one answer that is waited for."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._buffer = b""
        self._waiting: asyncio.Future[Answer] | None = None
        self.is_closing = False

    async def exchange(self, data: bytes) -> Answer:
        """Send a request; return its answer."""
        assert self._transport is not None
        if self.is_closing:
            message = "lost before anything was sent"
            raise ConnectionLostError(message)
        self._waiting = asyncio.get_running_loop().create_future()
        self._transport.write(data)
        try:
            return await self._waiting
        finally:
            self._waiting = None

    def abort(self) -> None:
        """Reset the connection."""
        if self._transport is not None:
            self._transport.abort()

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are no subclasses of asyncio's.
        self._transport = cast("asyncio.Transport", transport)

    @override
    def data_received(self, data: bytes) -> None:
        self._buffer += data
        end = self._buffer.find(_END_OF_HEAD)
        if end < 0:
            return
        head = self._buffer[:end].decode("latin-1").split("\r\n")
        headers = dict(_split(line) for line in head[1:])
        size = end + len(_END_OF_HEAD) + int(headers.get("content-length", "0"))
        if len(self._buffer) < size:
            return
        answer = Answer(
            status=int(head[0].split(" ", 2)[1]),
            cache_status=headers.get("cache-status"),
            body=self._buffer[end + len(_END_OF_HEAD) : size],
        )
        self._buffer = self._buffer[size:]
        self.is_closing = headers.get("connection", "").lower() == "close"
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(answer)

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        self.is_closing = True
        if self._waiting is not None and not self._waiting.done():
            message = f"lost while waiting for an answer: {exc}"
            self._waiting.set_exception(ConnectionLostError(message))


def _split(line: str) -> tuple[str, str]:
    name, _, value = line.partition(":")
    return name.lower(), value.strip()
