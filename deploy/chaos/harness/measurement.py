"""What is measured in one phase of a run: of its requests, and of the processes that served them."""

import asyncio
import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from deploy.chaos.harness.load import Sample
from tests.coherence.timeline import CHECKER, Timeline
from tests.coherence.world import World
from tests.servers.processes import tcp_sockets
from zpmeow.settings.groups import CacheSettings, DatabaseSettings

_GAUGE_SECONDS = 0.1
_MOST_POOLED = DatabaseSettings().pool_size + 3 + CacheSettings().pool_size + 1
COUNTS: Mapping[str, tuple[str, Mapping[str, str]]] = {
    "redis_hits": ("zpmeow_cache_lookups_total", {"tier": "redis", "outcome": "hit"}),
    "timeouts": ("zpmeow_cache_lookups_total", {"tier": "redis", "outcome": "timeout"}),
    "errors": ("zpmeow_cache_lookups_total", {"tier": "redis", "outcome": "error"}),
    "corrupt": ("zpmeow_cache_lookups_total", {"tier": "redis", "outcome": "corrupt"}),
    "bypassed": ("zpmeow_cache_lookups_total", {"tier": "redis", "outcome": "bypass"}),
    "loads": ("zpmeow_loads_total", {"entity": "session"}),
    "coalesced": ("zpmeow_loads_coalesced_total", {}),
    "epochs": ("zpmeow_cache_epochs_total", {}),
}
_OPENING = "Cache breaker is open, was closed"
_TRANSITION = re.compile(f"{_OPENING}|Cache breaker is closed")


@dataclass(slots=True, frozen=True, kw_only=True)
class Requests:
    """Counts and latencies of some samples.

    `explained`: failed while the database, or the process that was asked, was away. `unexplained`: failed without such
    a cause. p50 and p99 are those of the answers that are none of both, in seconds, NaN if there were none, less what
    this process itself did not come to work for meanwhile (`paused_seconds`, of the whole phase): that is this
    machine's affair. Nothing is taken off the others.

    Attributes:
        stale: answers that are marked as such.
        errors: 503s by their code.
        reads_p90_seconds: of the reads alone; most of them need no database.
        raw_p99_seconds: with the pauses.
        refused_p99_seconds: of what failed with a cause.
        longest_seconds: of all, whatever became of them.
        last_refused_seconds: how long those who were away had been back when the last one was sent that failed with a
            cause, or was answered with what is marked as stale; 0: none after their return.
    """

    due: int
    sent: int
    reads: int
    reads_explained: int
    reads_unexplained: int
    writes_explained: int
    writes_unexplained: int
    stale: int
    errors: Mapping[str, int]
    paused_seconds: float
    p50_seconds: float
    p99_seconds: float
    reads_p90_seconds: float
    raw_p99_seconds: float
    refused_p99_seconds: float
    longest_seconds: float
    longest_request: str
    last_refused_seconds: float

    @property
    def unexplained(self) -> int:
        """How many requests failed without a cause."""
        return self.reads_unexplained + self.writes_unexplained


@dataclass(slots=True, frozen=True, kw_only=True)
class Measurement:
    """One phase.

    Attributes:
        seconds: how long it lasted.
        memory_bytes: of each process, at its largest.
        log_bytes: what all processes wrote.
        transitions: how often the breaker opened or closed that did so most.
        openings: how often all breakers opened.
        counts: what all processes counted: corrupt entries, timeouts, queries … Those of a process that ended are lost.
        redis_hits: those of each process.
    """

    seconds: float
    requests: Requests
    memory_bytes: Mapping[str, int]
    log_bytes: int
    transitions: int
    openings: int
    counts: Mapping[str, float]
    redis_hits: Mapping[str, float]


