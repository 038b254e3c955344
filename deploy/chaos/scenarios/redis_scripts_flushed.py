"""Redis forgets its scripts, again and again."""

import asyncio

from deploy.chaos.harness.expectations import breaker_stays_closed, counted
from deploy.chaos.harness.scenario import Scenario
from deploy.chaos.harness.steps import redis_calls, repeat, tell_redis
from tests.coherence.world import World
from tests.servers.processes import ServerFailedError

_SECONDS = 8.0
_PAUSE_SECONDS = 0.1
_LEAST_SENT = 140  # Half of what a run shows: three or four scripts after each flush.
_LEAST_HITS = 1600  # As above.


async def _inject(world: World) -> None:
    before = await asyncio.to_thread(redis_calls, world.redis.port)
    await repeat(_SECONDS, _PAUSE_SECONDS, lambda: tell_redis(world, "SCRIPT", "FLUSH"))
    calls = await asyncio.to_thread(redis_calls, world.redis.port)
    # Who knows a script's hash calls EVALSHA; EVAL brings the source.
    sent = calls.get("eval", 0) - before.get("eval", 0)
    if sent < _LEAST_SENT:
        message = f"only {sent} scripts were sent anew, {_LEAST_SENT} are the least"
        raise ServerFailedError(message)


SCENARIO = Scenario(
    hypothesis="A forgotten script is sent anew; it is no failure, and no breaker opens.",
    fault=f"SCRIPT FLUSH each {_PAUSE_SECONDS:g} s for {_SECONDS:g} s",
    aborts_when=f"Redis refuses to, or fewer than {_LEAST_SENT} scripts are sent anew",
    inject=_inject,
    expects=(breaker_stays_closed, counted("redis_hits", _LEAST_HITS)),
    disturbs_stores=False,
)
