"""Clients ask for much and read nothing of it."""

import asyncio
import socket

from deploy.chaos.harness.expectations import seen_by_the_fault
from deploy.chaos.harness.hostile import crowd
from deploy.chaos.harness.scenario import Limits, Scenario
from tests.coherence.world import World

_CLIENTS = 60
_SECONDS = 10.0
_REQUESTS = 200
_RECEIVE_BUFFER_BYTES = 2048
_HELD_SECONDS = 5.0
_MOST_MEMORY_RATIO = 1.35  # aiohttp keeps the heads of 12,000 requests that were sent and whose turn has not come.
_REQUEST = b"GET /openapi.json HTTP/1.1\r\nHost: deaf.test\r\n\r\n"  # Much to send, and nothing to work out.


async def _inject(world: World) -> None:
    await crowd(world, _CLIENTS, _SECONDS, _ask_and_do_not_listen)


async def _ask_and_do_not_listen(port: int) -> None:
    sock = socket.socket()
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER_BYTES)
        sock.setblocking(False)  # noqa: FBT003  (the name of the call says what it means)
        loop = asyncio.get_running_loop()
        await loop.sock_connect(sock, ("127.0.0.1", port))
        async with asyncio.timeout(_HELD_SECONDS):
            await loop.sock_sendall(sock, _REQUEST * _REQUESTS)
            await asyncio.sleep(_HELD_SECONDS)
    except TimeoutError:
        return
    finally:
        sock.close()


SCENARIO = Scenario(
    hypothesis="An answer that is not taken stops its own connection alone; it is not piled up in memory. That many"
    " large answers at once are work, though: others wait for it.",
    fault=f"{_CLIENTS} clients send {_REQUESTS} requests each without reading, for {_SECONDS:g} s",
    aborts_when="the service accepts no connections",
    inject=_inject,
    expects=(seen_by_the_fault,),
    limits=Limits(p99_seconds=0.2, memory_ratio=_MOST_MEMORY_RATIO),
)
