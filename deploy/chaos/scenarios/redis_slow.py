"""The way to Redis becomes slow: below the deadline, at it, and beyond."""

from deploy.chaos.harness.expectations import breaker_opens, counted
from deploy.chaos.harness.scenario import Limits, Scenario
from deploy.chaos.harness.steps import impair_ways
from tests.coherence.world import World
from tests.servers.fault_proxy import Impairment

_LATENCIES_SECONDS = (0.005, 0.045, 0.2)
_EACH_SECONDS = 20.0


async def _inject(world: World) -> None:
    for latency in _LATENCIES_SECONDS:
        spread = latency / 5
        way = Impairment(latency_seconds=latency - spread / 2, jitter_seconds=spread)
        await impair_ways(world, _EACH_SECONDS, down=way)


SCENARIO = Scenario(
    hypothesis="5 ms cost 5 ms. Around the deadline of 50 ms, and beyond, breakers open and do not flap.",
    fault=f"answers of Redis {', '.join(f'{seconds * 1000:g}' for seconds in _LATENCIES_SECONDS)} ms late,"
    f" {_EACH_SECONDS:g} s each",
    aborts_when="the proxy cannot keep up",
    inject=_inject,
    expects=(breaker_opens, counted("timeouts")),
    limits=Limits(transitions_a_minute=2),
)
