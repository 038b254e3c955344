"""Both stores die; PostgreSQL is back first, then Redis with its old data."""

import asyncio

from deploy.chaos.harness.expectations import breaker_opens, database_is_missed, reads_answered
from deploy.chaos.harness.scenario import Limits, Scenario
from deploy.chaos.harness.steps import database_away, redis_away
from tests.coherence.world import World

_AWAY_SECONDS = 4.0


async def _inject(world: World) -> None:
    async with redis_away(world):
        async with database_away(world):
            await asyncio.to_thread(world.postgres.kill)
            await asyncio.sleep(_AWAY_SECONDS)
            await asyncio.to_thread(world.postgres.start)
        await asyncio.sleep(_AWAY_SECONDS)


SCENARIO = Scenario(
    hypothesis="Without both there is little to answer with, and a 503 for the rest; each that is back is used.",
    fault=f"kill -9 of both; PostgreSQL is back after {_AWAY_SECONDS:g} s, Redis after as long again",
    aborts_when="one does not start again",
    inject=_inject,
    expects=(breaker_opens, database_is_missed, reads_answered(0.4)),
    limits=Limits(p99_seconds=0.5, refused_p99_seconds=0.5),
)
