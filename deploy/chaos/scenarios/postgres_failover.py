"""A streaming standby takes the place of PostgreSQL."""

import asyncio

from deploy.chaos.harness.expectations import reads_answered, seen_by_the_fault
from deploy.chaos.harness.scenario import Limits, Scenario
from deploy.chaos.harness.steps import database_away
from tests.coherence.world import World
from tests.servers.postgres_server import PostgresServer

_POLL_SECONDS = 0.1
_CALM_SECONDS = 2.0
_EPOCH = "SELECT epoch FROM control_settings"
_EPOCH_SECONDS = 10.0  # Another timeline without another epoch would be believed to be the same database.
_IN_STEP = "SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'sync'"


async def _inject(world: World) -> None:
    primary = world.postgres
    standby = await asyncio.to_thread(primary.make_standby)
    try:
        await asyncio.to_thread(standby.start)
        await asyncio.to_thread(_wait_for, primary)
        async with asyncio.timeout(30):
            while await asyncio.to_thread(primary.execute, _IN_STEP) != "1":  # noqa: ASYNC110  (nobody tells)
                await asyncio.sleep(_POLL_SECONDS)
        await asyncio.sleep(_CALM_SECONDS)
        epoch = await asyncio.to_thread(primary.execute, _EPOCH, database="coherence")
        async with database_away(world):
            await asyncio.to_thread(primary.kill)
            await asyncio.to_thread(standby.promote)
            assert world.postgres_proxy is not None
            world.postgres_proxy.retarget(standby.port)
            world.postgres = standby
        async with asyncio.timeout(_EPOCH_SECONDS):
            while await asyncio.to_thread(standby.execute, _EPOCH, database="coherence") == epoch:  # noqa: ASYNC110
                await asyncio.sleep(_POLL_SECONDS)
    finally:
        await asyncio.to_thread((primary if world.postgres is standby else standby).close)


def _wait_for(primary: PostgresServer) -> None:
    """Let no commit be acknowledged that the standby does not have: what is lost there, nobody can show."""
    primary.execute("ALTER SYSTEM SET synchronous_standby_names = '*'")
    primary.execute("SELECT pg_reload_conf()")


SCENARIO = Scenario(
    hypothesis="Another timeline is another database: nothing in Redis is believed before a new epoch; no old answer.",
    fault="kill -9 of PostgreSQL; its synchronous standby is promoted at the same address",
    aborts_when="the standby does not come into step within 30 s",
    inject=_inject,
    expects=(seen_by_the_fault, reads_answered(0.95)),  # The epoch; a quick promotion is missed by nobody.
    limits=Limits(p99_seconds=0.5, refused_p99_seconds=1.0),
    has_postgres_proxy=True,
)
