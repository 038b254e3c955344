"""What happens to Redis, and to the way there."""

import asyncio
from random import Random

from tests.coherence.not_possible import NotPossibleError
from tests.coherence.redis_node import RedisNode
from tests.coherence.world import World
from tests.servers.fault_proxy import HELD, NONE, Admission, FaultProxy, Impairment

_POSITION = "zpmeow:position"
_POSITION_TRIES = 30
_TRY_SECONDS = 0.1
_LONGER_THAN_FLOORS_SECONDS = 33.0
_SLOW = Impairment(jitter_seconds=0.03)  # There and back within the 50 ms that a service gives Redis, mostly.
LATE_SECONDS = (0.2, 3.0)
LOSSY = Impairment(stuck_ratio=0.25, stuck_seconds=LATE_SECONDS)
"""For what is sent to Redis: its sender has given up by then. So few that a service goes on sending: its breaker opens
at 5 in a row, or at half of all."""


async def redis_killed_with_data(world: World, chance: Random) -> None:
    """Kill Redis; it comes back with its data, at once or some seconds later."""
    async with world.redis_lock:
        with world.fault(redis_killed_with_data.__name__):
            await asyncio.to_thread(world.redis.kill)
            await asyncio.sleep(_away_seconds(chance))
            await asyncio.to_thread(world.redis.start)


async def redis_away_for_long(world: World, chance: Random) -> None:
    """Kill Redis; it comes back with its data when no process remembers any more what changed first."""
    async with world.redis_lock:
        with world.fault(redis_away_for_long.__name__):
            await asyncio.to_thread(world.redis.kill)
            await asyncio.sleep(_LONGER_THAN_FLOORS_SECONDS + chance.uniform(0, 5))
            await asyncio.to_thread(world.redis.start)


async def redis_killed_without_data(world: World, chance: Random) -> None:
    """Kill Redis; it comes back empty, at once or some seconds later."""
    async with world.redis_lock:
        with world.fault(redis_killed_without_data.__name__):
            await asyncio.to_thread(world.redis.kill)
            await asyncio.sleep(_away_seconds(chance))
            await asyncio.to_thread(world.redis.start_empty)


async def redis_paused(world: World, chance: Random) -> None:
    """Stop Redis for a while; then it runs what was sent to it before."""
    async with world.redis_lock:
        with world.fault(redis_paused.__name__):
            world.redis.pause()
            try:
                await asyncio.sleep(chance.choice((chance.uniform(0.5, 2), chance.uniform(2, 8))))
            finally:
                world.redis.resume()


async def redis_flushed(world: World, _chance: Random) -> None:
    """Remove all keys."""
    async with world.redis_lock:
        with world.fault(redis_flushed.__name__):
            await asyncio.to_thread(world.redis.command, "FLUSHALL")


async def redis_rolled_back(world: World, chance: Random) -> None:
    """Kill Redis; it comes back at once with what it had some seconds ago."""
    async with world.redis_lock:
        snapshot = await asyncio.to_thread(world.redis.save)
        await asyncio.sleep(chance.uniform(1, 4))
        with world.fault(redis_rolled_back.__name__):
            await asyncio.to_thread(world.redis.kill)
            await asyncio.to_thread(world.redis.start_from, snapshot)


async def redis_set_back_far(world: World, chance: Random) -> None:
    """Kill Redis; it comes back at once with what it had before the time that processes remember."""
    async with world.redis_lock:
        snapshot = await asyncio.to_thread(world.redis.save)
        await asyncio.sleep(_LONGER_THAN_FLOORS_SECONDS + chance.uniform(0, 5))
        with world.fault(redis_set_back_far.__name__):
            await asyncio.to_thread(world.redis.kill)
            await asyncio.to_thread(world.redis.start_from, snapshot)


async def replica_promoted(world: World, chance: Random) -> None:
    """Let a replica that has not seen the last writes take the master's place, for one process sooner than another."""
    async with world.redis_lock:
        replica = RedisNode()
        link = FaultProxy(target_port=world.redis.port)
        try:
            await link.open()
            await asyncio.to_thread(replica.start)
            await asyncio.to_thread(replica.follow, link.port)
            # Stopped, it may still read what lies in its kernel's buffers; cut off, it has nothing more.
            stopped = chance.random() < 0.5
            if stopped:
                replica.pause()
            else:
                await _refuse(link)
            await asyncio.sleep(chance.uniform(1, 2))
            with world.fault(replica_promoted.__name__):
                if stopped:
                    replica.resume()
                await asyncio.to_thread(replica.promote)
                await _lead_to(world, replica, chance)
        except BaseException:
            if world.redis is not replica:
                await asyncio.to_thread(replica.close)
            raise
        finally:
            link.close()


async def _lead_to(world: World, replica: RedisNode, chance: Random) -> None:
    """Turn the processes over to the new master one after the other; the old one stays alive until then."""
    old, world.redis = world.redis, replica
    names = list(world.proxies)
    chance.shuffle(names)
    for number, name in enumerate(names):
        if number:
            await asyncio.sleep(chance.choice((0.0, chance.uniform(0, 2))))
        world.proxies[name].retarget(replica.port)
    await asyncio.to_thread(old.close)


async def position_evicted(world: World, _chance: Random) -> None:
    """Remove the position alone, as an eviction would."""
    async with world.redis_lock:
        for _ in range(_POSITION_TRIES):
            if await asyncio.to_thread(world.redis.command, "EXISTS", _POSITION) == b":1":
                break
            await asyncio.sleep(_TRY_SECONDS)
        else:
            message = f"there is no {_POSITION}"
            raise NotPossibleError(message)
        with world.fault(position_evicted.__name__):
            await asyncio.to_thread(world.redis.command, "DEL", _POSITION)


async def process_cut_off_from_redis(world: World, chance: Random) -> None:
    """Break the way to Redis for one process alone: refused, or held up, and then some of it arrives late."""
    async with world.way_lock:
        proxy = world.proxies[world.choose_process(chance)]
        with world.fault(process_cut_off_from_redis.__name__):
            if chance.random() < 0.5:
                await _refuse(proxy)
            else:
                proxy.impair(up=HELD, down=HELD)
            try:
                await asyncio.sleep(chance.uniform(2, 6))
            finally:
                if chance.random() < 0.3:
                    proxy.cut()
                proxy.impair()
                await proxy.admit(Admission.PASS)


async def way_slowed(world: World, chance: Random) -> None:
    """Make the way to Redis slow for one process alone: what it writes there comes after what others write."""
    await _impair_way(world, chance, way_slowed.__name__, chance.uniform(2, 6), up=_SLOW, down=_SLOW)


async def way_lossy(world: World, chance: Random) -> None:
    """Let some of what one process alone sends to Redis arrive seconds late: commands run that timed out before."""
    await _impair_way(world, chance, way_lossy.__name__, chance.uniform(2, 6), up=LOSSY)


async def _impair_way(
    world: World, chance: Random, kind: str, seconds: float, *, up: Impairment = NONE, down: Impairment = NONE
) -> None:
    async with world.way_lock:
        proxy = world.proxies[world.choose_process(chance)]
        with world.fault(kind):
            proxy.impair(up=up, down=down)
            try:
                await asyncio.sleep(seconds)
            finally:
                proxy.impair()
            # What was sent last may still be under way, and is part of the fault.
            await asyncio.sleep(up.stuck_seconds[1])


async def _refuse(proxy: FaultProxy) -> None:
    await proxy.admit(Admission.REFUSE)
    proxy.cut()


def _away_seconds(chance: Random) -> float:
    return chance.choice((0.0, chance.uniform(1, 5)))
