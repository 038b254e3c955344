"""Half of all callers hang up before they have their answer."""

import asyncio
from random import Random

from deploy.chaos.harness.expectations import seen_by_the_fault
from deploy.chaos.harness.hostile import connected, crowd
from deploy.chaos.harness.scenario import Scenario
from tests.coherence.changes import OPERATOR_KEY
from tests.coherence.world import World

_CLIENTS = 16
_SECONDS = 12.0
_PATIENCE_SECONDS = 0.004
_CACHED = ("info", "status", "qr", "credentials")


async def _inject(world: World) -> None:
    chance = Random(1)

    async def ask_and_leave(port: int) -> None:
        path = f"/sessions/slot-{chance.randrange(40)}/{chance.choice(_CACHED)}"
        async with connected(port) as (_, writer):
            writer.write(f"GET {path} HTTP/1.1\r\nHost: hasty.test\r\nX-API-Key: {OPERATOR_KEY}\r\n\r\n".encode())
            await asyncio.sleep(chance.uniform(0, _PATIENCE_SECONDS))

    await crowd(world, _CLIENTS, _SECONDS, ask_and_leave)


SCENARIO = Scenario(
    hypothesis="Who hangs up cancels his own request, nothing that others wait for; no connection to a store is lost.",
    fault=f"{_CLIENTS} clients, some 240 requests a second, are reset within {_PATIENCE_SECONDS * 1000:g} ms, for"
    f" {_SECONDS:g} s",
    aborts_when="the service accepts no connections",
    inject=_inject,
    expects=(seen_by_the_fault,),
)
