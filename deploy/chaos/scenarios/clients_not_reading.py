"""Clients ask for much and read nothing of it."""

import asyncio
import fcntl
import socket
import struct
import termios

from deploy.chaos.harness.expectations import seen_by_the_fault
from deploy.chaos.harness.hostile import connect, connected, crowd, demand
from deploy.chaos.harness.scenario import Limits, Scenario
from tests.coherence.world import World
from tests.servers.processes import ServerFailedError

_CLIENTS = 60
_SECONDS = 10.0
_REQUESTS = 200
_RECEIVE_BUFFER_BYTES = 2048
_FILLING_SECONDS = 1.0  # Until the buffers are full, on a busy machine, too.
_HELD_SECONDS = 4.0
_LEAST_ANSWER_BYTES = 100_000
_BUFFERED_BYTES = 400_000  # More than the systems of both sides keep: what comes beyond, the service had yet to send.
_MOST_MEMORY_RATIO = 1.35  # aiohttp keeps the heads of 12,000 requests that were sent and whose turn has not come.
_REQUEST = b"GET /openapi.json HTTP/1.1\r\nHost: deaf.test\r\n\r\n"  # Much to send, and nothing to work out.
_SUCCESS = b"HTTP/1.1 200"


async def _inject(world: World) -> None:
    for service in world.services.values():
        await _make_sure_that_the_answer_is_large(service.port)
    stuck = 0

    async def ask_and_do_not_listen(port: int) -> None:
        nonlocal stuck
        with await connect(port, receive_buffer_bytes=_RECEIVE_BUFFER_BYTES) as line:
            await asyncio.get_running_loop().sock_sendall(line, _REQUEST * _REQUESTS)
            await asyncio.sleep(_FILLING_SECONDS)
            filled = _unread_bytes(line)
            await asyncio.sleep(_HELD_SECONDS)
            if 0 < filled == _unread_bytes(line) and await _goes_on(line):
                stuck += 1

    await crowd(world, _CLIENTS, _SECONDS, ask_and_do_not_listen)
    demand(stuck, _CLIENTS, "connections stood still until something was read")


async def _make_sure_that_the_answer_is_large(port: int) -> None:
    async with connected(port) as (reader, writer):
        writer.write(_REQUEST)
        head = await reader.readuntil(b"\r\n\r\n")
        size = int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0])
        if not head.startswith(_SUCCESS) or size < _LEAST_ANSWER_BYTES:
            message = f"a document of {size} bytes is nothing to stumble over: {head!r}"
            raise ServerFailedError(message)


def _unread_bytes(line: socket.socket) -> int:
    """Return how much lies there to be read."""
    (size,) = struct.unpack("i", fcntl.ioctl(line, termios.FIONREAD, bytes(struct.calcsize("i"))))
    return int(size)


async def _goes_on(line: socket.socket) -> bool:
    """Read, and tell whether more comes than can have lain in buffers, beginning with an answer."""
    line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFERED_BYTES)
    taken = b""
    while len(taken) <= _BUFFERED_BYTES:
        more = await asyncio.get_running_loop().sock_recv(line, _BUFFERED_BYTES)
        if not more:
            return False
        taken += more
    return taken.startswith(_SUCCESS)


SCENARIO = Scenario(
    hypothesis="An answer that is not taken stops its own connection alone; it is not piled up in memory. That many"
    " large answers at once are work, though: others wait for it.",
    fault=f"{_CLIENTS} clients send {_REQUESTS} requests each without reading, for {_SECONDS:g} s",
    aborts_when="the service accepts no connections, or an answer is not large enough to fill what lies between",
    inject=_inject,
    expects=(seen_by_the_fault,),
    limits=Limits(p99_seconds=0.2, memory_ratio=_MOST_MEMORY_RATIO),
    disturbs_stores=False,
)
