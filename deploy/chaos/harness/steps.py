"""What several scenarios do. Where the servers can tell, a step makes sure of its effect, and raises if it had none."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Collection, Coroutine, Iterator, Mapping
from typing import Any

import redis

from tests.coherence.timeline import DATABASE
from tests.coherence.world import World
from tests.servers.fault_proxy import NONE, Admission, Effect, Impairment
from tests.servers.processes import ServerFailedError
from tests.servers.service import Service

_POLL_SECONDS = 0.05
_REDIS_IN_USE_SECONDS = 10.0  # Far above the 2 s that are allowed: who is late is found by that limit, not here.


async def impair_ways(
    world: World, seconds: float, *, up: Impairment = NONE, down: Impairment = NONE, least: int
) -> None:
    """Do this to the ways of all processes to Redis for so long.

    Args:
        world: where.
        seconds: for how long.
        up: becomes of what is sent to Redis.
        down: becomes of what Redis sends.
        least: each kind of harm must have come to so many chunks on each way.

    Raises:
        ServerFailedError: it came to fewer.
    """
    with ways_impaired(world, up=up, down=down, least=least):
        await asyncio.sleep(seconds)


@contextlib.contextmanager
def ways_impaired(world: World, *, up: Impairment = NONE, down: Impairment = NONE, least: int) -> Iterator[None]:
    """Do the same for as long as the block runs."""
    with demand_effects(world, dict.fromkeys(up.effects | down.effects, least)):
        for proxy in world.proxies.values():
            proxy.impair(up=up, down=down)
        try:
            yield
        finally:
            for proxy in world.proxies.values():
                proxy.impair()


@contextlib.contextmanager
def demand_effects(world: World, least: Mapping[Effect, int]) -> Iterator[None]:
    """Count on the way of each process to Redis while the block runs. Raises ServerFailedError if it was less."""
    before = {name: proxy.effects.copy() for name, proxy in world.proxies.items()}
    yield
    for name, proxy in world.proxies.items():
        for effect, wanted in least.items():
            many = proxy.effects[effect] - before[name][effect]
            if many < wanted:
                message = f"{many} {effect.value} on the way of process {name} to Redis, {wanted} are the least"
                raise ServerFailedError(message)


async def tell_redis(world: World, *words: str) -> None:
    """Send a command to Redis itself, which must accept it."""
    answer = await asyncio.to_thread(world.redis.command, *words)
    if not answer.startswith((b"+", b":")):
        message = f"{' '.join(words)} answered {answer!r}"
        raise ServerFailedError(message)


async def demand_refusal(world: World, error: str, *words: str) -> None:
    """Send a command to Redis itself, which must refuse it with this error."""
    answer = await asyncio.to_thread(world.redis.command, *words)
    if not answer.startswith(f"-{error}".encode()):
        message = f"{' '.join(words)} answered {answer!r}, not {error}"
        raise ServerFailedError(message)


async def orphan_redis(world: World, seconds: float, *words: str, error: str) -> None:
    """Make Redis the replica of a master that is not there, for so long; it must refuse this command like this."""
    await tell_redis(world, "REPLICAOF", "127.0.0.1", "1")
    await asyncio.sleep(seconds)
    await demand_refusal(world, error, *words)
    await tell_redis(world, "REPLICAOF", "NO", "ONE")


async def shut_out_of_redis(world: World, setting: str, value: str, seconds: float, *, error: str) -> None:
    """Change a setting and close all connections, for so long; whoever comes meanwhile must get this error."""
    # This connection stays: nobody else could take the setting back.
    with redis.Redis(port=world.redis.port, single_connection_client=True) as client:
        before = (await asyncio.to_thread(client.config_get, setting))[setting]
        await asyncio.to_thread(client.config_set, setting, value)
        try:
            await asyncio.to_thread(client.client_kill_filter, _type="normal", skipme=True)
            await asyncio.sleep(seconds)
            await demand_refusal(world, error, "PING")
        finally:
            await asyncio.to_thread(client.config_set, setting, before)


def redis_calls(port: int) -> dict[str, int]:
    """Return how often each command was called at the Redis on this port since it started, by the command's name."""
    with redis.Redis(port=port) as client:
        stats: dict[str, Any] = client.info("commandstats")
    return {name.removeprefix("cmdstat_"): int(figures["calls"]) for name, figures in stats.items()}


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


async def until_redis_is_used(world: World, names: Collection[str]) -> None:
    """Wait until these processes answer from Redis. Raises ServerFailedError if that takes too long."""
    services = [world.services[name] for name in names]
    try:
        async with asyncio.timeout(_REDIS_IN_USE_SECONDS):
            while not all([await asyncio.to_thread(uses_redis, one) for one in services]):  # noqa: ASYNC110  (a process)
                await asyncio.sleep(_POLL_SECONDS)
    except TimeoutError as error:
        message = f"Redis is not used again after {_REDIS_IN_USE_SECONDS:g} s"
        raise ServerFailedError(message) from error


def uses_redis(service: Service) -> bool:
    """Tell whether a process answers from Redis: its breaker is closed, and it trusts what is there."""
    try:
        metrics = service.metrics()
    except OSError:
        return False  # It is away.
    return (
        metrics.total("zpmeow_breaker_state", state="closed") == 1
        and metrics.total("zpmeow_cache_trusted") == 1
        and metrics.total("zpmeow_cache_mode", mode="normal") == 1
    )


def bypasses_cache(service: Service) -> bool:
    """Tell whether a process answers from the database alone."""
    return service.metrics().total("zpmeow_cache_mode", mode="bypass") == 1


async def restart_service(world: World, name: str, *, away_seconds: float = 0.0) -> None:
    """Stop a service process in its orderly way, and start it again; no request has a reason to fail."""
    world.services[name].terminate()
    await until_stopped(world, name)
    await asyncio.sleep(away_seconds)
    await asyncio.to_thread(world.services[name].start)


async def until_stopped(world: World, name: str) -> None:
    """Wait for the end of a process that was told to stop. Raises ServerFailedError if it is not a good one."""
    status = await asyncio.to_thread(world.services[name].wait_ended)
    if status:
        message = f"process {name} ended with {status}"
        raise ServerFailedError(message)
    world.timeline.note_kill(name, at=world.clock())
