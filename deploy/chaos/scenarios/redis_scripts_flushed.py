"""Redis forgets its scripts, again and again."""

from deploy.chaos.harness.expectations import breaker_stays_closed
from deploy.chaos.harness.scenario import Scenario
from deploy.chaos.harness.steps import repeat, tell_redis
from tests.coherence.world import World

_SECONDS = 8.0
_PAUSE_SECONDS = 0.1


async def _inject(world: World) -> None:
    await repeat(_SECONDS, _PAUSE_SECONDS, lambda: tell_redis(world, "SCRIPT", "FLUSH"))


SCENARIO = Scenario(
    hypothesis="A forgotten script is sent anew; it is no failure, and no breaker opens.",
    fault=f"SCRIPT FLUSH each {_PAUSE_SECONDS:g} s for {_SECONDS:g} s",
    aborts_when="Redis refuses to",
    inject=_inject,
    expects=(breaker_stays_closed,),
)
