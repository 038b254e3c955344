"""What callers see while Redis fails, and after it: zpmeow beside the caches as their pages show them, same load, same
faults.

A fault happens to Redis itself, or on the way to it: then, and only then, there is a proxy between.
"""

import asyncio
import math
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from urllib.parse import urlsplit

from benchmarks.harness.cores import OTHER_CORES, on_cores
from benchmarks.harness.open_loop import CHANGES_PER_SECOND, READS_PER_SECOND, OpenLoop, Seen
from benchmarks.harness.page import Section
from benchmarks.harness.stage import Stage, open_stage
from benchmarks.harness.subjects import PeerProcess, Stores, Subject, Zpmeow
from tests.servers.fault_proxy import NONE, FaultProxy, Impairment

_SESSIONS = 200
_BEFORE_SECONDS = 3.0
_AWAY_SECONDS = 6.0
_AFTER_SECONDS = 4.0
_BOUND_SECONDS = 5.0  # CACHE_LOCAL_TTL: what is old for longer than that is old for good.


@dataclass(slots=True, frozen=True, kw_only=True)
class Fault:
    """What happens to Redis: at the beginning, and at the end of the time that it is away.

    `replies`: what becomes of its answers on their way meanwhile; `NONE`: nothing is between it and who asks.
    """

    name: str
    begin: Callable[[Stage], None] = lambda _stage: None
    end: Callable[[Stage], None] = lambda _stage: None
    replies: Impairment = NONE


@dataclass(slots=True, frozen=True, kw_only=True)
class Outcome:
    """What was seen of one subject with one fault. `audited`: every session read once, some time after it."""

    fault: str
    subject: str
    seen: Seen
    audited: Seen


def measure(tell: Callable[[str], None]) -> Section:
    """Measure all subjects with all faults."""
    outcomes = []
    with open_stage(sessions=_SESSIONS) as stage:
        for fault in _FAULTS:
            for subject in _subjects():
                tell(f"{fault.name}: {subject.name}")
                outcomes.append(_measure_one(subject, fault, stage))
    return Section(title="The same faults", lines=list(_lines(outcomes)))


def _subjects() -> Iterator[Subject]:
    yield Zpmeow("zpmeow")
    yield PeerProcess("redis-py", "redis_py")
    yield PeerProcess("cashews", "cashews_redis")
    yield PeerProcess("aiocache", "aiocache_redis")


def _measure_one(subject: Subject, fault: Fault, stage: Stage) -> Outcome:
    stage.redis.flush()
    try:
        with on_cores(OTHER_CORES):
            seen, audited = asyncio.run(_run(subject, fault, stage))
        return Outcome(fault=fault.name, subject=subject.name, seen=seen, audited=audited)
    finally:
        stage.redis.start()


async def _run(subject: Subject, fault: Fault, stage: Stage) -> tuple[Seen, Seen]:
    with closing(FaultProxy(target_port=stage.redis.port)) as proxy:
        await proxy.open()
        try:
            await asyncio.to_thread(subject.start, _stores(fault, stage, proxy))
            return await _call(subject, fault, stage, proxy)
        finally:
            await asyncio.to_thread(subject.stop)


def _stores(fault: Fault, stage: Stage, proxy: FaultProxy) -> Stores:
    if fault.replies == NONE:
        return stage.stores
    return replace(stage.stores, redis_url=f"redis://127.0.0.1:{proxy.port}/0")


async def _call(subject: Subject, fault: Fault, stage: Stage, proxy: FaultProxy) -> tuple[Seen, Seen]:
    port = urlsplit(subject.url).port
    assert port is not None
    with closing(OpenLoop(port=port, targets=stage.targets, seed=7)) as calls:
        await calls.change_all()
        await calls.read_all()
        await calls.run(_BEFORE_SECONDS)
        running = asyncio.create_task(calls.run(_AWAY_SECONDS + _AFTER_SECONDS))
        began = time.monotonic()
        proxy.impair(down=fault.replies)
        await asyncio.to_thread(fault.begin, stage)
        await asyncio.sleep(began + _AWAY_SECONDS - time.monotonic())
        proxy.impair()
        await asyncio.to_thread(fault.end, stage)
        seen = await running
        await asyncio.sleep(_BOUND_SECONDS)
        return seen, await calls.read_all()


