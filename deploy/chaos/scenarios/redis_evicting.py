"""Redis throws away whatever was not used lately, fences and the position among it."""

import asyncio

import redis

from deploy.chaos.harness.expectations import seen_by_the_fault
from deploy.chaos.harness.scenario import Scenario
from deploy.chaos.harness.steps import repeat, tell_redis
from tests.coherence.world import World
from tests.servers.processes import ServerFailedError

_SECONDS = 12.0
_PAUSE_SECONDS = 0.1
_HEADROOM_BYTES = 100_000
_FILLER_BYTES = 1000
_FILLERS_AT_ONCE = 200


async def _inject(world: World) -> None:
    used = await asyncio.to_thread(_used_bytes, world.redis.port)
    await tell_redis(world, "CONFIG", "SET", "maxmemory", str(used + _HEADROOM_BYTES))
    await repeat(_SECONDS / 2, _PAUSE_SECONDS, lambda: asyncio.to_thread(_fill, world.redis.port))
    # Each read uses the position, so that this one has to be thrown away by hand.
    await tell_redis(world, "DEL", "zpmeow:position")
    await repeat(_SECONDS / 2, _PAUSE_SECONDS, lambda: asyncio.to_thread(_fill, world.redis.port))
    await tell_redis(world, "CONFIG", "SET", "maxmemory", "0")
    if not await asyncio.to_thread(_evicted, world.redis.port):
        message = "nothing was evicted"
        raise ServerFailedError(message)


def _used_bytes(port: int) -> int:
    with redis.Redis(port=port) as client:
        return int(client.info("memory")["used_memory"])


def _evicted(port: int) -> int:
    with redis.Redis(port=port) as client:
        return int(client.info("stats")["evicted_keys"])


def _fill(port: int) -> None:
    with redis.Redis(port=port) as client:
        for number in range(_FILLERS_AT_ONCE):
            try:
                client.set(f"filler:{number}:{client.incr('filler')}", b"x" * _FILLER_BYTES, ex=60)
            except redis.OutOfMemoryError:
                continue  # What others write meanwhile is in the way; some is thrown away all the same.


SCENARIO = Scenario(
    hypothesis="What was evicted is a miss; without the position nothing is believed until it is there again.",
    fault=f"maxmemory at what is used, allkeys-lru, and others who fill it, for {_SECONDS:g} s",
    aborts_when="Redis refuses the settings",
    inject=_inject,
    expects=(seen_by_the_fault,),
    redis_options=("--maxmemory-policy", "allkeys-lru"),
)
