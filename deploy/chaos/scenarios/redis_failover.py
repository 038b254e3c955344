"""A replica is promoted under load, and the old master returns while some still talk to it."""

import asyncio

from deploy.chaos.harness.expectations import breaker_opens
from deploy.chaos.harness.scenario import Scenario
from tests.coherence.redis_node import RedisNode
from tests.coherence.world import World
from tests.servers.fault_proxy import Admission, FaultProxy

_LAG_SECONDS = 1.0
_SPLIT_SECONDS = 2.0
_DOWN_SECONDS = 2.0


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
        await asyncio.to_thread(old.kill)
        await asyncio.sleep(_DOWN_SECONDS)
        await asyncio.to_thread(replica.promote)
        world.redis = replica
        first, *others = world.proxies.values()
        first.retarget(replica.port)
        # The old master is back before everybody has been told of the new one.
        await asyncio.to_thread(old.start)
        await asyncio.sleep(_SPLIT_SECONDS)
        for proxy in others:
            proxy.retarget(replica.port)
        await asyncio.to_thread(old.command, "REPLICAOF", "127.0.0.1", str(replica.port))
    except BaseException:
        if world.redis is not replica:
            await asyncio.to_thread(replica.close)
        raise
    finally:
        link.close()
        if world.redis is not old:
            await asyncio.to_thread(old.close)


SCENARIO = Scenario(
    hypothesis="Neither the writes that the replica has not seen nor the old master's data become an old answer.",
    fault="the master dies; a replica that lags by a second takes its place for one process, two seconds later for the"
    " other, while the old master is back",
    aborts_when="the replica does not follow",
    inject=_inject,
    expects=(breaker_opens,),
)
