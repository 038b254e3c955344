"""The way to Redis becomes slow: far below the deadline, now below it and now beyond, and far beyond.

A delay of exactly the deadline would be one that is always too long. One that is spread around it, a tenth to both
sides, lets some calls through and cuts others off: that is what makes breakers flap. Each step is held to what is
believed of it by itself, as what one does could pass for what another one should have done.
"""

import asyncio
from dataclasses import dataclass

from deploy.chaos.harness.expectations import breaker_opens, counted
from deploy.chaos.harness.scenario import Limits, Scenario
from deploy.chaos.harness.steps import until_redis_is_used, ways_impaired
from tests.coherence.world import World
from tests.servers.fault_proxy import Impairment
from tests.servers.processes import ServerFailedError
from tests.servers.service import Metrics

_HARMLESS_SECONDS = 0.005
_AT_THE_DEADLINE_SECONDS = 0.05
_BEYOND_SECONDS = 0.2
_SPREAD_RATIO = 0.2  # Of the delay, half of it to each side.
_USED_FOR_SECONDS = 15.0
_LEFT_ALONE_FOR_SECONDS = 45.0  # With both steps, long enough for a limit of transitions a minute.
_LEAST_CHUNKS = 5
_LEAST_TIMEOUTS = 2  # Of reads: five failures in a row open a breaker, and most of them may be of writes.
_LEAST_HITS = 300  # Half of what a run shows for the process with a tier of its own.
_MOST_RATIO = 3.0  # What a delay may cost, to the delay: runs show 1.4, with other work on the machine.


@dataclass(slots=True, frozen=True, kw_only=True)
class _Figures:
    """What a process has counted, since its start or in one step."""

    hits: float
    timeouts: float
    openings: int
    closings: int
    conversations: float
    conversation_seconds: float

    def since(self, before: "_Figures") -> "_Figures":
        return _Figures(
            hits=self.hits - before.hits,
            timeouts=self.timeouts - before.timeouts,
            openings=self.openings - before.openings,
            closings=self.closings - before.closings,
            conversations=self.conversations - before.conversations,
            conversation_seconds=self.conversation_seconds - before.conversation_seconds,
        )


async def _inject(world: World) -> None:
    for name, step in (await _slowed(world, _HARMLESS_SECONDS, _USED_FOR_SECONDS)).items():
        mean = step.conversation_seconds / max(1.0, step.conversations)
        costs_what_it_should = _HARMLESS_SECONDS * (1 - _SPREAD_RATIO / 2) <= mean <= _HARMLESS_SECONDS * _MOST_RATIO
        if step.openings or step.hits < _LEAST_HITS or not costs_what_it_should:
            message = f"process {name} and a delay of 5 ms: {step}, {mean * 1000:.1f} ms each"
            raise ServerFailedError(message)
    for latency in (_AT_THE_DEADLINE_SECONDS, _BEYOND_SECONDS):
        await until_redis_is_used(world, world.services)
        for name, step in (await _slowed(world, latency, _LEFT_ALONE_FOR_SECONDS)).items():
            if step.timeouts < _LEAST_TIMEOUTS or step.openings != 1 or step.closings:
                message = f"process {name} and a delay of {latency * 1000:g} ms: {step}"
                raise ServerFailedError(message)


async def _slowed(world: World, latency_seconds: float, seconds: float) -> dict[str, _Figures]:
    """Slow all ways down for so long; return what each process counted meanwhile."""
    before = await _figures(world)
    spread = latency_seconds * _SPREAD_RATIO
    way = Impairment(latency_seconds=latency_seconds - spread / 2, jitter_seconds=spread)
    with ways_impaired(world, down=way, least=_LEAST_CHUNKS):
        await asyncio.sleep(seconds)
        after = await _figures(world)  # Before all is well again, and breakers close.
    return {name: after[name].since(before[name]) for name in after}


async def _figures(world: World) -> dict[str, _Figures]:
    return {name: _read(await asyncio.to_thread(service.metrics)) for name, service in world.services.items()}


def _read(metrics: Metrics) -> _Figures:
    lookups, conversation = "zpmeow_cache_lookups_total", "zpmeow_cache_operation_duration_seconds"
    transitions = metrics.transitions()
    return _Figures(
        hits=metrics.total(lookups, tier="redis", outcome="hit"),
        timeouts=metrics.total(lookups, tier="redis", outcome="timeout"),
        openings=transitions.get(("closed", "open"), 0),
        closings=transitions.get(("half_open", "closed"), 0),
        conversations=metrics.total(f"{conversation}_count", tier="redis", operation="get"),
        conversation_seconds=metrics.total(f"{conversation}_sum", tier="redis", operation="get"),
    )


SCENARIO = Scenario(
    hypothesis="5 ms cost 5 ms. Around the deadline of 50 ms, and beyond, breakers open and do not flap.",
    fault=f"answers of Redis {_HARMLESS_SECONDS * 1000:g} ms late for {_USED_FOR_SECONDS:g} s, then"
    f" {_AT_THE_DEADLINE_SECONDS * 1000:g} ms, then {_BEYOND_SECONDS * 1000:g} ms for {_LEFT_ALONE_FOR_SECONDS:g} s"
    " each, each a tenth more or less",
    aborts_when="at 5 ms a breaker opens, or Redis is hardly used, or costs three times that; later one does not open,"
    " or closes",
    inject=_inject,
    expects=(breaker_opens, counted("timeouts")),
    limits=Limits(transitions_a_minute=2),
)
