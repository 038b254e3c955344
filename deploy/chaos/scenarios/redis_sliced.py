"""What Redis answers, and what it is asked, comes byte by byte."""

from deploy.chaos.harness.expectations import breaker_stays_closed, counted
from deploy.chaos.harness.scenario import Scenario
from deploy.chaos.harness.steps import impair_ways
from tests.coherence.world import World
from tests.servers.fault_proxy import Impairment

_SECONDS = 8.0
_RATIO = 0.1  # All of them would keep the proxy, which shares a core with the load, busy with nothing else.
_ONE_BYTE = Impairment(slice_bytes=1, sliced_ratio=_RATIO)
_LEAST_SLICED = 50
_LEAST_HITS = 1600  # Half of what a run shows.


async def _inject(world: World) -> None:
    await impair_ways(world, _SECONDS, up=_ONE_BYTE, down=_ONE_BYTE, least=_LEAST_SLICED)


SCENARIO = Scenario(
    hypothesis="Nothing is wrong with slices: Redis goes on answering, and no breaker opens.",
    fault=f"{_RATIO:.0%} of what goes to and from Redis goes byte by byte, for {_SECONDS:g} s",
    aborts_when=f"fewer than {_LEAST_SLICED} chunks are sliced between a process and Redis",
    inject=_inject,
    expects=(breaker_stays_closed, counted("redis_hits", _LEAST_HITS)),
    disturbs_stores=False,
)
