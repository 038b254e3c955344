"""Established connections to Redis lead nowhere any more, as after a firewall has forgotten them; new ones work."""

import asyncio

from deploy.chaos.harness.expectations import counted
from deploy.chaos.harness.scenario import Scenario
from tests.coherence.world import World

_TIMES = 3
_PAUSE_SECONDS = 4.0


async def _inject(world: World) -> None:
    for _ in range(_TIMES):
        await asyncio.sleep(_PAUSE_SECONDS)
        for proxy in world.proxies.values():
            proxy.strand()
    await asyncio.sleep(0.2)


SCENARIO = Scenario(
    hypothesis="Each dead connection costs one deadline and is thrown away; the pool fills with new ones.",
    fault=f"all established connections to Redis become blackholes, {_TIMES} times, {_PAUSE_SECONDS:g} s apart",
    aborts_when="the proxy ends",
    inject=_inject,
    expects=(counted("timeouts"),),
)
