"""Both stores die; Redis is back first, with its old data, then PostgreSQL."""

import asyncio

from deploy.chaos.harness.expectations import breaker_opens, database_is_missed, reads_answered
from deploy.chaos.harness.scenario import Limits, Scenario
from deploy.chaos.harness.steps import database_away, redis_away
from tests.coherence.world import World

_AWAY_SECONDS = 4.0


async def _inject(world: World) -> None:
    async with database_away(world):
        await asyncio.to_thread(world.postgres.kill)
        async with redis_away(world):
            await asyncio.sleep(_AWAY_SECONDS)
        await asyncio.sleep(_AWAY_SECONDS)
        await asyncio.to_thread(world.postgres.start)


SCENARIO = Scenario(
    hypothesis="A Redis that is back without a database to vouch for it gives no old answer that is not marked as one.",
    fault=f"kill -9 of both; Redis is back after {_AWAY_SECONDS:g} s, PostgreSQL after as long again",
    aborts_when="one does not start again",
    inject=_inject,
    expects=(breaker_opens, database_is_missed, reads_answered(0.4)),
    limits=Limits(p99_seconds=0.5, refused_p99_seconds=0.5),
)
