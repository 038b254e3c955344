"""A thousand clients connect and say nothing."""

import asyncio
from contextlib import AsyncExitStack

from deploy.chaos.harness.expectations import seen_by_the_fault
from deploy.chaos.harness.hostile import connected
from deploy.chaos.harness.scenario import Scenario
from tests.coherence.world import World

_CLIENTS = 1000
_SECONDS = 10.0


async def _inject(world: World) -> None:
    ports = [service.port for service in world.services.values()]
    async with AsyncExitStack() as stack:
        for number in range(_CLIENTS):
            await stack.enter_async_context(connected(ports[number % len(ports)]))
        await asyncio.sleep(_SECONDS)


SCENARIO = Scenario(
    hypothesis="An idle connection costs a file descriptor and some kilobytes, and nobody else anything.",
    fault=f"{_CLIENTS} connections without a request for {_SECONDS:g} s",
    aborts_when="the service accepts no connections, or this machine has no descriptors left",
    inject=_inject,
    expects=(seen_by_the_fault,),
)
