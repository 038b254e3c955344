"""A picture of an outage of Redis, from what Prometheus saw: `python -m deploy.chaos.picture FILE`.

A chaos run as all others, with its load and its verdict, and a Prometheus that looks on.
"""

import asyncio
import math
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import matplotlib as mpl
from matplotlib import pyplot as plt

from deploy.chaos.harness.expectations import breaker_opens
from deploy.chaos.harness.experiment import run
from deploy.chaos.harness.outcome import Outcome
from deploy.chaos.harness.scenario import Scenario
from deploy.chaos.harness.steps import redis_away
from deploy.chaos.harness.verdict import old_answers, problems
from deploy.grafana.generator.overview import REQUESTS, USERS
from tests.coherence.interruptible import run_interruptible
from tests.coherence.world import World
from tests.servers.postgres_server import PostgresInstallation
from tests.servers.processes import ServerFailedError
from tests.servers.prometheus_server import PrometheusServer, find_prometheus

_AWAY_SECONDS: Final = 20.0
_BEFORE_SECONDS: Final = 6.0  # Steady states on both sides of the fault, as a chaos run has them.
_AFTER_SECONDS: Final = 9.0
_STEP_SECONDS: Final = 0.5
_HITS: Final = 'zpmeow_cache_lookups_total{outcome="hit",entity!~"name|key"'

_ANSWERERS: Final = {
    "in the process": (f'sum(rate({_HITS},tier="local"}}[2s]))', "#4c9f70"),
    "Redis": (f'sum(rate({_HITS},tier="redis"}}[2s]))', "#8cc6e7"),
    "PostgreSQL": ('sum(rate(zpmeow_loads_total{entity!~"name|key"}[2s]))', "#1f4e79"),
}
_LATENCIES: Final = {
    f"p{share * 100:g}": f"1000 * histogram_quantile({share}, sum by (le) (rate({REQUESTS}_bucket{{{USERS}}}[2s])))"
    for share in (0.5, 0.99)
}
_OPEN: Final = 'max(zpmeow_breaker_state{state!="closed"})'
_FAILED: Final = f'sum(rate({REQUESTS}_count{{{USERS},status=~"5.."}}[2s]))'

Curve = tuple[list[float], list[float]]


@dataclass(slots=True)
class _Onlooker:
    """A Prometheus beside the run, and when the fault was (Unix seconds)."""

    program: str
    began_at: float = math.nan
    ended_at: float = math.nan
    curves: dict[str, Curve] = field(default_factory=dict)

    @asynccontextmanager
    async def look_on(self, world: World) -> AsyncIterator[None]:
        """Scrape for as long as the block runs, then read what was seen around the fault."""
        targets = [f"127.0.0.1:{service.port}" for service in world.services.values()]
        server = PrometheusServer(program=self.program, targets=targets, interval="500ms")
        try:
            await asyncio.to_thread(server.start)
            # Its connections stay open: they belong to the beginning, which the end is compared with.
            while await asyncio.to_thread(server.query, "sum(up)") != [({}, len(targets))]:  # noqa: ASYNC110
                await asyncio.sleep(_STEP_SECONDS)
            yield
            asked = [*(expression for expression, _color in _ANSWERERS.values()), *_LATENCIES.values(), _OPEN, _FAILED]
            for expression in asked:
                self.curves[expression] = await asyncio.to_thread(self._read, server, expression)
        finally:
            await asyncio.to_thread(server.close)

    async def inject(self, world: World) -> None:
        """Have Redis away, and note when."""
        self.began_at = time.time()
        async with redis_away(world):
            await asyncio.sleep(_AWAY_SECONDS)
        self.ended_at = time.time()

    def _read(self, server: PrometheusServer, expression: str) -> Curve:
        found = server.query_range(
            expression,
            start=self.began_at - _BEFORE_SECONDS,
            end=self.ended_at + _AFTER_SECONDS,
            step=_STEP_SECONDS,
        )
        if not found:
            message = f"Prometheus saw nothing of {expression}"
            raise ServerFailedError(message)
        points = found[0][1]
        return [moment - self.began_at for moment, _ in points], [value for _, value in points]


