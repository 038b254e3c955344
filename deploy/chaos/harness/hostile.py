"""Clients that do harm, beside the load: raw connections that do what no library would.

A client that could not do its harm must not count as one that did: who gets no connection ends the run, and of all
others is told what became of their work, so that each scenario can demand how much of it there must be.
"""

import asyncio
import errno
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import TypeAlias

from tests.coherence.world import World
from tests.servers.processes import ServerFailedError

_PAUSE_SECONDS = 0.05
_RESET_AT_ONCE = struct.pack("ii", 1, 0)
_NONE_LEFT = (errno.EMFILE, errno.ENFILE)

Streams: TypeAlias = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@dataclass(slots=True, kw_only=True)
class Rounds:
    """What became of the work of a crowd, of which each client does one round after the other.

    Attributes:
        done: the client did all that it wanted to do.
        ended: the service ended the connection under it.
        unfinished: it was at it when the time was over.
    """

    done: int = 0
    ended: int = 0
    unfinished: int = 0


async def connect(port: int, *, receive_buffer_bytes: int | None = None) -> socket.socket:
    """Connect to a port of 127.0.0.1.

    Args:
        port: of a service.
        receive_buffer_bytes: what the system is to keep for this client; None: as much as it likes.

    Raises:
        ServerFailedError: there is no connection: refused, reset, or this process has no file descriptors left.
    """
    line: socket.socket | None = None
    try:
        line = socket.socket()
        line.setblocking(False)  # noqa: FBT003  (the name of the call says what it means)
        if receive_buffer_bytes is not None:
            line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer_bytes)
        await asyncio.get_running_loop().sock_connect(line, ("127.0.0.1", port))
    except OSError as error:
        if line is not None:
            line.close()
        message = f"no connection to port {port}: {error!r}"
        raise ServerFailedError(message) from error
    except BaseException:
        if line is not None:
            line.close()
        raise
    return line


@asynccontextmanager
async def connected(port: int) -> AsyncIterator[Streams]:
    """Connect to a port of 127.0.0.1; at the end of the block the connection is reset, if the service has not ended it.

    Raises:
        ServerFailedError: there is no connection.
    """
    line = await connect(port)
    line.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_AT_ONCE)
    reader, writer = await asyncio.open_connection(sock=line)
    try:
        yield reader, writer
    finally:
        writer.transport.abort()
        with suppress(OSError):
            await writer.wait_closed()


async def crowd(world: World, many: int, seconds: float, do: Callable[[int], Awaitable[None]]) -> Rounds:
    """Let so many of these, spread over all processes, do their work again and again for so long.

    `do` is given the port of a process. That the service ends the connection under it is counted; whether that may be
    is the scenario's affair. That it gets no connection at all, or fails by itself, ends the crowd.

    Raises:
        ServerFailedError: there was no connection, or this process had no file descriptors left.
    """
    ports = [service.port for service in world.services.values()]
    rounds = Rounds()

    async def one(number: int) -> None:
        while True:
            await _do_one(rounds, do, ports[number % len(ports)])
            await asyncio.sleep(_PAUSE_SECONDS)

    tasks = [asyncio.create_task(one(number)) for number in range(many)]
    try:
        failed, _ = await asyncio.wait(tasks, timeout=seconds, return_when=asyncio.FIRST_EXCEPTION)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
    for task in failed:
        task.result()
    return rounds


def demand(many: int, least: int, what: str) -> None:
    """Make sure that there were so many of something by which the fault is known.

    Raises:
        ServerFailedError: there were fewer.
    """
    if many < least:
        message = f"{many} {what}, {least} are the least"
        raise ServerFailedError(message)


async def _do_one(rounds: Rounds, do: Callable[[int], Awaitable[None]], port: int) -> None:
    try:
        await do(port)
    except (ConnectionError, asyncio.IncompleteReadError):
        rounds.ended += 1
    except OSError as error:
        if error.errno not in _NONE_LEFT:
            raise
        message = "this process has no file descriptors left"
        raise ServerFailedError(message) from error
    except asyncio.CancelledError:
        rounds.unfinished += 1
        raise
    else:
        rounds.done += 1
