"""Redis' connections are reset in the middle of its replies."""

from deploy.chaos.harness.expectations import counted
from deploy.chaos.harness.scenario import Scenario
from deploy.chaos.harness.steps import impair_ways
from tests.coherence.world import World
from tests.servers.fault_proxy import Impairment

_SECONDS = 10.0
_RATIO = 0.2
_LEAST = 80  # Of each process: half of what a run shows.
_LEAST_ERRORS = 300  # As above.


async def _inject(world: World) -> None:
    await impair_ways(world, _SECONDS, down=Impairment(torn_ratio=_RATIO), least=_LEAST)


SCENARIO = Scenario(
    hypothesis="Half a reply is no reply: the read goes on to PostgreSQL, the connection is not used again.",
    fault=f"{_RATIO:.0%} of Redis' replies end half-way in a reset, for {_SECONDS:g} s",
    aborts_when=f"fewer than {_LEAST} replies are torn on the way of a process from Redis",
    inject=_inject,
    expects=(counted("errors", _LEAST_ERRORS),),
)
