"""The service starts while Redis is away."""

import asyncio

from deploy.chaos.harness.expectations import seen_by_the_fault
from deploy.chaos.harness.scenario import Scenario
from deploy.chaos.harness.steps import redis_away, restart_service, uses_redis
from tests.coherence.world import World
from tests.servers.processes import ServerFailedError

_AWAY_SECONDS = 3.0


async def _inject(world: World) -> None:
    async with redis_away(world):
        for name, service in world.services.items():
            await restart_service(world, name)
            if await asyncio.to_thread(uses_redis, service):
                message = f"process {name} has a closed breaker: Redis was there"
                raise ServerFailedError(message)
        await asyncio.sleep(_AWAY_SECONDS)


SCENARIO = Scenario(
    hypothesis="A process without Redis is ready, answers from PostgreSQL, and takes Redis up when it appears.",
    fault="kill -9 of Redis, then each process stops and starts again; then Redis comes back with its data",
    aborts_when="a process does not start, or has found a Redis when it has",
    inject=_inject,
    expects=(seen_by_the_fault,),
)
