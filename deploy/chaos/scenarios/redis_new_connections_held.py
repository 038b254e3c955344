"""New connections to Redis are accepted and lead nowhere; those that are there are cut first."""

import asyncio

from deploy.chaos.harness.expectations import breaker_opens
from deploy.chaos.harness.scenario import Scenario
from deploy.chaos.harness.steps import demand_effects
from tests.coherence.world import World
from tests.servers.fault_proxy import Admission, Effect

_HELD_SECONDS = 8.0
_LEAST_HELD = 5  # Of each process: so many failures open a breaker.


async def _inject(world: World) -> None:
    with demand_effects(world, {Effect.CUT: 1, Effect.UNANSWERED: _LEAST_HELD}):
        for proxy in world.proxies.values():
            await proxy.admit(Admission.HOLD)
            proxy.cut()
        try:
            await asyncio.sleep(_HELD_SECONDS)
        finally:
            for proxy in world.proxies.values():
                await proxy.admit(Admission.PASS)


SCENARIO = Scenario(
    hypothesis="A connection that is made proves nothing: the deadline counts for its first command, too.",
    fault=f"all connections to Redis are reset, and new ones are blackholes for {_HELD_SECONDS:g} s",
    aborts_when=f"a process makes fewer than {_LEAST_HELD} new connections",
    inject=_inject,
    expects=(breaker_opens,),
)
