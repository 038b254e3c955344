"""What happens to PostgreSQL, and to its connections."""

import asyncio
from random import Random

from tests.coherence.not_possible import NotPossibleError
from tests.coherence.sql_client import DatabaseAwayError
from tests.coherence.timeline import DATABASE
from tests.coherence.world import World

FOREIGN_TRANSACTION = "foreign_transaction"
_TRIES = 20
_TRY_SECONDS = 0.2
_KILL_LISTENERS = """
    SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'zpmeow feed%'
"""
_COUNT_LISTENERS = "SELECT count(*) AS count FROM pg_stat_activity WHERE application_name LIKE 'zpmeow feed%'"


async def listener_killed(world: World, _chance: Random) -> None:
    """Kill the connections on which the processes listen to the change feed."""
    client = world.sql_client()
    try:
        for _ in range(_TRIES):
            try:
                ((count,),) = (row.values() for row in await client.fetch(_COUNT_LISTENERS))
                if count:
                    with world.fault(listener_killed.__name__):
                        await client.fetch(_KILL_LISTENERS)
                    return
            except DatabaseAwayError:
                pass  # It is being restarted.
            await asyncio.sleep(_TRY_SECONDS)
        message = "nobody listens under a name that begins with 'zpmeow feed'"
        raise NotPossibleError(message)
    finally:
        client.close()


async def postgres_restarted(world: World, chance: Random) -> None:
    """Stop PostgreSQL, or kill it, and start it again."""
    async with world.postgres_lock:
        with world.fault(postgres_restarted.__name__), world.absence(DATABASE):
            await asyncio.to_thread(chance.choice((world.postgres.stop, world.postgres.kill)))
            await asyncio.sleep(chance.choice((0.0, chance.uniform(0, 2))))
            await asyncio.to_thread(world.postgres.start)


async def foreign_transaction(world: World, seconds: float) -> None:
    """Keep a transaction with an id of its own open, as a slow report of another application would."""
    until = world.clock() + seconds
    with world.fault(FOREIGN_TRANSACTION):
        while world.clock() < until:
            client = world.sql_client("another application")
            try:
                await client.hold_transaction(until - world.clock())
            except DatabaseAwayError:
                await asyncio.sleep(_TRY_SECONDS)  # PostgreSQL is being restarted; the rest of the time is still held.
            finally:
                client.close()
