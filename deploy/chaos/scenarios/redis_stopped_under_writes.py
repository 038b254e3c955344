"""Redis is stopped for half a minute while everybody goes on writing."""

import asyncio

from deploy.chaos.harness.expectations import breaker_opens, counted
from deploy.chaos.harness.scenario import Scenario
from tests.coherence.world import World

_STOPPED_SECONDS = 30.0


async def _inject(world: World) -> None:
    world.redis.pause()
    try:
        await asyncio.sleep(_STOPPED_SECONDS)
    finally:
        world.redis.resume()


SCENARIO = Scenario(
    hypothesis="The first calls cost one deadline, then PostgreSQL answers; what Redis missed or runs late misleads"
    " nobody.",
    fault=f"SIGSTOP of Redis for {_STOPPED_SECONDS:g} s, then SIGCONT",
    aborts_when="the process cannot be stopped",
    inject=_inject,
    expects=(breaker_opens, counted("timeouts")),
)
