"""The table that a run ends in: on the terminal, and as a page of Markdown if all scenarios were run."""

import math
from collections.abc import Sequence

from deploy.chaos.harness.experiment import RATE, WRITES_RATIO, Outcome
from deploy.chaos.harness.verdict import (
    allowed_p99_seconds,
    log_bytes_per_request,
    memory_ratio,
    old_answers,
    problems,
    time_problems,
)
from tests.servers.machine import describe

_COLUMNS = (
    "scenario",
    "fault, s",
    "requests",
    "failed without a cause",
    "503 with a cause",
    "old answers",
    "p50, ms",
    "p99, ms",
    "allowed, ms",
    "opened + closed",
    "Redis again after, s",
    "memory",
    "log, B",
    "paused, ms",
    "verdict",
)
_LEGEND = """\
Requests are those that were due during the fault, of {rate:g} a second in all phases, {writes:.0%} of them writes;
every answer is judged by what was written. `failed without a cause` and `503 with a cause` (a store or process that the
answer needs was away) count reads + writes. p50 and p99 stand before / during / after the fault; `allowed`: for the p99
during the fault. `opened + closed`: of the breaker that had the most. `memory`: of the process that grew most, in times
of its steady state; `log`: bytes a request, without the line for each request that is on by default. `paused`: for how
long the load's own process did not come to work before / during / after the fault (pauses of the machine above 20 ms),
which is taken off the p50 and p99. In all phases, and after quiet: each key in Redis and each answer equals the
database.
"""


def markdown(outcomes: Sequence[Outcome], *, command: str) -> str:
    """Return the whole page."""
    lines = ["# Chaos: what happened", "", *describe(command), ""]
    lines += [_LEGEND.format(rate=RATE, writes=WRITES_RATIO), *table(outcomes), ""]
    lines += [
        "## What was believed, and what was done",
        "",
        "| scenario | hypothesis | fault | would be broken off if |",
        "| --- | --- | --- | --- |",
    ]
    for outcome in outcomes:
        told = outcome.scenario
        lines.append(f"| {outcome.name} | {told.hypothesis} | {told.fault} | {told.aborts_when} |")
    found = [(outcome.name, [*problems(outcome), *time_problems(outcome)]) for outcome in outcomes]
    if any(texts for _, texts in found):
        lines += ["", "## What did not hold", ""]
        lines += [f"- {name}: {text}" for name, texts in found for text in texts]
    return "\n".join(lines) + "\n"


def table(outcomes: Sequence[Outcome]) -> list[str]:
    """Return the lines of the table alone."""
    lines = [f"| {' | '.join(_COLUMNS)} |", f"|{' --- |' * len(_COLUMNS)}"]
    lines += [f"| {' | '.join(_cells(outcome))} |" for outcome in outcomes]
    return lines


def _cells(outcome: Outcome) -> list[str]:
    before, during, after = outcome.before, outcome.during, outcome.after
    phases = (before.requests, during.requests, after.requests)
    requests = during.requests
    return [
        outcome.name,
        f"{during.seconds:.0f}",
        str(requests.sent) if requests.sent == requests.due else f"{requests.sent} of {requests.due}",
        f"{requests.reads_unexplained} + {requests.writes_unexplained}",
        f"{requests.reads_explained} + {requests.writes_explained}",
        str(old_answers(outcome)),
        " / ".join(_milliseconds(phase.p50_seconds) for phase in phases),
        " / ".join(_milliseconds(phase.p99_seconds) for phase in phases),
        _milliseconds(allowed_p99_seconds(outcome)),
        str(during.transitions),
        "never" if math.isinf(outcome.recovery_seconds) else f"{outcome.recovery_seconds:.1f}",
        f"{memory_ratio(outcome):.2f}",
        f"{log_bytes_per_request(during):.0f}",
        " / ".join(f"{phase.paused_seconds * 1000:.0f}" for phase in phases),
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
