"""Redis becomes a replica that has lost its master and does not answer without it."""

from deploy.chaos.harness.expectations import breaker_opens
from deploy.chaos.harness.scenario import Scenario
from deploy.chaos.harness.steps import orphan_redis, tell_redis
from tests.coherence.world import World

_SECONDS = 10.0


async def _inject(world: World) -> None:
    await tell_redis(world, "CONFIG", "SET", "replica-serve-stale-data", "no")
    await orphan_redis(world, _SECONDS, "GET", "a", error="MASTERDOWN")


SCENARIO = Scenario(
    hypothesis="MASTERDOWN is a failure like any other: PostgreSQL answers.",
    fault=f"Redis answers MASTERDOWN for {_SECONDS:g} s",
    aborts_when="Redis answers a read with anything but MASTERDOWN",
    inject=_inject,
    expects=(breaker_opens,),
)
