"""Redis asks for a password that nobody has told the service."""

from deploy.chaos.harness.expectations import breaker_opens
from deploy.chaos.harness.scenario import Scenario
from deploy.chaos.harness.steps import shut_out_of_redis
from tests.coherence.world import World

_SECONDS = 10.0


async def _inject(world: World) -> None:
    await shut_out_of_redis(world, "requirepass", "another-password", _SECONDS, error="NOAUTH")


SCENARIO = Scenario(
    hypothesis="NOAUTH is a failure like any other: PostgreSQL answers, and Redis is tried again.",
    fault=f"requirepass is set and all connections are closed; taken back after {_SECONDS:g} s",
    aborts_when="Redis refuses the setting, or answers without the password",
    inject=_inject,
    expects=(breaker_opens,),
)
