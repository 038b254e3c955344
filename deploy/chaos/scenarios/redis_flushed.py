"""All keys are removed under load."""

from deploy.chaos.harness.expectations import breaker_stays_closed, counted, counted_at_most
from deploy.chaos.harness.scenario import Scenario
from deploy.chaos.harness.steps import repeat, tell_redis
from tests.coherence.world import World

_SECONDS = 8.0
_PAUSE_SECONDS = 2.0
_MOST_LOADS = 800  # Four times all sessions in two processes, and what changes make necessary.


async def _inject(world: World) -> None:
    await repeat(_SECONDS, _PAUSE_SECONDS, lambda: tell_redis(world, "FLUSHALL"))


SCENARIO = Scenario(
    hypothesis="Everything is a miss for a moment: one query a key and process, not one a reader.",
    fault=f"FLUSHALL each {_PAUSE_SECONDS:g} s for {_SECONDS:g} s",
    aborts_when="Redis refuses to",
    inject=_inject,
    expects=(counted("epochs"), breaker_stays_closed, counted_at_most("loads", _MOST_LOADS)),
)
