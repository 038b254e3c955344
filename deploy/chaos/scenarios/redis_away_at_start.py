"""The service starts while Redis is away."""

import asyncio

from deploy.chaos.harness.expectations import seen_by_the_fault
from deploy.chaos.harness.scenario import Scenario
from deploy.chaos.harness.steps import redis_away, restart_service
from tests.coherence.world import World

_AWAY_SECONDS = 3.0


async def _inject(world: World) -> None:
    async with redis_away(world):
        for name in world.services:
            await restart_service(world, name)
        await asyncio.sleep(_AWAY_SECONDS)


SCENARIO = Scenario(
    hypothesis="A process without Redis is ready, answers from PostgreSQL, and takes Redis up when it appears.",
    fault="kill -9 of Redis, then each process stops and starts again; then Redis comes back with its data",
    aborts_when="a process does not start",
    inject=_inject,
    expects=(seen_by_the_fault,),
)
