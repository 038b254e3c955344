"""Where the CPU of a request goes, layer by layer, by a sampling profiler on the running service under load.

A sample of the event loop's thread counts for the layer of the innermost function that is of one; the profiles are kept
in `profiles/`. The process stands still while it is looked at: else what is read is now and then no stack at all.
"""

import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from benchmarks.harness.checks import require_source
from benchmarks.harness.cores import OTHER_CORES, on_cores
from benchmarks.harness.page import Section
from benchmarks.harness.stage import Stage, open_stage
from benchmarks.harness.subjects import Zpmeow
from benchmarks.harness.wrk import LoadFailedError, load

PROFILES = Path(__file__).parent.with_name("profiles")

_SESSIONS = 1000
_CONNECTIONS = 50
_WARM_UP_SECONDS = 2
_SECONDS = 8
_SAMPLES_PER_SECOND = 250
_MOST_LINES = 60
_OTHER_THREADS = "Thread._bootstrap"

_LOCAL, _REDIS, _NO_CACHE = "local tier", "Redis tier", "no cache"
_SOURCES = {_LOCAL: "zpmeow-local; hit", _REDIS: "zpmeow-redis; hit", _NO_CACHE: "zpmeow; fwd=bypass"}

_LAYERS = {
    "routing": ("aiohttp/web_urldispatcher", "aiohttp/web_app", "zpmeow/api/unmatched", "zpmeow/api/app"),
    "authentication": ("zpmeow/services/access", "zpmeow/domain/api_key", "zpmeow/api/caller"),
    "encoding": (
        *("zpmeow/api/presenting", "zpmeow/api/answers", "zpmeow/api/completion", "zpmeow/api/written_response"),
        *("zpmeow/api/negotiation", "zpmeow/api/session_routes"),
    ),
    "metrics and log": ("zpmeow/telemetry/", "zpmeow/events", "prometheus_client/", "structlog/", "logging/"),
    "Redis": ("redis/", "zpmeow/cache/redis_", "zpmeow/cache/batching_tier", "zpmeow/cache/resilient_tier"),
    "database": ("asyncpg/", "zpmeow/postgres/", "zpmeow/repositories/entry_loads"),
    "cache": ("zpmeow/cache/", "zpmeow/repositories/", "cachetools/"),
    "recalled answers": ("zpmeow/api/recalled_answers",),
    "request and services": ("zpmeow/api/", "zpmeow/services/", "zpmeow/domain/"),
    "HTTP and event loop": ("aiohttp/", "asyncio/", "multidict/", "yarl/", "zpmeow/bootstrap/"),
}


@dataclass(slots=True, frozen=True, kw_only=True)
class Found:
    """CPU of one request, in microseconds, by layer."""

    requests_per_second: float
    by_layer: dict[str, float]


def measure(tell: Callable[[str], None]) -> Section:
    """Profile each state of the service."""
    found = {}
    with open_stage(sessions=_SESSIONS) as stage:
        for subject in _subjects():
            tell(subject.name)
            found[subject.name] = _measure_one(subject, stage)
    return Section(title="CPU of a request, by layer", lines=list(_lines(found)))


def _subjects() -> Iterator[Zpmeow]:
    yield Zpmeow(_LOCAL)
    yield Zpmeow(_REDIS, CACHE_LOCAL_MAX_BYTES="0")
    yield Zpmeow(_NO_CACHE, CACHE_ENABLED="false")


