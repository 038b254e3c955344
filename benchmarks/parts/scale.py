"""From a thousand to a million sessions: what a read, a page of the list and a cached session cost.

Each size has stores of its own, so that the sizes take turns. A ratio is that of the sizes' first rounds, of their
second ones, and so on.
"""

import asyncio
import random
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from urllib.parse import urlsplit

from benchmarks.harness.cores import OTHER_CORES, on_cores, resident_bytes
from benchmarks.harness.page import Row, Section, at_most
from benchmarks.harness.rounds import Rounds, spread
from benchmarks.harness.stage import Stage, Target, open_stage
from benchmarks.harness.subjects import OPERATOR_KEY, Zpmeow
from benchmarks.harness.wrk import LoadFailedError
from tests.coherence.http_client import HttpClient, Request

_SIZES = (1_000, 10_000, 100_000, 1_000_000)
_ROUNDS = 5
_MOST_RATIO = 1.5
_HOT_READS = 3_000
_COLD_READS = 300
_PAGES = 200
_PAGE_SESSIONS = 50
_CACHED = 10_000  # At most: a process keeps no more than CACHE_LOCAL_MAX_BYTES in any case.
_CALLERS = 20


@dataclass(slots=True, frozen=True, kw_only=True)
class Found:
    """Medians, in milliseconds; bytes that a cached session takes."""

    hot_read: float
    cold_read: float
    page: float
    process_bytes: float
    redis_bytes: float


_TITLES = {
    "hot_read": "hot read, p50, ms",
    "cold_read": "cold read, p50, ms",
    "page": f"page of {_PAGE_SESSIONS}, p50, ms",
    "process_bytes": "process' memory a cached session, bytes",
    "redis_bytes": "Redis' memory a cached session, bytes",
}


def measure(tell: Callable[[str], None]) -> Section:
    """Measure with more and more sessions in the database."""
    with ExitStack() as stack:
        stages = {}
        for size in _SIZES:
            tell(f"{size:,} sessions are made")
            stages[f"{size:,} sessions"] = stack.enter_context(open_stage(sessions=size))
        rounds: Rounds[Found] = Rounds(list(stages))
        rounds.run(_ROUNDS, lambda name: _measure_one(stages[name], seed=len(rounds.measured[name])), tell=tell)
    return Section(title="More and more sessions", rows=list(_rows(rounds)), lines=list(_lines(rounds)))


def _measure_one(stage: Stage, *, seed: int) -> Found:
    stage.redis.flush()
    subject = Zpmeow("zpmeow", CACHE_LOCAL_MAX_BYTES="1GiB", CACHE_LOCAL_TTL="1h")
    subject.start(stage.stores)
    try:
        with on_cores(OTHER_CORES):
            return asyncio.run(_call(subject, stage, random.Random(seed)))
    finally:
        subject.stop()


async def _call(subject: Zpmeow, stage: Stage, chance: random.Random) -> Found:
    port = urlsplit(subject.url).port
    assert port is not None
    clients = [HttpClient(port) for _ in range(_CALLERS)]
    try:
        chosen = chance.sample(stage.targets, min(len(stage.targets), _COLD_READS + _CACHED))
        cold = await _read_all(clients[:1], chosen[:_COLD_READS])
        hot = await _read_all(clients[:1], [chosen[0]] * _HOT_READS)
        await asyncio.gather(*(_read_all([client], chosen[:_CALLERS]) for client in clients))  # Memory of their own.
        pages = [await _page(clients[0], chance.choice(stage.targets)) for _ in range(_PAGES)]
        before, redis_before = resident_bytes(subject.pid), _redis_bytes(stage)
        await _read_all(clients, chosen[_COLD_READS:])
        await asyncio.sleep(1)  # The last ones are sent to Redis in the background.
        many = len(chosen) - _COLD_READS
        return Found(
            hot_read=statistics.median(hot) * 1000,
            cold_read=statistics.median(cold) * 1000,
            page=statistics.median(pages) * 1000,
            process_bytes=(resident_bytes(subject.pid) - before) / many,
            redis_bytes=(_redis_bytes(stage) - redis_before) / many,
        )
    finally:
        for client in clients:
            client.close()


async def _read_all(clients: Sequence[HttpClient], targets: Sequence[Target]) -> list[float]:
    waiting = iter(targets)

    async def read(client: HttpClient) -> list[float]:
        return [await _ask(client, Request(method="GET", path=one.path, key=one.key)) for one in waiting]

    return [seconds for each in await asyncio.gather(*map(read, clients)) for seconds in each]


async def _page(client: HttpClient, after: Target) -> float:
    path = f"/sessions/list?limit={_PAGE_SESSIONS}&cursor={after.session_id}"
    return await _ask(client, Request(method="GET", path=path, key=OPERATOR_KEY))


async def _ask(client: HttpClient, request: Request) -> float:
    began = time.perf_counter()
    answer = await client.ask(request)
    if answer.status != 200:
        message = f"{request} was answered {answer.status}"
        raise LoadFailedError(message)
    return time.perf_counter() - began


def _redis_bytes(stage: Stage) -> int:
    script = "return tonumber(string.match(redis.call('INFO', 'memory'), 'used_memory:(%d+)'))"
    return int(stage.redis.command("EVAL", script, "0").removeprefix(b":"))


def _rows(rounds: Rounds[Found]) -> Iterator[Row]:
    for name, title in _TITLES.items():
        by_round = [[getattr(one, name) for one in sizes] for sizes in zip(*rounds.measured.values(), strict=True)]
        ratios = spread([max(values) / min(values) for values in by_round])
        yield at_most(f"{_SIZES[0]:,} to {_SIZES[-1]:,} sessions: {title}, largest ÷ least", _MOST_RATIO, ratios)


def _lines(rounds: Rounds[Found]) -> Iterator[str]:
    yield (
        f"One caller at a time; {_HOT_READS:,} hot reads, {_COLD_READS} cold ones (neither in the process nor in"
        f" Redis), {_PAGES} pages from anywhere in the list. Memory: what {_CACHED:,} sessions more"
        f" ({_SIZES[0] - _COLD_READS} of {_SIZES[0]:,}) add, read once each. {_ROUNDS} rounds, the sizes by turns, each"
        " with stores of its own and a new process and an empty Redis each time; medians (least to largest)."
    )
    yield ""
    yield f"| sessions | {' | '.join(_TITLES.values())} |"
    yield f"|{' --- |' * (len(_TITLES) + 1)}"
    for size, measured in rounds.measured.items():
        figures = [spread([getattr(one, name) for one in measured]) for name in _TITLES]
        cells = [figure.text(digits=0 if figure.median > 100 else 2) for figure in figures]
        yield f"| {size.removesuffix(' sessions')} | {' | '.join(cells)} |"
