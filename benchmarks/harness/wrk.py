"""Load by wrk, a closed loop: so many connections, each with its next request as soon as it has its answer.

A load of which any request fails is no measurement: it raises.
"""

import json
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.harness.cores import OTHER_CORES, cpu_seconds, on_cores
from benchmarks.harness.stage import Target
from benchmarks.harness.subjects import Subject

# Requests are made once and chosen by chance; figures are printed as one line of JSON, times in microseconds.
_SCRIPT = """
local targets = {{
{targets}
}}
local requests = {{}}

function init(_args)
  for number, target in ipairs(targets) do
    requests[number] = wrk.format("GET", target[1], {{["X-API-Key"] = target[2]}})
  end
  math.randomseed(7)
end

function request()
  return requests[math.random(#requests)]
end

function done(summary, latency, _requests)
  local errors = summary.errors
  io.write(string.format(
    '{{"requests": %d, "duration": %d, "p50": %d, "p99": %d, "max": %d, "failed": %d}}\\n',
    summary.requests, summary.duration, latency:percentile(50), latency:percentile(99), latency.max,
    errors.status + errors.connect + errors.read + errors.write + errors.timeout
  ))
end
"""


class LoadFailedError(RuntimeError):
    """There is no load to measure with, or it failed."""


@dataclass(slots=True, frozen=True, kw_only=True)
class Load:
    """What a run of wrk has measured. Times in seconds; `cpu_seconds`: of the subject's process, for one request."""

    requests_per_second: float
    p50_seconds: float
    p99_seconds: float
    longest_seconds: float
    cpu_seconds: float


def find_wrk() -> str:
    """Find the program. Raises LoadFailedError."""
    found = shutil.which("wrk")
    if found is None:
        message = "wrk is missing: it makes the load (Debian: apt-get install wrk)"
        raise LoadFailedError(message)
    return found


def load(subject: Subject, targets: Sequence[Target], *, connections: int, seconds: int) -> Load:
    """Ask for these sessions, chosen by chance, for so long; from the cores that the subject does not have.

    Raises LoadFailedError: wrk failed, or a request did: refused, lost, not answered in time, or with an error.
    """
    before = cpu_seconds(subject.pid)
    found = _run_wrk(subject.url, targets, connections=connections, seconds=seconds)
    used = cpu_seconds(subject.pid) - before
    if found["failed"] or not found["requests"]:
        message = f"{subject.name}: {found['failed']} requests failed, {found['requests']} were answered"
        raise LoadFailedError(message)
    return Load(
        requests_per_second=found["requests"] / (found["duration"] / 1e6),
        p50_seconds=found["p50"] / 1e6,
        p99_seconds=found["p99"] / 1e6,
        longest_seconds=found["max"] / 1e6,
        cpu_seconds=used / found["requests"],
    )


def _run_wrk(url: str, targets: Sequence[Target], *, connections: int, seconds: int) -> dict[str, int]:
    lines = ",\n".join(f'  {{"{target.path}", "{target.key}"}}' for target in targets)
    with tempfile.NamedTemporaryFile("w", prefix="zpmeow-wrk-", suffix=".lua", encoding="ascii") as script:
        script.write(_SCRIPT.format(targets=lines))
        script.flush()
        command = [find_wrk(), "--threads", "1", "--connections", str(connections), "--duration", f"{seconds}s"]
        with on_cores(OTHER_CORES):
            done = subprocess.run(
                [*command, "--latency", "--script", script.name, url],
                check=False,
                capture_output=True,
                text=True,
                timeout=seconds + 60,
            )
    if done.returncode or not done.stdout:
        message = f"wrk ended with {done.returncode}: {done.stdout[-500:]} {done.stderr[-500:]}"
        raise LoadFailedError(message)
    found: dict[str, int] = json.loads(done.stdout.splitlines()[-1])
    return found
