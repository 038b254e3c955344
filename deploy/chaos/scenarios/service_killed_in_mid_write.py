"""A service process is killed between a commit and the first word about it."""

import asyncio
from random import Random

from deploy.chaos.harness.expectations import reads_answered, seen_by_the_fault
from deploy.chaos.harness.scenario import Limits, Scenario
from tests.coherence.service_faults import service_killed_in_between
from tests.coherence.world import World

_TIMES = 4
_PAUSE_SECONDS = 1.0


async def _inject(world: World) -> None:
    chance = Random(1)
    for _ in range(_TIMES):
        await service_killed_in_between(world, chance)
        await asyncio.sleep(_PAUSE_SECONDS)


SCENARIO = Scenario(
    hypothesis="What was committed and told to nobody is in the log: the other process shows it in time.",
    fault=f"kill -9 of a process by its next committed write, and a new start, {_TIMES} times",
    aborts_when="nothing is committed for 5 s",
    inject=_inject,
    expects=(seen_by_the_fault, reads_answered(0.98)),
    limits=Limits(p99_seconds=0.3, refused_p99_seconds=1.0),
)
