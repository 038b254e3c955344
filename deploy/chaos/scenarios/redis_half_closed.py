"""Redis' side of every connection is closed while ours is still open."""

import asyncio

from deploy.chaos.harness.expectations import seen_by_the_fault
from deploy.chaos.harness.scenario import Scenario
from tests.coherence.world import World
from tests.servers.processes import ServerFailedError

_TIMES = 8
_PAUSE_SECONDS = 1.0


async def _inject(world: World) -> None:
    ended = 0
    for _ in range(_TIMES):
        await asyncio.sleep(_PAUSE_SECONDS)
        for proxy in world.proxies.values():
            ended += len(proxy.pairs)
            proxy.half_close()
    if ended < _TIMES:
        message = f"only {ended} connections were there to be half closed"
        raise ServerFailedError(message)


SCENARIO = Scenario(
    hypothesis="A connection that has ended on one side is noticed before or upon its next use, and costs nobody an"
    " answer.",
    fault=f"all connections to Redis are half closed, {_TIMES} times, {_PAUSE_SECONDS:g} s apart",
    aborts_when="the proxy ends",
    inject=_inject,
    expects=(seen_by_the_fault,),
)
