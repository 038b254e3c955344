"""PostgreSQL is restarted under load."""

import asyncio

from deploy.chaos.harness.expectations import database_is_missed, reads_answered
from deploy.chaos.harness.scenario import Limits, Scenario
from deploy.chaos.harness.steps import database_away
from tests.coherence.world import World

_AWAY_SECONDS = 1.0


async def _inject(world: World) -> None:
    async with database_away(world):
        await asyncio.to_thread(world.postgres.stop)
        await asyncio.sleep(_AWAY_SECONDS)
        await asyncio.to_thread(world.postgres.start)


SCENARIO = Scenario(
    hypothesis="What is cached is answered; the rest gets a 503 at once and works with the first connection again.",
    fault=f"PostgreSQL is stopped in its fast way and started {_AWAY_SECONDS:g} s later",
    aborts_when="PostgreSQL does not start again",
    inject=_inject,
    expects=(database_is_missed, reads_answered(0.8)),
    limits=Limits(p99_seconds=0.5, refused_p99_seconds=0.5),
)
