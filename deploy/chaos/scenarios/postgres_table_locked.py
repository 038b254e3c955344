"""A migration of somebody else's holds a lock on the sessions."""

import asyncio

import asyncpg

from deploy.chaos.harness.expectations import database_is_missed, reads_answered
from deploy.chaos.harness.scenario import Limits, Scenario
from deploy.chaos.harness.steps import database_away
from tests.coherence.world import World

_SECONDS = 8.0


async def _inject(world: World) -> None:
    async with database_away(world):
        connection = await asyncpg.connect(world.database_url)
        try:
            await connection.execute("BEGIN")
            await connection.execute("LOCK TABLE sessions IN ACCESS EXCLUSIVE MODE")
            await asyncio.sleep(_SECONDS)
        finally:
            connection.terminate()


SCENARIO = Scenario(
    hypothesis="What is cached is answered; what needs the table waits for `DB_TIMEOUT` at most and gets a 503.",
    fault=f"LOCK TABLE sessions IN ACCESS EXCLUSIVE MODE for {_SECONDS:g} s",
    aborts_when="the lock is not given",
    inject=_inject,
    # 1 to 7 % were refused. That nobody has the name of a session that was removed just before, only the table can say.
    expects=(database_is_missed, reads_answered(0.9)),
    limits=Limits(p99_seconds=5.5, reads_p90_seconds=0.2),
)
