"""PostgreSQL does not answer for ten seconds, with all connections open."""

import asyncio

from deploy.chaos.harness.expectations import database_is_missed, reads_answered
from deploy.chaos.harness.scenario import Limits, Scenario
from deploy.chaos.harness.steps import database_away
from tests.coherence.world import World

_STOPPED_SECONDS = 10.0


async def _inject(world: World) -> None:
    async with database_away(world):
        await asyncio.to_thread(world.postgres.pause)
        try:
            await asyncio.sleep(_STOPPED_SECONDS)
        finally:
            await asyncio.to_thread(world.postgres.resume)


SCENARIO = Scenario(
    hypothesis="What is cached is answered; the rest waits for `DB_TIMEOUT` at most and gets a 503. Nobody hangs.",
    fault=f"SIGSTOP of all of PostgreSQL for {_STOPPED_SECONDS:g} s, then SIGCONT",
    aborts_when="the processes cannot be stopped",
    inject=_inject,
    expects=(database_is_missed, reads_answered(0.5)),
    limits=Limits(p99_seconds=5.5),
)
