"""Statements that sleep hold the connections of the pool."""

import asyncio

from deploy.chaos.harness.expectations import database_is_missed, reads_answered, refused_as
from deploy.chaos.harness.scenario import Limits, Scenario
from deploy.chaos.harness.steps import database_away
from tests.coherence.world import World

_SECONDS = 10.0
_SLEEP_SECONDS = 3.0
_TABLES = ("session_status", "session_qr", "session_credential")
_FUNCTION = """
    CREATE OR REPLACE FUNCTION sleep_before() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN PERFORM pg_sleep({seconds}); RETURN NEW; END $$
"""
_TRIGGER = "CREATE TRIGGER sleep_before BEFORE UPDATE ON {table} FOR EACH ROW EXECUTE FUNCTION sleep_before()"


async def _inject(world: World) -> None:
    async with database_away(world):
        # One by one, and never dropped: who locks several tables at once may wait in a circle with the writers.
        await _execute(world, _FUNCTION.format(seconds=0))
        for table in _TABLES:
            await _execute(world, _TRIGGER.format(table=table))
        await _execute(world, _FUNCTION.format(seconds=_SLEEP_SECONDS))
        await asyncio.sleep(_SECONDS)
        await _execute(world, _FUNCTION.format(seconds=0))
        await asyncio.sleep(_SLEEP_SECONDS)


async def _execute(world: World, statement: str) -> None:
    await asyncio.to_thread(world.postgres.execute, statement, database="coherence")


SCENARIO = Scenario(
    hypothesis="Who waits for a connection gets OVERLOADED after `DB_TIMEOUT`; what is cached needs none.",
    fault=f"each write of a status, a code or a device sleeps for {_SLEEP_SECONDS:g} s, for {_SECONDS:g} s",
    aborts_when="the trigger cannot be made",
    inject=_inject,
    expects=(database_is_missed, refused_as("OVERLOADED"), reads_answered(0.98)),
    limits=Limits(p99_seconds=5.5, reads_p90_seconds=0.2),
)
