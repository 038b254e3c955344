"""Holds what a run has measured against its limits.

What depends on the speed of this machine is told apart: `make chaos` holds it to its limits, `make test` tells it only.
"""

import math
from collections.abc import Iterator

from deploy.chaos.harness.measurement import Measurement
from deploy.chaos.harness.outcome import Outcome
from tests.coherence.judge import OLD, Finding
from zpmeow.settings.groups import CacheSettings

_SENT_RATIO = 0.95
_MOST_PAUSED_RATIO = 0.05
"""A load that slept for longer, or a machine that had no time for it, is not the load that is told of."""

_LEAST_EQUAL_KEYS = 100  # 240 keys can be cached at the end: an audit that finds next to nothing proves nothing.
_CACHE_TIMEOUT_SECONDS = CacheSettings().timeout_seconds


def problems(outcome: Outcome) -> list[str]:
    """Return what is wrong whatever the speed of the machine."""
    return [*_failures(outcome), *_excesses(outcome), *_expectations(outcome)]


def time_problems(outcome: Outcome) -> list[str]:
    """Return what took too long."""
    found = []
    allowed, took = allowed_p99_seconds(outcome), outcome.during.requests.p99_seconds
    if math.isnan(took):
        found.append("nobody was answered during the fault")
    elif took > allowed:
        found.append(f"p99 of {took * 1000:.1f} ms during the fault, {allowed * 1000:.1f} ms are allowed")
    found += _slow_kinds(outcome)
    limit = outcome.scenario.limits.closed_within_seconds
    if outcome.recovery_seconds > limit:
        found.append(f"Redis was used again after {outcome.recovery_seconds:.2f} s, {limit:g} s are allowed")
    steady, afterwards = steady_p99_seconds(outcome), outcome.after.requests.p99_seconds
    if afterwards > steady:
        found.append(f"p99 of {afterwards * 1000:.1f} ms after the fault, {steady * 1000:.1f} ms are allowed")
    late = outcome.tally.violations[Finding.LATE]
    if late:
        found.append(f"{late} answers {Finding.LATE}")
    for name, phase in _phases(outcome):
        requests = phase.requests
        if requests.longest_seconds > outcome.scenario.limits.longest_seconds:
            found.append(f"{name}: somebody waited for {requests.longest_seconds:.1f} s: {requests.longest_request}")
        if requests.sent < _SENT_RATIO * requests.due:
            found.append(f"{name}: only {requests.sent} of {requests.due} requests were sent: this proves nothing")
        if requests.paused_seconds > _MOST_PAUSED_RATIO * phase.seconds:
            found.append(f"{name}: the load slept for {requests.paused_seconds:.2f} s: this proves nothing")
    return found


def _slow_kinds(outcome: Outcome) -> Iterator[str]:
    limits, requests = outcome.scenario.limits, outcome.during.requests
    for what, took, allowed in (
        ("p90 of reads", requests.reads_p90_seconds, limits.reads_p90_seconds),
        ("p99 of refusals", requests.refused_p99_seconds, limits.refused_p99_seconds),
    ):
        if allowed is not None and took > allowed:
            yield f"{what} of {took * 1000:.1f} ms during the fault, {allowed * 1000:.1f} ms are allowed"
    last = last_refused_seconds(outcome)
    if last > limits.refused_after_seconds:
        yield f"somebody was refused {last:.2f} s after the return, {limits.refused_after_seconds:g} s are allowed"


def last_refused_seconds(outcome: Outcome) -> float:
    """Return how long database and process had been back when a request was sent that failed all the same."""
    return max(phase.requests.last_refused_seconds for _, phase in _phases(outcome))


def oldest_seconds(outcome: Outcome) -> float:
    """Return how long after its acknowledgement a change was still not shown, at most."""
    return max((*outcome.tally.delays_normal, *outcome.tally.delays_under_fault), default=0.0)


def memory_ratio(outcome: Outcome) -> float:
    """Return by how much the process grew that grew most, to what it had in the steady state."""
    before, later = outcome.before.memory_bytes, (outcome.during, outcome.recovery, outcome.after)
    sizes = ((name, size) for phase in later for name, size in phase.memory_bytes.items())
    return max(size / before[name] for name, size in sizes if name in before)


