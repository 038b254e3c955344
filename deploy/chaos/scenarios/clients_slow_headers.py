"""Clients send their headers a byte at a time and never come to an end."""

import asyncio

from deploy.chaos.harness.expectations import seen_by_the_fault
from deploy.chaos.harness.hostile import connected, crowd, demand
from deploy.chaos.harness.scenario import Scenario
from tests.coherence.world import World
from tests.servers.processes import ServerFailedError

_CLIENTS = 200
_SECONDS = 15.0  # Longer than the service's patience with a head.
_PAUSE_SECONDS = 0.5
_HELD_SECONDS = 9.5  # Ten by the service's clock, which begins a little later than the client's.
_PATIENCE_SECONDS = 12.0  # Ten, and what a busy machine needs.
_HEAD = b"GET /sessions/list HTTP/1.1\r\nHost: slow.test\r\nX-Padding: " + b"x" * 1000


async def _inject(world: World) -> None:
    ended_after: list[float] = []

    async def dribble(port: int) -> None:
        began_at = world.clock()
        async with connected(port) as (reader, writer):
            for byte in _HEAD:
                writer.write(bytes((byte,)))
                await asyncio.sleep(_PAUSE_SECONDS)
                if reader.at_eof() or writer.is_closing():
                    break
            ended_after.append(world.clock() - began_at)

    await crowd(world, _CLIENTS, _SECONDS, dribble)
    demand(len(ended_after), _CLIENTS, "heads were held to the end, whatever that was")
    if min(ended_after) < _HELD_SECONDS or max(ended_after) > _PATIENCE_SECONDS:
        message = f"connections were ended after {min(ended_after):.1f} to {max(ended_after):.1f} s"
        raise ServerFailedError(message)


SCENARIO = Scenario(
    hypothesis="A head that does not end costs a connection for ten seconds and no other caller anything.",
    fault=f"{_CLIENTS} clients send a byte of a header each {_PAUSE_SECONDS:g} s, for {_SECONDS:g} s",
    aborts_when="the service accepts no connections, or does not wait for a head as long as it says",
    inject=_inject,
    expects=(seen_by_the_fault,),
    disturbs_stores=False,
)
