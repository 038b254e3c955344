"""A replica is promoted under load, and the old master returns while some still talk to it; then it follows."""

import asyncio

import redis

from deploy.chaos.harness.expectations import breaker_opens
from deploy.chaos.harness.scenario import Scenario
from deploy.chaos.harness.steps import redis_calls, until_redis_is_used
from tests.coherence.redis_node import RedisNode
from tests.coherence.world import World
from tests.servers.fault_proxy import Admission, FaultProxy
from tests.servers.processes import ServerFailedError

_LAG_SECONDS = 1.0
_DOWN_SECONDS = 2.0
_SPLIT_SECONDS = 2.0
_LEAST_MISSED_BYTES = 10_000  # Of the replication stream; runs show 27,000.
_LEAST_READS_OF_THE_OLD = 150  # Half of what a run shows.
_ACKNOWLEDGED_MS = 500


async def _inject(world: World) -> None:
    old, replica = world.redis, RedisNode()
    link = FaultProxy(target_port=old.port)
    try:
        await link.open()
        await asyncio.to_thread(replica.start)
        await asyncio.to_thread(replica.follow, link.port)
        # The replica does not see the master's last second.
        await link.admit(Admission.REFUSE)
        link.cut()
        await asyncio.sleep(_LAG_SECONDS)
        await asyncio.to_thread(_demand_lag, old, replica)
        await asyncio.to_thread(old.kill)
        await asyncio.sleep(_DOWN_SECONDS)
        await asyncio.to_thread(replica.promote)
        world.redis = replica
        first, *others = world.proxies
        world.proxies[first].retarget(replica.port)
        # The old master is back before everybody has been told of the new one.
        await asyncio.to_thread(old.start)
        await until_redis_is_used(world, world.services)
        await asyncio.sleep(_SPLIT_SECONDS)
        await asyncio.to_thread(_demand_reads, old)
        for name in others:
            world.proxies[name].retarget(replica.port)
        await asyncio.to_thread(old.follow, replica.port)
        await asyncio.to_thread(_demand_follower, replica)
    except BaseException:
        if world.redis is not replica:
            await asyncio.to_thread(replica.close)
        raise
    finally:
        link.close()
        if world.redis is not old:
            await asyncio.to_thread(old.close)


def _demand_lag(master: RedisNode, replica: RedisNode) -> None:
    """Make sure that the replica has missed writes."""
    missed = _offset(master, "master_repl_offset") - _offset(replica, "slave_repl_offset")
    if missed < _LEAST_MISSED_BYTES:
        message = f"the replica has missed {missed} bytes, {_LEAST_MISSED_BYTES} are the least"
        raise ServerFailedError(message)


def _offset(node: RedisNode, name: str) -> int:
    with redis.Redis(port=node.port) as client:
        return int(client.info("replication")[name])


def _demand_reads(node: RedisNode) -> None:
    """Make sure that somebody has used a Redis since its start."""
    reads = redis_calls(node.port).get("mget", 0)
    if reads < _LEAST_READS_OF_THE_OLD:
        message = f"the old master was read {reads} times, {_LEAST_READS_OF_THE_OLD} are the least"
        raise ServerFailedError(message)


def _demand_follower(master: RedisNode) -> None:
    """Make sure that somebody has got what this master writes."""
    with redis.Redis(port=master.port, single_connection_client=True) as client:
        client.set("filler", b"x", ex=60)
        if client.wait(1, _ACKNOWLEDGED_MS) != 1:
            message = "the old master does not follow the new one"
            raise ServerFailedError(message)


SCENARIO = Scenario(
    hypothesis="Neither the writes that the replica has not seen nor the old master's data become an old answer.",
    fault="the master dies; a replica that lags by a second takes its place for one process; the old master is back,"
    " and for two seconds the other process uses that; then it uses the new one, too, and the old one follows",
    aborts_when="the replica does not follow, or has missed nothing; nobody uses the old master; it does not follow",
    inject=_inject,
    expects=(breaker_opens,),
)
