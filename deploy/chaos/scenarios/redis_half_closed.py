"""One side of every connection to Redis is closed while the other is still open: Redis' for us, then ours for Redis."""

import asyncio

from deploy.chaos.harness.expectations import counted, counted_at_most
from deploy.chaos.harness.scenario import Scenario
from deploy.chaos.harness.steps import demand_effects
from tests.coherence.world import World
from tests.servers.fault_proxy import Effect

_TIMES = 8
_PAUSE_SECONDS = 1.0
_LEAST_CLOSED = 8  # Of each process and to each side: half of what a run shows.
_LEAST_HITS = 1500  # Half of what a run shows.
_MOST_TIMEOUTS = 5  # Runs show none; nearly 70 if nobody is told of the end.


async def _inject(world: World) -> None:
    with demand_effects(world, {Effect.CLOSED_UP: _LEAST_CLOSED, Effect.CLOSED_DOWN: _LEAST_CLOSED}):
        for number in range(_TIMES):
            await asyncio.sleep(_PAUSE_SECONDS)
            for proxy in world.proxies.values():
                proxy.half_close(down=number % 2 == 0, up=number % 2 == 1)


SCENARIO = Scenario(
    hypothesis="A connection that has ended on one side is noticed before or upon its next use, and costs nobody an"
    " answer.",
    fault=f"all connections to Redis are half closed, {_TIMES} times, {_PAUSE_SECONDS:g} s apart, the way from Redis"
    " and the way to it in turn",
    aborts_when=f"fewer than {_LEAST_CLOSED} connections of a process are closed to one side",
    inject=_inject,
    expects=(counted("redis_hits", _LEAST_HITS), counted_at_most("timeouts", _MOST_TIMEOUTS)),
)
