"""Bits of what is sent to Redis are flipped on the way, so that it stores what nobody has sent."""

from deploy.chaos.harness.expectations import counted
from deploy.chaos.harness.scenario import Scenario
from deploy.chaos.harness.steps import impair_ways
from tests.coherence.world import World
from tests.servers.fault_proxy import Impairment

_SECONDS = 12.0
_RATIO = 0.05
_LEAST = 30  # Of each process: half of what a run shows.


async def _inject(world: World) -> None:
    await impair_ways(world, _SECONDS, up=Impairment(corrupted_ratio=_RATIO), least=_LEAST)


SCENARIO = Scenario(
    hypothesis="What was stored wrong is found when it is read: key, version and bytes stand under one checksum.",
    fault=f"in {_RATIO:.0%} of what is sent to Redis one bit is flipped, for {_SECONDS:g} s",
    aborts_when=f"fewer than {_LEAST} chunks are corrupted on the way of a process to Redis",
    inject=_inject,
    expects=(counted("corrupt", 3),),
    leaves_garbage=True,
)
