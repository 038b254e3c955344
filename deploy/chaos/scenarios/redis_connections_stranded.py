"""Established connections to Redis lead nowhere any more, as after a firewall has forgotten them; new ones work."""

import asyncio

from deploy.chaos.harness.expectations import counted
from deploy.chaos.harness.scenario import Scenario
from deploy.chaos.harness.steps import demand_effects
from tests.coherence.world import World
from tests.servers.fault_proxy import Effect

_TIMES = 3
_LEAST_LOST = 5  # Of each process; runs show 11 and more.
_PAUSE_SECONDS = 4.0
_LEAST_TIMEOUTS = 15  # Half of what a run shows: each question asked of a dead connection, often for several keys.
_LEAST_HITS = 2300  # Half of what a run shows.


async def _inject(world: World) -> None:
    with demand_effects(world, {Effect.LOST: _LEAST_LOST}):
        for _ in range(_TIMES):
            await asyncio.sleep(_PAUSE_SECONDS)
            for proxy in world.proxies.values():
                proxy.strand()
        await asyncio.sleep(0.2)


SCENARIO = Scenario(
    hypothesis="Each dead connection costs one deadline and is thrown away; the pool fills with new ones.",
    fault=f"all established connections to Redis become blackholes, {_TIMES} times, {_PAUSE_SECONDS:g} s apart",
    aborts_when=f"a process asks fewer than {_LEAST_LOST} questions of dead connections",
    inject=_inject,
    expects=(counted("timeouts", _LEAST_TIMEOUTS), counted("redis_hits", _LEAST_HITS)),
)
