"""Redis is killed, and is empty when it comes back."""

import asyncio

from deploy.chaos.harness.expectations import breaker_opens
from deploy.chaos.harness.scenario import Scenario
from deploy.chaos.harness.steps import redis_away
from tests.coherence.world import World

_AWAY_SECONDS = 8.0


async def _inject(world: World) -> None:
    async with redis_away(world, is_empty_then=True):
        await asyncio.sleep(_AWAY_SECONDS)


SCENARIO = Scenario(
    hypothesis="Nobody notices: connections break at once, breakers open, PostgreSQL answers; then Redis fills again.",
    fault=f"kill -9 of Redis; it starts again after {_AWAY_SECONDS:g} s, without its data",
    aborts_when="Redis does not start again",
    inject=_inject,
    expects=(breaker_opens,),
)
