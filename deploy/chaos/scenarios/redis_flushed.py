"""All keys are removed under load."""

import asyncio

from deploy.chaos.harness.expectations import breaker_stays_closed, counted, counted_at_most
from deploy.chaos.harness.scenario import Scenario
from deploy.chaos.harness.steps import tell_redis
from tests.coherence.world import World

_TIMES = 4
_PAUSE_SECONDS = 2.0
_MOST_LOADS = 700  # Runs show 520 to 560: four times what two processes are asked for, and what changes make necessary.
_LEAST_HITS = 1000  # Half of what a run shows.


async def _inject(world: World) -> None:
    for _ in range(_TIMES):
        await tell_redis(world, "FLUSHALL")
        await asyncio.sleep(_PAUSE_SECONDS)


SCENARIO = Scenario(
    hypothesis="Everything is a miss for a moment: one query a key and process, not one a reader.",
    fault=f"FLUSHALL, {_TIMES} times, {_PAUSE_SECONDS:g} s apart",
    aborts_when="Redis refuses to",
    inject=_inject,
    expects=(
        counted("epochs", _TIMES),
        breaker_stays_closed,
        counted_at_most("loads", _MOST_LOADS),
        counted("redis_hits", _LEAST_HITS),
    ),
)
