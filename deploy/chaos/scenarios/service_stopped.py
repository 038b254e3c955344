"""A service process is stopped in its orderly way under load; the other one goes on."""

from deploy.chaos.harness.expectations import seen_by_the_fault
from deploy.chaos.harness.scenario import Scenario
from deploy.chaos.harness.steps import restart_service
from tests.coherence.world import World

_AWAY_SECONDS = 2.0


async def _inject(world: World) -> None:
    for name in world.services:
        await restart_service(world, name, away_seconds=_AWAY_SECONDS)


SCENARIO = Scenario(
    hypothesis="No request fails: readiness says no, every answer says `Connection: close`, what runs is finished.",
    fault=f"SIGTERM to each process in turn; it starts again {_AWAY_SECONDS:g} s after its end",
    aborts_when="a process does not start again",
    inject=_inject,
    expects=(seen_by_the_fault,),
)
