"""Redis has no memory left, and refuses what is written."""

import asyncio

from deploy.chaos.harness.expectations import breaker_opens
from deploy.chaos.harness.scenario import Scenario
from deploy.chaos.harness.steps import demand_refusal, tell_redis
from tests.coherence.world import World

_FULL_SECONDS = 10.0


async def _inject(world: World) -> None:
    await tell_redis(world, "CONFIG", "SET", "maxmemory", "1")
    await asyncio.sleep(_FULL_SECONDS)
    await demand_refusal(world, "OOM", "SET", "a", "b")
    await tell_redis(world, "CONFIG", "SET", "maxmemory", "0")


SCENARIO = Scenario(
    hypothesis="A Redis that cannot be written to cannot be told of changes: it is left alone until it can.",
    fault=f"maxmemory 1 with noeviction for {_FULL_SECONDS:g} s",
    aborts_when="Redis refuses the setting, or takes a write",
    inject=_inject,
    expects=(breaker_opens,),
    redis_options=("--maxmemory-policy", "noeviction"),
)
