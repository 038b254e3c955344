"""What callers see while Redis fails, and after it: zpmeow beside the caches as their pages show them, same load, same
faults.
"""

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from urllib.parse import urlsplit

from benchmarks.harness.cores import OTHER_CORES, on_cores
from benchmarks.harness.open_loop import CHANGES_PER_SECOND, READS_PER_SECOND, OpenLoop, Seen
from benchmarks.harness.page import Section
from benchmarks.harness.stage import Stage, open_stage
from benchmarks.harness.subjects import PeerProcess, Subject, Zpmeow

_SESSIONS = 200
_BEFORE_SECONDS = 3.0
_AWAY_SECONDS = 6.0
_AFTER_SECONDS = 4.0
_BOUND_SECONDS = 5.0  # CACHE_LOCAL_TTL: what is old for longer than that is old for good.


@dataclass(slots=True, frozen=True, kw_only=True)
class Fault:
    """What happens to Redis: at the beginning, and at the end of the time that it is away."""

    name: str
    begin: Callable[[Stage], None]
    end: Callable[[Stage], None] = lambda _stage: None


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
    subject.start(stage.stores)
    try:
        with on_cores(OTHER_CORES):
            seen, audited = asyncio.run(_call(subject, fault, stage))
        return Outcome(fault=fault.name, subject=subject.name, seen=seen, audited=audited)
    finally:
        subject.stop()
        stage.redis.start()


async def _call(subject: Subject, fault: Fault, stage: Stage) -> tuple[Seen, Seen]:
    port = urlsplit(subject.url).port
    assert port is not None
    with closing(OpenLoop(port=port, targets=stage.targets, seed=7)) as calls:
        await calls.change_all()
        await calls.read_all()
        await calls.run(_BEFORE_SECONDS)
        running = asyncio.create_task(calls.run(_AWAY_SECONDS + _AFTER_SECONDS))
        began = time.monotonic()
        await asyncio.to_thread(fault.begin, stage)
        await asyncio.sleep(began + _AWAY_SECONDS - time.monotonic())
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
)


def _lines(outcomes: list[Outcome]) -> Iterator[str]:
    yield (
        f"{READS_PER_SECOND:g} reads and {CHANGES_PER_SECOND:g} changes a second of {_SESSIONS} sessions, whatever"
        f" becomes of those before. Redis fails for {_AWAY_SECONDS:g} s; {_AFTER_SECONDS:g} s more count, too."
        f" The last column: every session read once, {_BOUND_SECONDS:g} s later. The others have no authentication, no"
        " ETags and no metrics; each is set up as its own pages show."
    )
    yield ""
    yield "| Redis | | reads failed | p50, ms | p99, ms | worst, ms | old | wrong | changes failed | old for good |"
    yield f"|{' --- |' * 10}"
    for outcome in outcomes:
        yield _line(outcome)


def _line(outcome: Outcome) -> str:
    seen, audited = outcome.seen, outcome.audited
    reads = len(seen.seconds)
    times = [f"{seconds * 1000:,.1f}" for seconds in (seen.quantile(0.5), seen.quantile(0.99), max(seen.seconds))]
    cells = [
        outcome.fault,
        outcome.subject,
        f"{seen.faults['failed'] / reads:.1%}" if seen.faults["failed"] else "0",
        *times,
        str(seen.faults["old"]),
        str(seen.faults["wrong"]),
        f"{seen.changes_failed / seen.changes:.1%}" if seen.changes_failed else "0",
        str(audited.faults["old"] + audited.faults["wrong"]),
    ]
    return f"| {' | '.join(cells)} |"
