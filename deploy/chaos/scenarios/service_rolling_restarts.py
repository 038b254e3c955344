"""Ten releases in a row: the processes are restarted one after the other, again and again."""

from deploy.chaos.harness.expectations import seen_by_the_fault
from deploy.chaos.harness.scenario import Scenario
from deploy.chaos.harness.steps import restart_service
from tests.coherence.world import World

_TIMES = 10


async def _inject(world: World) -> None:
    for _ in range(_TIMES):
        for name in world.services:
            await restart_service(world, name)


SCENARIO = Scenario(
    hypothesis="No request fails in any of them, and no answer is old, though memory is lost each time.",
    fault=f"SIGTERM and a new start of each process in turn, {_TIMES} times",
    aborts_when="a process ends with another status than 0, or does not start again",
    inject=_inject,
    expects=(seen_by_the_fault,),
    longest_seconds=300.0,
)