def _measure_one(subject: Zpmeow, stage: Stage) -> Found:
    stage.redis.flush()
    subject.start(stage.stores)
    try:
        load(subject, stage.targets, connections=_CONNECTIONS, seconds=_WARM_UP_SECONDS)
        require_source(subject, stage.targets[0], _SOURCES[subject.name])
        # Once without the profiler, which takes CPU, for the figures; once with it, for the shares.
        plain = load(subject, stage.targets, connections=_CONNECTIONS, seconds=_SECONDS)
        with ThreadPoolExecutor(1) as threads:
            loading = threads.submit(load, subject, stage.targets, connections=_CONNECTIONS, seconds=_SECONDS + 2)
            stacks = _sample(subject.pid)
            loading.result()
        require_source(subject, stage.targets[0], _SOURCES[subject.name])
    finally:
        subject.stop()
    PROFILES.mkdir(exist_ok=True)
    (PROFILES / f"{subject.name.replace(' ', '_')}.txt").write_text(
        "\n".join(_profile(stacks)) + "\n", encoding="utf-8"
    )
    layers: Counter[str] = Counter()
    for stack, many in stacks.items():
        layers[_layer_of(stack)] += many
    return Found(
        requests_per_second=plain.requests_per_second,
        by_layer={layer: plain.cpu_seconds * 1e6 * many / stacks.total() for layer, many in layers.items()},
    )


def _sample(pid: int) -> Counter[tuple[str, ...]]:
    """Return how often each stack was seen, outermost function first."""
    beside_python = Path(sys.executable).with_name("py-spy")
    profiler = str(beside_python) if beside_python.exists() else shutil.which("py-spy")
    if profiler is None:
        message = "py-spy is missing (requirements-bench.lock has it)"
        raise LoadFailedError(message)
    with tempfile.NamedTemporaryFile(prefix="zpmeow-profile-") as raw, on_cores(OTHER_CORES):
        options = ["--duration", str(_SECONDS), "--rate", str(_SAMPLES_PER_SECOND), "--format", "raw"]
        done = subprocess.run(
            [profiler, "record", *options, "--output", raw.name, "--pid", str(pid)],
            check=False,
            capture_output=True,
            text=True,
            timeout=_SECONDS + 60,
        )
        if done.returncode:
            message = (
                f"py-spy ended with {done.returncode} (it must be allowed to look at other processes): {done.stderr}"
            )
            raise LoadFailedError(message)
        lines = Path(raw.name).read_text(encoding="utf-8").splitlines()
    stacks: Counter[tuple[str, ...]] = Counter()
    for line in lines:
        stack, _, many = line.rpartition(" ")
        frames = tuple(frame.rpartition(":")[0] for frame in stack.split(";"))
        if not frames[0].startswith(_OTHER_THREADS):
            stacks[frames] += int(many)
    return stacks


def _layer_of(stack: tuple[str, ...]) -> str:
    for frame in reversed(stack):
        file = frame.rpartition("(")[2]
        for layer, beginnings in _LAYERS.items():
            if file.startswith(beginnings):
                return layer
    return "other"


def _profile(stacks: Counter[tuple[str, ...]]) -> Iterator[str]:
    own: Counter[str] = Counter()
    whole: Counter[str] = Counter()
    for stack, many in stacks.items():
        own[stack[-1]] += many
        for frame in set(stack):
            whole[frame] += many
    for title, counts in (("by itself", own), ("with what it calls", whole)):
        yield f"share of {stacks.total()} samples, {title}"
        yield from (f"{many / stacks.total():6.1%}  {frame})" for frame, many in counts.most_common(_MOST_LINES))
        yield ""


def _lines(found: dict[str, Found]) -> Iterator[str]:
    yield (
        f"Microseconds of CPU a request, {_CONNECTIONS} connections, {_SESSIONS:,} sessions by turns of chance."
        f" One run of {_SECONDS} s for the sum and the rate, and one of {_SECONDS} s under the profiler for the shares."
    )
    yield ""
    yield f"| layer | {' | '.join(found)} |"
    yield f"|{' --- |' * (len(found) + 1)}"
    for layer in [*_LAYERS, "other"]:
        yield f"| {layer} | {' | '.join(f'{one.by_layer.get(layer, 0.0):.1f}' for one in found.values())} |"
    yield f"| all | {' | '.join(f'{sum(one.by_layer.values()):.0f}' for one in found.values())} |"
    yield f"| requests a second | {' | '.join(f'{one.requests_per_second:,.0f}' for one in found.values())} |"
