"""Redis restarts with much to load, and answers LOADING meanwhile."""

import asyncio

import redis

from deploy.chaos.harness.expectations import breaker_opens
from deploy.chaos.harness.scenario import Scenario
from tests.coherence.world import World
from tests.servers.processes import ServerFailedError

_FILLERS = 2500
_DELAY_MICROSECONDS = 2500  # For each key: six seconds and more.
_LEAST_SECONDS = 4.0
_ANSWERS_EACH = "loading-process-events-interval-bytes"


async def _inject(world: World) -> None:
    node = world.redis
    answers_often = await asyncio.to_thread(_fill, node.port)
    snapshot = await asyncio.to_thread(node.save)
    await asyncio.to_thread(node.kill)
    kept = node.options
    node.options = (*kept, *answers_often, "--key-load-delay", str(_DELAY_MICROSECONDS))
    began_at = world.clock()
    try:
        await asyncio.to_thread(node.start_from, snapshot)
    finally:
        node.options = kept
    if world.clock() - began_at < _LEAST_SECONDS:
        message = "Redis was ready at once: it had nothing to load"
        raise ServerFailedError(message)


def _fill(port: int) -> tuple[str, ...]:
    """Give Redis something to load; return the options with which it answers meanwhile, as far as it knows any.

    Without them (Redis 6) it answers after each 2 MB: here that is silence.
    """
    with redis.Redis(port=port) as client:
        for number in range(_FILLERS):
            client.set(f"filler:{number}", b"x" * 200, ex=60)
        return (f"--{_ANSWERS_EACH}", "1024") if client.config_get(_ANSWERS_EACH) else ()


SCENARIO = Scenario(
    hypothesis="A Redis that loads is a Redis that is away; then it has old data, and is brought up to date first.",
    fault=f"kill -9 of Redis; at its start it loads for some {_FILLERS * _DELAY_MICROSECONDS / 1e6:.0f} s",
    aborts_when="Redis is ready at once",
    inject=_inject,
    expects=(breaker_opens,),
)
