"""The table that a run ends in: on the terminal, and as a page of Markdown if all scenarios were run."""

import math
from collections.abc import Sequence

from deploy.chaos.harness.experiment import RATE, WRITES_RATIO
from deploy.chaos.harness.outcome import BrokenOff, Outcome
from deploy.chaos.harness.verdict import (
    allowed_p99_seconds,
    last_refused_seconds,
    log_bytes_per_request,
    memory_ratio,
    old_answers,
    oldest_seconds,
    problems,
    time_problems,
)
from tests.coherence.timeline import RETURN_SECONDS
from tests.servers.machine import describe

_COLUMNS = (
    "scenario",
    "fault, s",
    "requests",
    "failed without a cause",
    "503 with a cause",
    "stale",
    "last 503 after, s",
    "old answers",
    "oldest, ms",
    "p50, ms",
    "p99, ms",
    "allowed, ms",
    "p90 of reads, ms",
    "p99 of 503s, ms",
    "opened + closed",
    "Redis again after, s",
    "keys compared",
    "memory",
    "log, B",
    "paused, ms",
    "p99 with pauses, ms",
    "verdict",
)
_LEGEND = """\
Requests are those that were due during the fault, of {rate:g} a second in all phases, {writes:.0%} of them writes;
every answer is judged by what was written.

- `failed without a cause`, `503 with a cause`: reads + writes. A cause: the database, or the process that was asked,
  was away, or had come back less than {returned:g} s ago. `stale`: answers that were marked as such, with the
  same causes.
- `last 503 after`: how long they had been back when the last request was sent that failed or was answered as stale.
- `old answers`: a process must not show what was there before a change of its own, nor, 100 ms after it, before one of
  another's, nor what nobody ever wrote. While a store, the way to one, or a process is away or wrong, and for 5 s after
  that (the local tier's lifetime), the 100 ms are 5 s. `oldest`: how long after its acknowledgement a change was not
  shown yet, at most.
- p50 and p99: before / during / after the fault, of what was answered. `allowed`: for the p99 during the fault. The p90
  of reads and the p99 of 503s are of the fault alone.
- `opened + closed`: of the breaker that had the most.
- `keys compared`: entries in Redis that were held against the database after quiet; so was every answer.
- `memory`: of the process that grew most, in times of its steady state.
- `log`: bytes a request, without the line for each request that is on by default.
- `paused`: for how long the load's own process did not come to work before / during / after the fault (pauses of the
  machine above 20 ms). That is taken off the p50 and p99; `p99 with pauses` is that during the fault without this.

"""


def markdown(outcomes: Sequence[Outcome | BrokenOff], *, command: str) -> str:
    """Return the whole page."""
    lines = ["# Chaos: what happened", "", *describe(command), ""]
    lines += [_LEGEND.format(rate=RATE, writes=WRITES_RATIO, returned=RETURN_SECONDS), *table(outcomes), ""]
    lines += [
        "## What was believed, and what was done",
        "",
        "| scenario | hypothesis | fault | its trace | would be broken off if |",
        "| --- | --- | --- | --- | --- |",
    ]
    for outcome in outcomes:
        told = outcome.scenario
        trace = " ".join((one.__doc__ or "").partition("\n")[0] for one in told.expects)
        lines.append(f"| {outcome.name} | {told.hypothesis} | {told.fault} | {trace} | {told.aborts_when} |")
    found = [(outcome.name, _found(outcome)) for outcome in outcomes]
    if any(texts for _, texts in found):
        lines += ["", "## What did not hold", ""]
        lines += [f"- {name}: {text}" for name, texts in found for text in texts]
    return "\n".join(lines) + "\n"


def table(outcomes: Sequence[Outcome | BrokenOff]) -> list[str]:
    """Return the lines of the table alone."""
    lines = [f"| {' | '.join(_COLUMNS)} |", f"|{' --- |' * len(_COLUMNS)}"]
    lines += [f"| {' | '.join(_cells(outcome))} |" for outcome in outcomes]
    return lines


def _found(outcome: Outcome | BrokenOff) -> list[str]:
    if isinstance(outcome, BrokenOff):
        return [f"broken off: {outcome.reason}"]
    return [*problems(outcome), *time_problems(outcome)]


def _cells(outcome: Outcome | BrokenOff) -> list[str]:
    if isinstance(outcome, BrokenOff):
        return [outcome.name, *[""] * (len(_COLUMNS) - 2), "BROKEN OFF"]
    before, during, after = outcome.before, outcome.during, outcome.after
    phases = (before.requests, during.requests, after.requests)
    requests = during.requests
    return [
        outcome.name,
        f"{during.seconds:.0f}",
        str(requests.sent) if requests.sent == requests.due else f"{requests.sent} of {requests.due}",
        f"{requests.reads_unexplained} + {requests.writes_unexplained}",
        f"{requests.reads_explained} + {requests.writes_explained}",
        str(requests.stale),
        f"{last_refused_seconds(outcome):.2f}" if last_refused_seconds(outcome) else "",
        str(old_answers(outcome)),
        f"{oldest_seconds(outcome) * 1000:.0f}",
        " / ".join(_milliseconds(phase.p50_seconds) for phase in phases),
        " / ".join(_milliseconds(phase.p99_seconds) for phase in phases),
        _milliseconds(allowed_p99_seconds(outcome)),
        _milliseconds(requests.reads_p90_seconds),
        _milliseconds(requests.refused_p99_seconds),
        str(during.transitions),
        "never" if math.isinf(outcome.recovery_seconds) else f"{outcome.recovery_seconds:.1f}",
        str(outcome.audit.equal),
        f"{memory_ratio(outcome):.2f}",
        f"{log_bytes_per_request(during):.0f}",
        " / ".join(f"{phase.paused_seconds * 1000:.0f}" for phase in phases),
        _milliseconds(requests.raw_p99_seconds),
        _verdict(outcome),
    ]


def _verdict(outcome: Outcome) -> str:
    if problems(outcome):
        return "FAILED"
    return "too slow" if time_problems(outcome) else "holds"


def _milliseconds(seconds: float) -> str:
    if math.isnan(seconds):
        return "none"
    return f"{seconds * 1000:.1f}" if seconds < 1 else f"{seconds * 1000:.0f}"
