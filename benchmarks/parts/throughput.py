"""How many reads a second, and how long they take: zpmeow in its states beside its peers, all with 50 connections.

Two loads: `hot` asks for one session, `spread` for a thousand by turns of chance. The subject has one core, wrk and the
stores share the other one. Every subject begins with an empty Redis. Between warm-up and load, and after it, it must
answer with zpmeow's own body, and zpmeow from where its state says.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence

from benchmarks.harness.checks import bodies, require_same_bodies, require_source
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
_CHECKED_EACH = 100  # Every hundredth session of a load, the first included.

BARE, ASYNCPG, REDIS_PY = "bare aiohttp handler", "asyncpg handler", "redis-py handler"
CASHEWS_REDIS, CASHEWS_MEMORY = "cashews, Redis", "cashews, memory"
AIOCACHE_REDIS, AIOCACHE_MEMORY = "aiocache, Redis", "aiocache, memory"
LOCAL, LOGGING, REDIS_TIER = "zpmeow", "zpmeow, LOG_REQUESTS=true", "zpmeow, no local tier"
OPEN, DISABLED = "zpmeow, no local tier, breaker open", "zpmeow, CACHE_ENABLED=false"
HOT, SPREAD = "hot", "spread"

_SOURCES = {
    LOCAL: "zpmeow-local; hit",
    LOGGING: "zpmeow-local; hit",
    REDIS_TIER: "zpmeow-redis; hit",
    OPEN: "zpmeow; fwd=bypass",
    DISABLED: "zpmeow; fwd=bypass",
}

Loads = dict[str, Load]
Figure = Callable[[Loads], float]


def measure(tell: Callable[[str], None]) -> Section:
    """Measure all subjects."""
    subjects = {subject.name: subject for subject in _subjects()}
    rounds: Rounds[Loads] = Rounds(list(subjects))
    with open_stage(sessions=_SESSIONS) as stage:
        expected = _expected(stage)
        rounds.run(_ROUNDS, lambda name: _measure_one(subjects[name], stage, expected), tell=tell)
    return Section(title="Reads a second", rows=list(_rows(rounds)), lines=list(_lines(rounds)))


def _subjects() -> Iterator[Subject]:
    # Who are compared are neighbours, or have one between them.
    yield PeerProcess(AIOCACHE_MEMORY, "aiocache_memory")
    yield PeerProcess(AIOCACHE_REDIS, "aiocache_redis")
    yield PeerProcess(CASHEWS_MEMORY, "cashews_memory")
    yield PeerProcess(CASHEWS_REDIS, "cashews_redis")
    yield Zpmeow(LOCAL)
    yield PeerProcess(BARE, "bare")
    yield PeerProcess(ASYNCPG, "database")
    yield Zpmeow(OPEN, redis="nowhere_url", CACHE_LOCAL_MAX_BYTES="0")
    yield Zpmeow(DISABLED, CACHE_ENABLED="false")
    yield Zpmeow(REDIS_TIER, CACHE_LOCAL_MAX_BYTES="0")
    yield PeerProcess(REDIS_PY, "redis_py")
    yield Zpmeow(LOGGING, LOG_REQUESTS="true")


def _expected(stage: Stage) -> dict[str, bytes]:
    subject = Zpmeow("zpmeow, for its bodies", CACHE_ENABLED="false")
    subject.start(stage.stores)
    try:
        return bodies(subject, stage.targets[::_CHECKED_EACH])
    finally:
        subject.stop()


def _measure_one(subject: Subject, stage: Stage, expected: Mapping[str, bytes]) -> Loads:
    stage.redis.flush()
    subject.start(stage.stores)
    try:
        found = {}
        for name, targets in ((HOT, stage.targets[:1]), (SPREAD, stage.targets)):
            load(subject, targets, connections=_CONNECTIONS, seconds=_WARM_UP_SECONDS)
            _check(subject, targets[::_CHECKED_EACH], expected)
            found[name] = load(subject, targets, connections=_CONNECTIONS, seconds=_SECONDS)
            _check(subject, targets[::_CHECKED_EACH], expected)
        return found
    finally:
        subject.stop()


def _check(subject: Subject, targets: Sequence[Target], expected: Mapping[str, bytes]) -> None:
    require_same_bodies(subject, targets, expected)
    if subject.name in _SOURCES:
        require_source(subject, targets[0], _SOURCES[subject.name])
    if isinstance(subject, Zpmeow) and subject.name == OPEN:
        _require_open_breaker(subject)


def _require_open_breaker(subject: Zpmeow) -> None:
    # Between two probes it is open, during one half open: then, too, nobody's read asks Redis.
    if subject.service.metrics().total("zpmeow_breaker_state", state="closed"):
        message = f"{subject.name}: the breaker is closed"
        raise LoadFailedError(message)


def _rows(rounds: Rounds[Loads]) -> Iterator[Row]:
    def rate(name: str, other: str, load_name: str) -> Spread:
        return rounds.ratio(name, other, _rate(load_name))

    def p99(name: str, other: str, load_name: str) -> Spread:
        return rounds.ratio(name, other, _p99(load_name))

    yield at_least("hot read, local tier ÷ bare handler", 0.65, rate(LOCAL, BARE, HOT))
    yield at_least("hot read, local tier ÷ asyncpg handler", 3, rate(LOCAL, ASYNCPG, HOT))
    yield at_least("hot read, local tier ÷ cashews on Redis", 3, rate(LOCAL, CASHEWS_REDIS, HOT))
    yield at_most("hot read, local tier: p99 ÷ p99 of the asyncpg handler", 0.2, p99(LOCAL, ASYNCPG, HOT))
    yield at_least("spread reads, Redis tier hit ÷ redis-py handler", 0.85, rate(REDIS_TIER, REDIS_PY, SPREAD))
    opened = "spread reads, breaker open, no local tier"
    yield at_least(f"{opened} ÷ asyncpg handler", 0.9, rate(OPEN, ASYNCPG, SPREAD))
    yield at_most(f"{opened}: p99 ÷ p99 of the asyncpg handler", 0.3, p99(OPEN, ASYNCPG, SPREAD))
    yield at_least(f"{opened} ÷ CACHE_ENABLED=false", 0.97, rate(OPEN, DISABLED, SPREAD))


def _lines(rounds: Rounds[Loads]) -> Iterator[str]:
    yield (
        f"{_CONNECTIONS} connections, {_ROUNDS} rounds of {_SECONDS} s, medians (least to largest). hot: one session;"
        f" spread: {_SESSIONS:,} by turns of chance. CPU: microseconds of the subject's process for one read, the"
        " stores' and wrk's not included. zpmeow with its defaults (session key, request id, metrics, ETag), but"
        " LOG_REQUESTS=false where nothing else is said; the others have none of these."
    )
    yield ""
    yield f"| subject |{''.join(f' {name}, 1/s | p50, ms | p99, ms | CPU, µs |' for name in (HOT, SPREAD))}"
    yield f"|{' --- |' * 9}"
    for name in rounds.names:
        cells = []
        for load_name in (HOT, SPREAD):
            cells.append(rounds.spread(name, _rate(load_name)).text(digits=0))
            cells += [f"{rounds.spread(name, take(load_name)).median * 1000:.1f}" for take in (_p50, _p99)]
            cells.append(f"{rounds.spread(name, _cpu(load_name)).median * 1e6:.0f}")
        yield f"| {name} | {' | '.join(cells)} |"


def _rate(name: str) -> Figure:
    return lambda found: found[name].requests_per_second


def _p50(name: str) -> Figure:
    return lambda found: found[name].p50_seconds


def _p99(name: str) -> Figure:
    return lambda found: found[name].p99_seconds


def _cpu(name: str) -> Figure:
    return lambda found: found[name].cpu_seconds
