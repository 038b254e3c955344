"""Redis throws away whatever was not used lately, fences and the position among it."""

import asyncio

import redis

from deploy.chaos.harness.expectations import counted
from deploy.chaos.harness.scenario import Scenario
from deploy.chaos.harness.steps import repeat, tell_redis
from tests.coherence.world import World
from tests.servers.processes import ServerFailedError

_SECONDS = 12.0
_PAUSE_SECONDS = 0.1
_HEADROOM_BYTES = 100_000
_FILLER_BYTES = 1000
_FILLERS_AT_ONCE = 200
_LEAST_EVICTED = 1000  # Half of what a run shows.
_LEAST_EPOCHS = 8  # Half of what a run shows.
_LEAST_LOADS = 1000  # As above; some 100 are what changes make necessary.


class _Filler:
    """Somebody else, who fills Redis with keys of his own, and knows how many of them he has written."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._written = 0

    def fill(self) -> None:
        """Write some."""
        with redis.Redis(port=self._port) as client:
            for _ in range(_FILLERS_AT_ONCE):
                try:
                    client.set(f"filler:{self._written}", b"x" * _FILLER_BYTES, ex=60)
                except redis.OutOfMemoryError:
                    continue  # What others write meanwhile is in the way; some is thrown away all the same.
                self._written += 1

    def evicted_of_others(self) -> int:
        """Return how many keys were evicted that are not his: they live longer than all this takes."""
        with redis.Redis(port=self._port) as client:
            left = sum(1 for _ in client.scan_iter("filler:*", count=1000))
            return int(client.info("stats")["evicted_keys"]) - (self._written - left)


async def _inject(world: World) -> None:
    filler = _Filler(world.redis.port)

    async def fill() -> None:
        await asyncio.to_thread(filler.fill)

    used = await asyncio.to_thread(_used_bytes, world.redis.port)
    await tell_redis(world, "CONFIG", "SET", "maxmemory", str(used + _HEADROOM_BYTES))
    await repeat(_SECONDS / 2, _PAUSE_SECONDS, fill)
    # Each read uses the position, so that this one has to be thrown away by hand.
    await tell_redis(world, "DEL", "zpmeow:position")
    await repeat(_SECONDS / 2, _PAUSE_SECONDS, fill)
    evicted = await asyncio.to_thread(filler.evicted_of_others)
    await tell_redis(world, "CONFIG", "SET", "maxmemory", "0")
    if evicted < _LEAST_EVICTED:
        message = f"{evicted} keys of the service were evicted, {_LEAST_EVICTED} are the least"
        raise ServerFailedError(message)


def _used_bytes(port: int) -> int:
    with redis.Redis(port=port) as client:
        return int(client.info("memory")["used_memory"])


SCENARIO = Scenario(
    hypothesis="What was evicted is a miss; without the position nothing is believed until it is there again.",
    fault=f"maxmemory at what is used, allkeys-lru, and others who fill it, for {_SECONDS:g} s",
    aborts_when=f"Redis refuses the settings, or evicts fewer than {_LEAST_EVICTED} keys that are not the others'",
    inject=_inject,
    expects=(counted("epochs", _LEAST_EPOCHS), counted("loads", _LEAST_LOADS)),
    redis_options=("--maxmemory-policy", "allkeys-lru"),
)
