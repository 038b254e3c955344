"""Clients announce a body and send it a byte at a time."""

import asyncio
from collections import Counter

from deploy.chaos.harness.expectations import seen_by_the_fault
from deploy.chaos.harness.hostile import connected, crowd, demand
from deploy.chaos.harness.scenario import Scenario
from tests.coherence.changes import OPERATOR_KEY
from tests.coherence.world import World
from tests.servers.processes import ServerFailedError

_CLIENTS = 200
_SECONDS = 15.0  # Longer than the service's patience with a body.
_PAUSE_SECONDS = 0.5
_HELD_SECONDS = 9.5  # Ten by the service's clock, which begins a little later than the client's.
_PATIENCE_SECONDS = 12.0  # Ten, and what a busy machine needs.
_TOO_SLOW = b"HTTP/1.1 408"
_HEAD = (
    f"POST /sessions/create HTTP/1.1\r\nHost: slow.test\r\nX-API-Key: {OPERATOR_KEY}\r\n"
    "Content-Type: application/json\r\nContent-Length: 20000\r\n\r\n"
).encode()


async def _inject(world: World) -> None:
    answered: Counter[bytes] = Counter()
    held_seconds: list[float] = []

    async def dribble(port: int) -> None:
        began_at = world.clock()
        async with connected(port) as (reader, writer):
            writer.write(_HEAD)
            answered[await _answer_to_drops(reader, writer)] += 1
            held_seconds.append(world.clock() - began_at)

    rounds = await crowd(world, _CLIENTS, _SECONDS, dribble)
    demand(rounds.done, _CLIENTS, "bodies were held to the end, whatever that was")
    if set(answered) != {_TOO_SLOW} or min(held_seconds) < _HELD_SECONDS or max(held_seconds) > _PATIENCE_SECONDS:
        message = f"answered: {dict(answered)}, after {min(held_seconds):.1f} to {max(held_seconds):.1f} s"
        raise ServerFailedError(message)


async def _answer_to_drops(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
    """Send a byte after the other until an answer comes; return its beginning, nothing if the connection just ended."""
    while True:
        writer.write(b" ")
        await writer.drain()
        try:
            async with asyncio.timeout(_PAUSE_SECONDS):
                return (await reader.readline())[: len(_TOO_SLOW)]
        except TimeoutError:
            continue  # It takes the body still.


SCENARIO = Scenario(
    hypothesis="A body that does not come holds no connection to a store, and no other caller up; it is refused after"
    " ten seconds.",
    fault=f"{_CLIENTS} clients send a byte of a body each {_PAUSE_SECONDS:g} s, for {_SECONDS:g} s",
    aborts_when="the service accepts no connections, or does not wait for a body as long as it says",
    inject=_inject,
    expects=(seen_by_the_fault,),
    disturbs_stores=False,
)