def _draw(seen: _Onlooker, outcome: Outcome, file: Path) -> None:
    mpl.use("agg")
    figure, (rates, times, states) = plt.subplots(
        3, 1, sharex=True, figsize=(9, 6.2), height_ratios=(3, 3, 1), layout="constrained"
    )
    figure.suptitle(_told(outcome), fontsize=11)
    moments = seen.curves[_ANSWERERS["Redis"][0]][0]
    rates.stackplot(
        moments,
        [_at(moments, seen.curves[expression]) for expression, _color in _ANSWERERS.values()],
        labels=list(_ANSWERERS),
        colors=[color for _expression, color in _ANSWERERS.values()],
    )
    rates.set_ylabel("entries read a second")
    rates.legend(title="answered by", loc="upper left", ncols=3, fontsize=8, title_fontsize=8)
    rates.set_ylim(0, 1.35 * max(map(sum, zip(*(seen.curves[one][1] for one, _ in _ANSWERERS.values()), strict=False))))
    for name, expression in _LATENCIES.items():
        times.plot(*seen.curves[expression], label=name, color="#1f4e79" if name == "p50" else "#c0504d")
    times.set_yscale("log")
    times.set_ylim(0.1, 100)
    times.set_yticks([0.1, 1, 10, 100], ["0.1", "1", "10", "100"])
    times.set_ylabel("latency, ms")
    times.legend(loc="upper left", ncols=2, fontsize=8)
    states.fill_between(*seen.curves[_OPEN], step="post", color="#c0504d", alpha=0.6, label="breaker not closed")
    states.plot(*seen.curves[_FAILED], color="black", label="failed requests a second")
    states.set_ylim(0, 1.9)
    states.set_yticks([0, 1])
    states.set_xlabel("seconds since Redis was killed")
    states.legend(loc="upper left", ncols=2, fontsize=8)
    for axes in (rates, times, states):
        axes.axvspan(0, seen.ended_at - seen.began_at, color="#fbeecb", lw=0, zorder=0)
        axes.margins(x=0)
        axes.grid(alpha=0.3)
    # Without the version of the library and the like, which would change the file each time.
    figure.savefig(file, dpi=110, metadata={"Software": None})


def _at(moments: Sequence[float], curve: Curve) -> list[float]:
    """Return a curve's values at these moments, 0 where it has none yet."""
    known = dict(zip(*curve, strict=True))
    return [known.get(moment, 0.0) for moment in moments]


def _told(outcome: Outcome) -> str:
    """Say what the run was, for the head of the picture."""
    phases = [phase.requests for phase in (outcome.before, outcome.during, outcome.recovery, outcome.after)]
    sent = sum(phase.sent for phase in phases)
    failed = sum(phase.unexplained + phase.reads_explained + phase.writes_explained for phase in phases)
    return f"Redis is killed, and back after {_AWAY_SECONDS:g} s: {sent:,} requests, {failed} failed, no old answer"


def main(arguments: Sequence[str]) -> str | None:
    """Run and draw; return why not, if the run did not keep its limits or something is missing."""
    (file,) = map(Path, arguments)
    program = find_prometheus()
    if program is None:
        return "Prometheus is missing (Debian: apt-get install prometheus)"
    seen = _Onlooker(program)
    scenario = Scenario(
        hypothesis="Nobody notices: the breakers open, PostgreSQL answers, then Redis again, with what it had.",
        fault=f"kill -9 of Redis, back with its data after {_AWAY_SECONDS:g} s",
        aborts_when="Redis does not start again",
        inject=seen.inject,
        expects=(breaker_opens,),
    )
    installation = PostgresInstallation()
    try:
        outcome = run_interruptible(run("picture", scenario, installation=installation, seed=1, onlooker=seen.look_on))
    finally:
        installation.close()
    found = problems(outcome)
    if found or old_answers(outcome):
        return f"not drawn: {old_answers(outcome)} old answers, {found}"
    _draw(seen, outcome, file)
    return None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
