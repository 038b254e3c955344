"""What several scenarios do."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

from tests.coherence.timeline import DATABASE
from tests.coherence.world import World
from tests.servers.fault_proxy import NONE, Admission, Impairment
from tests.servers.processes import ServerFailedError


async def impair_ways(world: World, seconds: float, *, up: Impairment = NONE, down: Impairment = NONE) -> None:
    """Do this to the ways of all processes to Redis for so long."""
    for proxy in world.proxies.values():
        proxy.impair(up=up, down=down)
    try:
        await asyncio.sleep(seconds)
    finally:
        for proxy in world.proxies.values():
            proxy.impair()


async def tell_redis(world: World, *words: str) -> None:
    """Send a command to Redis itself, which must accept it."""
    answer = await asyncio.to_thread(world.redis.command, *words)
    if not answer.startswith((b"+", b":")):
        message = f"{' '.join(words)} answered {answer!r}"
        raise ServerFailedError(message)


async def orphan_redis(world: World, seconds: float) -> None:
    """Make Redis the replica of a master that is not there, for so long."""
    await tell_redis(world, "REPLICAOF", "127.0.0.1", "1")
    await asyncio.sleep(seconds)
    await tell_redis(world, "REPLICAOF", "NO", "ONE")


async def repeat(seconds: float, pause_seconds: float, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Do it again and again for so long, with pauses between."""
    end = asyncio.get_running_loop().time() + seconds
    while asyncio.get_running_loop().time() < end:
        await work()
        await asyncio.sleep(pause_seconds)


@contextlib.asynccontextmanager
async def database_away(world: World) -> AsyncIterator[None]:
    """Note that the database is away for as long as the block runs: refusals and stale answers have a cause."""
    async with world.postgres_lock:
        with world.absence(DATABASE):
            yield


@contextlib.asynccontextmanager
async def redis_away(world: World, *, is_empty_then: bool = False) -> AsyncIterator[None]:
    """Kill Redis and refuse connections to it while the block runs; then it is back, with its data unless told so."""
    await asyncio.to_thread(world.redis.kill)
    for proxy in world.proxies.values():
        await proxy.admit(Admission.REFUSE)
        proxy.cut()
    try:
        yield
    finally:
        await asyncio.to_thread(world.redis.start_empty if is_empty_then else world.redis.start)
        for proxy in world.proxies.values():
            await proxy.admit(Admission.PASS)


async def restart_service(world: World, name: str, *, away_seconds: float = 0.0) -> None:
    """Stop a service process in its orderly way, and start it again; no request has a reason to fail."""
    service = world.services[name]
    status = await asyncio.to_thread(service.stop)
    if status:
        message = f"process {name} ended with {status}"
        raise ServerFailedError(message)
    world.timeline.note_kill(name, at=world.clock())
    await asyncio.sleep(away_seconds)
    await asyncio.to_thread(service.start)
