"""Redis dies and comes back every second for two minutes."""

import asyncio

from deploy.chaos.harness.expectations import breakers_open
from deploy.chaos.harness.scenario import Scenario
from deploy.chaos.harness.steps import redis_away
from tests.coherence.world import World

_TIMES = 60
_SECONDS = 1.0


async def _inject(world: World) -> None:
    for _ in range(_TIMES):
        await asyncio.sleep(_SECONDS)
        async with redis_away(world):
            await asyncio.sleep(_SECONDS)


SCENARIO = Scenario(
    hypothesis="Whether Redis is there or not at any moment, the answers are right and quick.",
    fault=f"{_TIMES} times kill -9 of Redis, {_SECONDS:g} s away, {_SECONDS:g} s back",
    aborts_when="Redis does not start again",
    inject=_inject,
    expects=(breakers_open(_TIMES),),
    longest_seconds=240.0,
)
