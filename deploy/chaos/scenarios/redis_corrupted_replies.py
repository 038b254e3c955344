"""Bits of Redis' replies are flipped on the way."""

from deploy.chaos.harness.expectations import counted
from deploy.chaos.harness.scenario import Scenario
from deploy.chaos.harness.steps import impair_ways
from tests.coherence.world import World
from tests.servers.fault_proxy import Impairment

_SECONDS = 12.0
_RATIO = 0.05
_LEAST = 15  # Of each process: half of what a run shows.


async def _inject(world: World) -> None:
    await impair_ways(world, _SECONDS, down=Impairment(corrupted_ratio=_RATIO), least=_LEAST)


SCENARIO = Scenario(
    hypothesis="No flipped bit becomes an answer: the envelope's checksum, or the protocol, finds it.",
    fault=f"in {_RATIO:.0%} of what Redis sends one bit is flipped, for {_SECONDS:g} s",
    aborts_when=f"fewer than {_LEAST} chunks are corrupted on the way of a process from Redis",
    inject=_inject,
    expects=(counted("corrupt", 20),),
)