def _kill(stage: Stage) -> None:
    stage.redis.kill()


def _kill_with_data(stage: Stage) -> None:
    stage.redis.command("SAVE")
    stage.redis.kill()


def _start(stage: Stage) -> None:
    stage.redis.start()
    (stage.redis.folder / "dump.rdb").unlink(missing_ok=True)


def _put_garbage(stage: Stage) -> None:
    script = "for _, key in ipairs(redis.call('KEYS', '*')) do redis.call('SET', key, 'garbage') end return 1"
    stage.redis.command("EVAL", script, "0")


_FAULTS = (
    Fault(name="killed, empty when it is back", begin=_kill, end=_start),
    Fault(name="killed, with its old data when it is back", begin=_kill_with_data, end=_start),
    Fault(name="hangs", begin=lambda stage: stage.redis.pause(), end=lambda stage: stage.redis.resume()),
    Fault(name="is emptied", begin=lambda stage: stage.redis.flush()),
    Fault(name="has garbage under live keys", begin=_put_garbage),
    Fault(name="answers 200 ms late", replies=Impairment(latency_seconds=0.2)),
    Fault(name="a bit is flipped in 5 % of its answers", replies=Impairment(corrupted_ratio=0.05)),
    Fault(name="20 % of its answers end half-way in a reset", replies=Impairment(torn_ratio=0.2)),
)

_LEFT_OUT = (
    "Left out, since each fault takes more than a minute here: blackholes (`hangs` is the same to a caller), answers in"
    " slices, half-closed connections, corrupted commands, latencies of 5 and 50 ms, maxmemory, LOADING, READONLY,"
    " MASTERDOWN, NOAUTH, SCRIPT FLUSH, maxclients, Redis that comes and goes, is away at the start or fails over; and"
    " the faults of PostgreSQL, of the service and of callers, which no cache library is about. `make chaos` has all of"
    " them for zpmeow; how the others fare there is not known."
)


def _lines(outcomes: list[Outcome]) -> Iterator[str]:
    yield (
        f"{READS_PER_SECOND:g} reads and {CHANGES_PER_SECOND:g} changes a second of {_SESSIONS} sessions, whatever"
        f" becomes of those before. Redis fails for {_AWAY_SECONDS:g} s; {_AFTER_SECONDS:g} s more count, too."
        " The last three faults are made by a proxy on the way to Redis, which is not there in the others."
        " Each line was measured once. Times run from when a read was due. p50 and p99 are those of the reads that were"
        " answered; the worst wait is that of all, failed ones included. An answer is judged by the session's id and"
        " its webhook's address: a flipped bit elsewhere counts as right."
        f" The last column: every session read once, {_BOUND_SECONDS:g} s later. The others have no authentication, no"
        " ETags and no metrics; each is set up as its own pages show."
    )
    yield ""
    yield "| Redis | | reads failed | p50, ms | p99, ms | worst, ms | old | wrong | changes failed | old for good |"
    yield f"|{' --- |' * 10}"
    for outcome in outcomes:
        yield _line(outcome)
    yield ""
    yield _LEFT_OUT
    if not all(one.seen.is_load for one in outcomes):
        yield ""
        yield "† The client itself fell behind: it sent this share of its requests late. Its times are no measure."


def _line(outcome: Outcome) -> str:
    seen, audited = outcome.seen, outcome.audited
    times = (seen.quantile(0.5), seen.quantile(0.99), seen.longest_seconds)
    cells = [
        outcome.fault,
        outcome.subject if seen.is_load else f"{outcome.subject} † {seen.late_ratio:.0%}",
        _share(seen.faults["failed"], seen.reads),
        *("none" if math.isnan(seconds) else f"{seconds * 1000:,.1f}" for seconds in times),
        str(seen.faults["old"]),
        str(seen.faults["wrong"]),
        _share(seen.changes_failed, seen.changes),
        _for_good(audited),
    ]
    return f"| {' | '.join(cells)} |"


def _share(many: int, of_all: int) -> str:
    return f"{many / of_all:.1%}" if many else "0"


def _for_good(audited: Seen) -> str:
    """Return how many sessions are old or wrong; one that cannot be read is no good one, either."""
    found = f"{audited.faults['old'] + audited.faults['wrong']}"
    return f"{found}, {audited.faults['failed']} failed" if audited.faults["failed"] else found