def log_bytes_per_request(phase: Measurement) -> float:
    """Return what all processes wrote to their logs for each request that was due."""
    return phase.log_bytes / phase.requests.due


def old_answers(outcome: Outcome) -> int:
    """Return how many answers, or keys in Redis, were old or wrong."""
    return sum(many for finding, many in outcome.tally.violations.items() if finding in OLD)


def allowed_p99_seconds(outcome: Outcome) -> float:
    """Return the limit that holds for the fault."""
    limits = outcome.scenario.limits
    return steady_p99_seconds(outcome) if limits.p99_seconds is None else limits.p99_seconds


def steady_p99_seconds(outcome: Outcome) -> float:
    """Return the limit that holds when nothing is wrong any more, and during a fault that sets none of its own."""
    steady, bypass = outcome.before.requests.p99_seconds, outcome.bypass.requests.p99_seconds
    return max(outcome.scenario.limits.p99_ratio * steady, _CACHE_TIMEOUT_SECONDS + bypass)


def _failures(outcome: Outcome) -> Iterator[str]:
    for name, phase in _phases(outcome):
        if phase.requests.unexplained:
            yield f"{name}: {phase.requests.unexplained} requests failed without a cause"
    for finding, many in sorted(outcome.tally.violations.items()):
        if finding is Finding.LATE or not many:
            continue  # By 100 ms: what depends on the machine's speed is told apart.
        kind = "old answers" if finding in OLD else "wrong answers"
        firsts = [one.details for one in outcome.tally.first_violations if one.finding is finding]
        yield f"{kind}: {many} times {finding}, the first: {firsts[:1]}"


def _excesses(outcome: Outcome) -> Iterator[str]:
    limits, during = outcome.scenario.limits, outcome.during
    ratio = memory_ratio(outcome)
    if ratio > limits.memory_ratio:
        yield f"memory of {ratio:.2f} times the steady state's, {limits.memory_ratio:g} are allowed"
    yield from _disused(outcome)
    for name, base in outcome.descriptors_before.items():
        many = outcome.descriptors_after.get(name, 0)
        if many > base:
            yield f"process {name} has {many} file descriptors open, it had {base} at the beginning"
    for name, phase in (("during", during), ("recovery", outcome.recovery), ("after", outcome.after)):
        log_bytes = log_bytes_per_request(phase)
        if log_bytes > limits.log_bytes_per_request:
            yield f"{name}: {log_bytes:.0f} bytes of log a request, {limits.log_bytes_per_request:g} are allowed"
    if outcome.after.openings:
        yield f"after: breakers opened {outcome.after.openings} times"
    if limits.transitions_a_minute is not None:
        allowed = max(1, math.floor(limits.transitions_a_minute * during.seconds / 60))
        if during.transitions > allowed:
            yield f"{during.transitions} transitions of one breaker, {allowed} are allowed"


def _disused(outcome: Outcome) -> Iterator[str]:
    """Tell of a Redis that is not used as it should be, and of an audit that had nothing to compare."""
    least_ratio = outcome.scenario.limits.answered_from_redis_ratio
    for name, before in outcome.before.redis_hits.items():
        after = outcome.after.redis_hits.get(name, 0.0)
        if not before:
            yield f"before: process {name} answered nothing from Redis"
        elif after < least_ratio * before:
            yield f"after: process {name} answered {after:g} times from Redis, {before:g} times before"
    if outcome.audit.equal < _LEAST_EQUAL_KEYS:
        yield f"only {outcome.audit.equal} keys in Redis could be compared, {_LEAST_EQUAL_KEYS} are the least"


def _expectations(outcome: Outcome) -> Iterator[str]:
    for expectation in outcome.scenario.expects:
        yield from expectation(outcome.during)


def _phases(outcome: Outcome) -> list[tuple[str, Measurement]]:
    return [
        ("bypass", outcome.bypass),
        ("before", outcome.before),
        ("during", outcome.during),
        ("recovery", outcome.recovery),
        ("after", outcome.after),
    ]
