"""An answer as the bytes that go over the line: nothing is left to be made of it."""

import time
from email.utils import formatdate
from functools import lru_cache

from aiohttp import web
from aiohttp.abc import AbstractStreamWriter
from typing_extensions import override


class WrittenResponse(web.StreamResponse):
    """Bytes for a connection.

    aiohttp asks a response for three things: to prepare itself, to write itself, and whether the connection is kept.
    The rest of `StreamResponse`, headers to be filled in above all, is left out, its constructor included: that would
    cost as much as all the rest of the answer.
    """

    _writer: AbstractStreamWriter

    def __init__(self, data: bytes, *, keep_alive: bool) -> None:
        """Take a whole answer, head and body; without `keep_alive` the connection is closed after it."""
        self._data = data
        self._keep_alive = keep_alive

    def __repr__(self) -> str:
        """Show how long it is."""
        return f"WrittenResponse({len(self._data)} bytes)"

    @override
    async def prepare(self, request: web.BaseRequest) -> None:
        self._writer = request.writer

    @override
    async def write_eof(self, data: bytes = b"") -> None:
        # Not `write`, which waits for a peer that does not read only beyond 64 KiB of one answer.
        await self._writer.write_eof(self._data)


def date_line() -> bytes:
    """Return the header that tells the time, as a line."""
    return _date_line(int(time.time()))


@lru_cache(maxsize=1)
def _date_line(second: int) -> bytes:
    return f"Date: {formatdate(second, usegmt=True)}\r\n".encode()
