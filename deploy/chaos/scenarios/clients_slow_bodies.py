"""Clients announce a body and send it a byte at a time."""

import asyncio

from deploy.chaos.harness.expectations import seen_by_the_fault
from deploy.chaos.harness.hostile import connected, crowd
from deploy.chaos.harness.scenario import Scenario
from tests.coherence.changes import OPERATOR_KEY
from tests.coherence.world import World

_CLIENTS = 200
_SECONDS = 12.0
_PAUSE_SECONDS = 0.5
_HEAD = (
    f"POST /sessions/create HTTP/1.1\r\nHost: slow.test\r\nX-API-Key: {OPERATOR_KEY}\r\n"
    "Content-Type: application/json\r\nContent-Length: 20000\r\n\r\n"
).encode()


async def _inject(world: World) -> None:
    await crowd(world, _CLIENTS, _SECONDS, _dribble)


async def _dribble(port: int) -> None:
    async with connected(port) as (_, writer):
        writer.write(_HEAD)
        while True:
            writer.write(b" ")
            await writer.drain()
            await asyncio.sleep(_PAUSE_SECONDS)


SCENARIO = Scenario(
    hypothesis="A body that does not come holds no connection to a store, and no other caller up.",
    fault=f"{_CLIENTS} clients send a byte of a body each {_PAUSE_SECONDS:g} s, for {_SECONDS:g} s",
    aborts_when="the service accepts no connections",
    inject=_inject,
    expects=(seen_by_the_fault,),
)
