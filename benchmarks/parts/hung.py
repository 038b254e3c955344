"""Redis hangs: the first wave that finds out, and what a read costs once the breaker is open.

The comparison is the service without a cache (`CACHE_ENABLED=false`), on the same database, with the same wave.
"""

import asyncio
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from benchmarks.harness.cores import OTHER_CORES, on_cores
from benchmarks.harness.page import Row, Section, at_most
from benchmarks.harness.rounds import Rounds, spread
from benchmarks.harness.stage import Stage, Target, open_stage
from benchmarks.harness.subjects import Zpmeow
from benchmarks.harness.wrk import LoadFailedError
from tests.coherence.http_client import HttpClient, Request

_SESSIONS = 1000
_ROUNDS = 5
_WAVE = 50
_MOST_WAVES = 6  # BREAKER_FAILURE_THRESHOLD, and one.
_AFTER = 10_000
_CACHE_TIMEOUT_SECONDS = 0.05
_MOST_LATER_SECONDS = 0.02
_MOST_P99_SECONDS = 0.0001

HUNG, DISABLED = "Redis hangs", "CACHE_ENABLED=false"


@dataclass(slots=True, frozen=True, kw_only=True)
class Found:
    """Seconds: the worst answer of each wave, and the quantiles of reads one by one after them."""

    worst: list[float]
    p50: float
    p99: float


def measure(tell: Callable[[str], None]) -> Section:
    """Measure both, in turn."""
    rounds: Rounds[Found] = Rounds([HUNG, DISABLED])
    with open_stage(sessions=_SESSIONS) as stage:
        rounds.run(_ROUNDS, lambda name: _measure_one(name, stage), tell=tell)
    return Section(title="Redis hangs", rows=list(_rows(rounds)), lines=list(_lines(rounds)))


def _measure_one(name: str, stage: Stage) -> Found:
    cached = {} if name == HUNG else {"CACHE_ENABLED": "false"}
    subject = Zpmeow(name, CACHE_LOCAL_MAX_BYTES="0", **cached)
    subject.start(stage.stores)
    try:
        with on_cores(OTHER_CORES):
            return asyncio.run(_call(subject, stage, hangs=name == HUNG))
    finally:
        stage.redis.resume()
        subject.stop()


async def _call(subject: Zpmeow, stage: Stage, *, hangs: bool) -> Found:
    port = urlsplit(subject.url).port
    assert port is not None
    clients = [HttpClient(port) for _ in range(_WAVE)]
    try:
        # Every connection and every statement has been used before, and all sessions are in Redis.
        for first in range(0, _SESSIONS, _WAVE):
            await _wave(clients, stage.targets[first : first + _WAVE])
        await asyncio.sleep(1)
        before = _openings(subject)
        if hangs:
            stage.redis.pause()
        worst: list[float] = []
        # One that comes in few turns makes few failures: so many waves as it takes to open the breaker.
        while len(worst) < _MOST_WAVES and _openings(subject) == before:
            worst.append(max(await _wave(clients, stage.targets[:_WAVE])))
        if hangs and _openings(subject) == before:
            message = f"the breaker is not open after {_MOST_WAVES} waves"
            raise LoadFailedError(message)
        after = [await _read(clients[0], target) for target in _turns(stage.targets, _AFTER)]
        return Found(worst=worst, p50=statistics.median(after), p99=statistics.quantiles(after, n=100)[98])
    finally:
        for client in clients:
            client.close()


async def _wave(clients: Sequence[HttpClient], targets: Sequence[Target]) -> list[float]:
    return await asyncio.gather(*(_read(client, target) for client, target in zip(clients, targets, strict=True)))


async def _read(client: HttpClient, target: Target) -> float:
    began = time.perf_counter()
    answer = await client.ask(Request(method="GET", path=target.path, key=target.key))
    if answer.status != 200:
        message = f"{target.path} was answered {answer.status}"
        raise LoadFailedError(message)
    return time.perf_counter() - began


def _turns(targets: Sequence[Target], many: int) -> Iterator[Target]:
    for number in range(many):
        yield targets[number % len(targets)]


def _openings(subject: Zpmeow) -> int:
    """Return how often the breaker has opened since the start."""
    steps = subject.service.metrics().transitions()
    return sum(many for (_, to), many in steps.items() if to == "open")


def _rows(rounds: Rounds[Found]) -> Iterator[Row]:
    pairs = list(zip(rounds.measured[HUNG], rounds.measured[DISABLED], strict=True))
    # The worst of several waves is compared with the worst of as many.
    later = [
        max(hung.worst) - _CACHE_TIMEOUT_SECONDS - max(disabled.worst[: len(hung.worst)]) for hung, disabled in pairs
    ]
    dearer = [hung.p99 - disabled.p99 for hung, disabled in pairs]
    yield at_most(
        "Redis hangs, until the breaker opens: worst answer, less CACHE_TIMEOUT and the worst without a cache, ms",
        _MOST_LATER_SECONDS * 1000,
        spread([seconds * 1000 for seconds in later]),
    )
    yield at_most(
        "after the trip: p99, less that without a cache, ms",
        _MOST_P99_SECONDS * 1000,
        spread([seconds * 1000 for seconds in dearer]),
    )


def _lines(rounds: Rounds[Found]) -> Iterator[str]:
    yield (
        f"{_WAVE} reads at once on connections that are open, again until the breaker is open ({_MOST_WAVES} waves"
        f" without a cache, of which as many are compared); after that {_AFTER:,} reads one by one. No local tier."
        f" {_ROUNDS} rounds. Waves until the breaker was open:"
        f" {', '.join(str(len(one.worst)) for one in rounds.measured[HUNG])}."
    )
    yield ""
    yield "| | worst of the waves, ms | p50 after them, ms | p99 after them, ms |"
    yield "| --- | --- | --- | --- |"
    for name in rounds.names:
        figures = [
            rounds.spread(name, take) for take in (lambda one: max(one.worst), lambda one: one.p50, lambda one: one.p99)
        ]
        cells = [one.text(digits=2, unit=0.001) for one in figures]
        yield f"| {name} | {' | '.join(cells)} |"