def count(samples: Sequence[Sample], timeline: Timeline) -> Requests:
    """Count what became of the samples."""
    sent = [sample for sample in samples if sample.is_sent]
    answered = [sample for sample in sent if not sample.has_failed]
    waits = [
        (sample.seconds - timeline.stalled_seconds(CHECKER, sample.due_at, sample.ended_at), sample.is_read)
        for sample in answered
    ]
    refused = [sample for sample in sent if sample.has_failed and _is_explained(sample, timeline)]
    longest = max(sent, key=lambda sample: sample.seconds, default=None)
    failed = Counter((sample.is_read, _is_explained(sample, timeline)) for sample in sent if sample.has_failed)
    returned = (
        timeline.returned_seconds(sample.process, sample.due_at, sample.ended_at)
        for sample in sent
        if (sample.has_failed or sample.is_stale) and _is_explained(sample, timeline)
    )
    return Requests(
        due=len(samples),
        sent=len(sent),
        reads=sum(sample.is_read for sample in sent),
        reads_explained=failed[True, True],
        reads_unexplained=failed[True, False],
        writes_explained=failed[False, True],
        writes_unexplained=failed[False, False],
        stale=sum(sample.is_stale for sample in sent),
        errors=Counter(sample.error for sample in sent if sample.error),
        paused_seconds=timeline.stalled_seconds(CHECKER, samples[0].due_at, samples[-1].due_at) if samples else 0.0,
        p50_seconds=quantile((wait for wait, _ in waits), 0.5),
        p99_seconds=quantile((wait for wait, _ in waits), 0.99),
        reads_p90_seconds=quantile((wait for wait, is_read in waits if is_read), 0.9),
        raw_p99_seconds=quantile((sample.seconds for sample in answered), 0.99),
        refused_p99_seconds=quantile((sample.seconds for sample in refused), 0.99),
        longest_seconds=math.nan if longest is None else longest.seconds,
        longest_request="" if longest is None else f"{longest.request} of {longest.process}, {longest.status}",
        last_refused_seconds=max((seconds for seconds in returned if math.isfinite(seconds)), default=0.0),
    )


def _is_explained(sample: Sample, timeline: Timeline) -> bool:
    return timeline.may_refuse(sample.process, sample.due_at, sample.ended_at)


def quantile(values: Iterable[float], share: float) -> float:
    """Return the value that this share of the values does not exceed; NaN if there are none."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)] if ordered else math.nan


class Gauges:
    """Memory, file descriptors and logs of the service processes, looked at again and again."""

    def __init__(self, world: World) -> None:
        """Look at the processes of this world."""
        self._world = world
        self._memory: list[tuple[float, str, int]] = []

    async def watch(self) -> None:
        """Look, for ever."""
        while True:
            for name, pid in self._pids().items():
                self._memory.append((self._world.clock(), name, _memory_bytes(pid)))
            await asyncio.sleep(_GAUGE_SECONDS)

    def memory_bytes(self, begin: float, end: float) -> dict[str, int]:
        """Return what each process had at its largest between the two."""
        found: dict[str, int] = {}
        for at, name, size in self._memory:
            if begin <= at <= end:
                found[name] = max(size, found.get(name, 0))
        return found

    async def counts(self) -> dict[str, dict[str, float]]:
        """Return what each process that runs has counted so far."""
        found = {}
        for process, service in self._world.services.items():
            try:
                metrics = await asyncio.to_thread(service.metrics)
            except OSError:
                continue  # It is away.
            found[process] = {name: metrics.total(metric, **labels) for name, (metric, labels) in COUNTS.items()}
        return found

    def descriptors(self) -> dict[str, int]:
        """Return how many file descriptors each process has open now, those of its pools to the stores apart.

        What is open to the stores beyond that counts like all others: a pool that grows is a leak.
        """
        world = self._world
        stores = {world.postgres.port, world.redis.port, *(proxy.port for proxy in world.proxies.values())}
        if world.postgres_proxy is not None:
            stores.add(world.postgres_proxy.port)
        found = {}
        for name, pid in self._pids().items():
            pooled = sum(remote in stores for _local, remote in tcp_sockets(pid))
            found[name] = len(list(Path(f"/proc/{pid}/fd").iterdir())) - min(pooled, _MOST_POOLED)
        return found

    def log_bytes(self) -> int:
        """Return how much all processes have written so far."""
        return sum(len(service.output) + len(service.errors) for service in self._world.services.values())

    def transitions(self) -> dict[str, int]:
        """Return how often the breaker of each process has opened or closed so far, by its log; probes are neither."""
        services = self._world.services.items()
        return {name: len(_TRANSITION.findall(service.output)) for name, service in services}

    def openings(self) -> int:
        """Return how often all breakers have opened so far, by the logs."""
        return sum(service.output.count(_OPENING) for service in self._world.services.values())

    def _pids(self) -> dict[str, int]:
        return {name: service.pid for name, service in self._world.services.items() if service.is_running}


def _memory_bytes(pid: int) -> int:
    try:
        status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    except (FileNotFoundError, ProcessLookupError):
        return 0
    lines = dict(line.split(":", 1) for line in status.splitlines() if ":" in line)
    return int(lines.get("VmRSS", "0 kB").split()[0]) * 1024
