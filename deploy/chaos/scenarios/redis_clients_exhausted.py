"""Redis accepts no more clients, and has thrown out ours."""

from deploy.chaos.harness.expectations import breaker_opens
from deploy.chaos.harness.scenario import Scenario
from deploy.chaos.harness.steps import shut_out_of_redis
from tests.coherence.world import World

_SECONDS = 8.0


async def _inject(world: World) -> None:
    await shut_out_of_redis(world, "maxclients", "1", _SECONDS, error="ERR max number of clients reached")


SCENARIO = Scenario(
    hypothesis="A connection that is refused with an error is a failure: PostgreSQL answers.",
    fault=f"maxclients 1 and all connections closed; taken back after {_SECONDS:g} s",
    aborts_when="Redis refuses the setting, or takes another client",
    inject=_inject,
    expects=(breaker_opens,),
)
