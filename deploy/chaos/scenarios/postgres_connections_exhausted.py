"""Others have taken all of PostgreSQL's connections, ours among them."""

import asyncio
from contextlib import AsyncExitStack

import asyncpg

from deploy.chaos.harness.expectations import database_is_missed, reads_answered
from deploy.chaos.harness.scenario import Limits, Scenario
from deploy.chaos.harness.steps import database_away
from tests.coherence.world import World
from tests.servers.processes import ServerFailedError

_SECONDS = 8.0
_MOST_TRIES = 200
_THROW_OUT = """
    SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
    WHERE application_name LIKE 'zpmeow%' AND pid <> pg_backend_pid()
"""


async def _inject(world: World) -> None:
    async with database_away(world), AsyncExitStack() as stack:
        await _take_all(world, stack)
        await asyncio.sleep(_SECONDS)


async def _take_all(world: World, stack: AsyncExitStack) -> None:
    """Throw ours out and take what is free, until none is ours. All are superusers here: there is no reserve."""
    first = await asyncpg.connect(world.database_url)
    stack.callback(first.terminate)
    for _ in range(_MOST_TRIES):
        try:
            while True:
                stack.callback((await asyncpg.connect(world.database_url)).terminate)
        except asyncpg.TooManyConnectionsError:
            pass
        if not await first.fetchval(_THROW_OUT):
            return
    message = "the services keep connections"
    raise ServerFailedError(message)


SCENARIO = Scenario(
    hypothesis="A refused connection is a 503 at once; what is cached is answered; it passes with the others.",
    fault=f"all connections of ours are ended, and others take every one that PostgreSQL has, for {_SECONDS:g} s",
    aborts_when="there are still connections to be had",
    inject=_inject,
    expects=(database_is_missed, reads_answered(0.3)),
    limits=Limits(p99_seconds=0.5, refused_p99_seconds=0.5),
)
