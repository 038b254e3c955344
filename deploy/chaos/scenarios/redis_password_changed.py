"""Redis asks for a password that nobody has told the service."""

import asyncio

import redis

from deploy.chaos.harness.expectations import breaker_opens
from deploy.chaos.harness.scenario import Scenario
from tests.coherence.world import World

_SECONDS = 10.0


async def _inject(world: World) -> None:
    # This connection stays: who has no password could not take it back.
    with redis.Redis(port=world.redis.port, single_connection_client=True) as client:
        await asyncio.to_thread(client.config_set, "requirepass", "another-password")
        await asyncio.to_thread(client.client_kill_filter, _type="normal", skipme=True)
        await asyncio.sleep(_SECONDS)
        await asyncio.to_thread(client.config_set, "requirepass", "")


SCENARIO = Scenario(
    hypothesis="NOAUTH is a failure like any other: PostgreSQL answers, and Redis is tried again.",
    fault=f"requirepass is set and all connections are closed; taken back after {_SECONDS:g} s",
    aborts_when="Redis refuses the setting",
    inject=_inject,
    expects=(breaker_opens,),
)
