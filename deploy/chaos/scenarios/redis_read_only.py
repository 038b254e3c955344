"""Redis becomes a replica of nobody: it can be read, and refuses what is written."""

from deploy.chaos.harness.expectations import breaker_opens
from deploy.chaos.harness.scenario import Scenario
from deploy.chaos.harness.steps import orphan_redis
from tests.coherence.world import World

_SECONDS = 10.0


async def _inject(world: World) -> None:
    await orphan_redis(world, _SECONDS, "SET", "a", "b", error="READONLY")


SCENARIO = Scenario(
    hypothesis="READONLY is a failure: who cannot be told of changes is not asked either.",
    fault=f"Redis is a read-only replica for {_SECONDS:g} s",
    aborts_when="Redis takes a write, or refuses it for another reason",
    inject=_inject,
    expects=(breaker_opens,),
)
