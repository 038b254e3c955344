"""How many reads a second, and how long they take: zpmeow in its states beside its peers, all with 50 connections.

Two loads: `hot` asks for one session, `spread` for a thousand by turns of chance. The subject has one core, wrk and the
stores share the other one.
"""

from collections.abc import Callable, Iterator, Sequence

from benchmarks.harness.page import Row, Section, at_least, at_most
from benchmarks.harness.rounds import Rounds, Spread
from benchmarks.harness.stage import Stage, Target, open_stage
from benchmarks.harness.subjects import PeerProcess, Subject, Zpmeow
from benchmarks.harness.wrk import Load, LoadFailedError, load

_SESSIONS = 1000
_CONNECTIONS = 50
_ROUNDS = 5
_WARM_UP_SECONDS = 2
_SECONDS = 4

BARE, ASYNCPG, REDIS_PY = "bare aiohttp handler", "asyncpg handler", "redis-py handler"
CASHEWS_REDIS, CASHEWS_MEMORY = "cashews, Redis", "cashews, memory"
AIOCACHE_REDIS, AIOCACHE_MEMORY = "aiocache, Redis", "aiocache, memory"
LOCAL, REDIS_TIER = "zpmeow", "zpmeow, no local tier"
OPEN, DISABLED = "zpmeow, no local tier, breaker open", "zpmeow, CACHE_ENABLED=false"
HOT, SPREAD = "hot", "spread"

Loads = dict[str, Load]
Figure = Callable[[Loads], float]


def measure(tell: Callable[[str], None]) -> Section:
    """Measure all subjects."""
    subjects = {subject.name: subject for subject in _subjects()}
    rounds: Rounds[Loads] = Rounds(list(subjects))
    with open_stage(sessions=_SESSIONS) as stage:
        rounds.run(_ROUNDS, lambda name: _measure_one(subjects[name], stage), tell=tell)
    return Section(title="Reads a second", rows=list(_rows(rounds)), lines=list(_lines(rounds)))


def _subjects() -> Iterator[Subject]:
    yield PeerProcess(BARE, "bare")
    yield PeerProcess(ASYNCPG, "database")
    yield PeerProcess(REDIS_PY, "redis_py")
    yield PeerProcess(CASHEWS_REDIS, "cashews_redis")
    yield PeerProcess(CASHEWS_MEMORY, "cashews_memory")
    yield PeerProcess(AIOCACHE_REDIS, "aiocache_redis")
    yield PeerProcess(AIOCACHE_MEMORY, "aiocache_memory")
    yield Zpmeow(LOCAL)
    yield Zpmeow(REDIS_TIER, CACHE_LOCAL_MAX_BYTES="0")
    yield Zpmeow(OPEN, redis="nowhere_url", CACHE_LOCAL_MAX_BYTES="0")
    yield Zpmeow(DISABLED, CACHE_ENABLED="false")


def _measure_one(subject: Subject, stage: Stage) -> Loads:
    subject.start(stage.stores)
    try:
        found = {}
        for name, targets in ((HOT, stage.targets[:1]), (SPREAD, stage.targets)):
            _load(subject, targets, _WARM_UP_SECONDS)
            found[name] = _load(subject, targets, _SECONDS)
        return found
    finally:
        subject.stop()


def _load(subject: Subject, targets: Sequence[Target], seconds: int) -> Load:
    found = load(subject.url, targets, connections=_CONNECTIONS, seconds=seconds)
    if found.failed:
        message = f"{subject.name}: {found.failed} requests failed"
        raise LoadFailedError(message)
    return found


def _rows(rounds: Rounds[Loads]) -> Iterator[Row]:
    def rate(name: str, other: str, load_name: str) -> Spread:
        return rounds.ratio(name, other, _rate(load_name))

    def p99(name: str, other: str, load_name: str) -> Spread:
        return rounds.ratio(name, other, _p99(load_name))

    yield at_least("hot read, local tier ÷ bare handler", 0.65, rate(LOCAL, BARE, HOT))
    yield at_least("hot read, local tier ÷ asyncpg handler", 3, rate(LOCAL, ASYNCPG, HOT))
    yield at_least("hot read, local tier ÷ cashews on Redis", 3, rate(LOCAL, CASHEWS_REDIS, HOT))
    yield at_most("p99 of the same ÷ p99 of the asyncpg handler", 0.2, p99(LOCAL, ASYNCPG, HOT))
    yield at_least("Redis tier hit ÷ redis-py handler", 0.85, rate(REDIS_TIER, REDIS_PY, SPREAD))
    yield at_least("breaker open, no local tier ÷ asyncpg handler", 0.9, rate(OPEN, ASYNCPG, SPREAD))
    yield at_most("its p99 ÷ p99 of the asyncpg handler", 0.3, p99(OPEN, ASYNCPG, SPREAD))
    yield at_least("breaker open, no local tier ÷ CACHE_ENABLED=false", 0.97, rate(OPEN, DISABLED, SPREAD))


def _lines(rounds: Rounds[Loads]) -> Iterator[str]:
    yield f"{_CONNECTIONS} connections, {_ROUNDS} rounds of {_SECONDS} s, medians (least to largest)."
    yield ""
    yield "| subject | hot, 1/s | p50, ms | p99, ms | spread, 1/s | p50, ms | p99, ms |"
    yield f"|{' --- |' * 7}"
    for name in rounds.names:
        cells = []
        for load_name in (HOT, SPREAD):
            rate = rounds.spread(name, _rate(load_name))
            cells.append(f"{rate.median:,.0f} ({rate.least:,.0f} to {rate.largest:,.0f})")
            cells += [f"{rounds.spread(name, take(load_name)).median * 1000:.1f}" for take in (_p50, _p99)]
        yield f"| {name} | {' | '.join(cells)} |"


def _rate(name: str) -> Figure:
    return lambda found: found[name].requests_per_second


def _p50(name: str) -> Figure:
    return lambda found: found[name].p50_seconds


def _p99(name: str) -> Figure:
    return lambda found: found[name].p99_seconds
