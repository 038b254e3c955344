"""One side of every connection to Redis is closed while the other is still open: Redis' for us, then ours for Redis."""

import asyncio

from deploy.chaos.harness.expectations import counted
from deploy.chaos.harness.scenario import Scenario
from deploy.chaos.harness.steps import demand_effects
from tests.coherence.world import World
from tests.servers.fault_proxy import Effect

_TIMES = 8
_PAUSE_SECONDS = 1.0
_LEAST_CLOSED = 15  # Of each process: half of what a run shows.
_LEAST_HITS = 1500  # Half of what a run shows.


async def _inject(world: World) -> None:
    with demand_effects(world, {Effect.HALF_CLOSED: _LEAST_CLOSED}):
        for number in range(_TIMES):
            await asyncio.sleep(_PAUSE_SECONDS)
            for proxy in world.proxies.values():
                proxy.half_close(down=number % 2 == 0, up=number % 2 == 1)


SCENARIO = Scenario(
    hypothesis="A connection that has ended on one side is noticed before or upon its next use, and costs nobody an"
    " answer.",
    fault=f"all connections to Redis are half closed, {_TIMES} times, {_PAUSE_SECONDS:g} s apart, the way from Redis"
    " and the way to it in turn",
    aborts_when=f"fewer than {_LEAST_CLOSED} connections of a process are there to be half closed",
    inject=_inject,
    expects=(counted("redis_hits", _LEAST_HITS),),
)
