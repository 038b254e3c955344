"""Redis is stopped for half a minute while everybody goes on writing."""

import asyncio

from deploy.chaos.harness.expectations import breaker_opens, counted
from deploy.chaos.harness.scenario import Scenario
from tests.coherence.world import World
from tests.servers.processes import ServerFailedError

_STOPPED_SECONDS = 30.0


async def _inject(world: World) -> None:
    world.redis.pause()
    try:
        await asyncio.sleep(_STOPPED_SECONDS)
        await _demand_silence(world)
    finally:
        world.redis.resume()


async def _demand_silence(world: World) -> None:
    try:
        answer = await asyncio.to_thread(world.redis.command, "PING")
    except TimeoutError:
        return
    message = f"Redis is stopped and answers {answer!r}"
    raise ServerFailedError(message)


SCENARIO = Scenario(
    hypothesis="The first calls cost one deadline, then PostgreSQL answers; what Redis missed or runs late misleads"
    " nobody.",
    fault=f"SIGSTOP of Redis for {_STOPPED_SECONDS:g} s, then SIGCONT",
    aborts_when="Redis still answers",
    inject=_inject,
    expects=(breaker_opens, counted("timeouts")),
)
