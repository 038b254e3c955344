"""Redis accepts no more clients, and has thrown out ours."""

import asyncio

import redis

from deploy.chaos.harness.expectations import breaker_opens
from deploy.chaos.harness.scenario import Scenario
from tests.coherence.world import World

_SECONDS = 8.0


async def _inject(world: World) -> None:
    # This connection stays: nobody else could take the limit back.
    with redis.Redis(port=world.redis.port, single_connection_client=True) as client:
        most = (await asyncio.to_thread(client.config_get, "maxclients"))["maxclients"]
        await asyncio.to_thread(client.config_set, "maxclients", "1")
        await asyncio.to_thread(client.client_kill_filter, _type="normal", skipme=True)
        await asyncio.sleep(_SECONDS)
        await asyncio.to_thread(client.config_set, "maxclients", most)


SCENARIO = Scenario(
    hypothesis="A connection that is refused with an error is a failure: PostgreSQL answers.",
    fault=f"maxclients 1 and all connections closed; taken back after {_SECONDS:g} s",
    aborts_when="Redis refuses the setting",
    inject=_inject,
    expects=(breaker_opens,),
)
