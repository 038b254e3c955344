"""Clients that do harm, beside the load: raw connections that do what no library would."""

import asyncio
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import TypeAlias

from tests.coherence.world import World
from tests.servers.processes import ServerFailedError

_PAUSE_SECONDS = 0.05
_RESET_AT_ONCE = struct.pack("ii", 1, 0)

Streams: TypeAlias = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@asynccontextmanager
async def connected(port: int) -> AsyncIterator[Streams]:
    """Connect to a port of 127.0.0.1; at the end of the block the connection is reset."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        yield reader, writer
    finally:
        line = writer.get_extra_info("socket")
        if line is not None:
            line.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_AT_ONCE)
        writer.transport.abort()
        with suppress(OSError):
            await writer.wait_closed()


async def crowd(world: World, many: int, seconds: float, do: Callable[[int], Awaitable[None]]) -> None:
    """Let so many of these, spread over all processes, do their work again and again for so long.

    `do` is given the port of a process. What the service says to it by ending the connection is no matter; that it
    takes no connection is.

    Raises:
        ServerFailedError: a connection was refused.
    """
    ports = [service.port for service in world.services.values()]

    async def one(number: int) -> None:
        while True:
            try:
                await do(ports[number % len(ports)])
            except ConnectionRefusedError as error:
                message = "the service accepts no connections"
                raise ServerFailedError(message) from error
            except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
                pass  # The service has ended it.
            await asyncio.sleep(_PAUSE_SECONDS)

    with suppress(TimeoutError):
        async with asyncio.timeout(seconds), asyncio.TaskGroup() as group:
            for number in range(many):
                group.create_task(one(number))
