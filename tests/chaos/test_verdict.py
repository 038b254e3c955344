"""The verdict on a chaos run: each limit that is broken is told, and nothing else."""

import math
from collections import Counter
from dataclasses import replace
from typing import Any

import pytest

from deploy.chaos.harness.expectations import (
    breaker_opens,
    breaker_stays_closed,
    breakers_open,
    counted,
    counted_at_most,
    database_is_missed,
    reads_answered,
    refused_as,
)
from deploy.chaos.harness.load import Sample
from deploy.chaos.harness.measurement import Measurement, Requests, count, quantile
from deploy.chaos.harness.outcome import BrokenOff, Outcome
from deploy.chaos.harness.results import markdown
from deploy.chaos.harness.scenario import Limits, Scenario
from deploy.chaos.harness.verdict import problems, time_problems
from tests.coherence.audit import Audit
from tests.coherence.judge import Finding, Tally, Violation
from tests.coherence.timeline import CHECKER, DATABASE, RETURN_SECONDS, Timeline
from tests.coherence.world import World

MIB = 2**20


async def nothing(_world: World) -> None:
    """Inject nothing."""


SCENARIO = Scenario(hypothesis="None.", fault="none", aborts_when="never", inject=nothing, expects=())
REQUESTS = Requests(
    due=1000,
    sent=1000,
    reads=900,
    reads_explained=0,
    reads_unexplained=0,
    writes_explained=0,
    writes_unexplained=0,
    stale=0,
    errors={},
    paused_seconds=0.0,
    p50_seconds=0.001,
    p99_seconds=0.005,
    reads_p90_seconds=0.004,
    raw_p99_seconds=0.005,
    refused_p99_seconds=math.nan,
    longest_seconds=0.02,
    longest_request="GET /x of A, 200",
    last_refused_seconds=0.0,
)
PHASE = Measurement(
    seconds=10.0,
    requests=REQUESTS,
    memory_bytes={"A": 70 * MIB, "B": 50 * MIB},
    log_bytes=500,
    transitions=2,
    openings=0,
    counts={"redis_hits": 100.0},
    redis_hits={"A": 40.0, "B": 60.0},
)
GOOD = Outcome(
    name="made-up",
    scenario=SCENARIO,
    bypass=PHASE,
    before=PHASE,
    during=PHASE,
    recovery=PHASE,
    after=PHASE,
    recovery_seconds=0.5,
    descriptors_before={"A": 14, "B": 14},
    descriptors_after={"A": 14, "B": 13},
    audit=Audit(equal=200),
    tally=Tally(),
)


def during(**changes: Any) -> Outcome:  # noqa: ANN401  (any field)
    """Make an outcome whose fault phase differs from a good one's."""
    return replace(GOOD, during=replace(PHASE, **changes))


def during_requests(**changes: Any) -> Outcome:  # noqa: ANN401  (any field)
    """Make an outcome whose requests during the fault differ from a good one's."""
    return during(requests=replace(REQUESTS, **changes))


def limited(outcome: Outcome, **limits: float) -> Outcome:
    """Give an outcome's scenario these limits."""
    return replace(outcome, scenario=replace(SCENARIO, limits=Limits(**limits)))


def test_nothing_is_told_when_all_limits_are_kept() -> None:
    """A good run has no problems."""
    assert problems(GOOD) == []
    assert time_problems(GOOD) == []


def test_failures_are_no_problem_when_they_are_explained() -> None:
    """What failed while the database was away has a cause."""
    assert problems(during_requests(reads_explained=400, writes_explained=100)) == []


@pytest.mark.parametrize(
    ("outcome", "problem"),
    [
        (during_requests(reads_unexplained=1), "during: 1 requests failed without a cause"),
        (during_requests(writes_unexplained=2), "during: 2 requests failed without a cause"),
        (replace(GOOD, after=replace(PHASE, requests=replace(REQUESTS, reads_unexplained=1))), "after: 1 requests"),
        (replace(GOOD, recovery=replace(PHASE, requests=replace(REQUESTS, writes_unexplained=1))), "recovery: 1 req"),
        (during(memory_bytes={"A": 85 * MIB, "B": 50 * MIB}), "memory of 1.21 times"),
        (replace(GOOD, after=replace(PHASE, memory_bytes={"A": 70 * MIB, "B": 61 * MIB})), "memory of 1.22 times"),
        (
            replace(GOOD, before=replace(PHASE, redis_hits={"A": 0.0})),
            "before: process A answered nothing from Redis",
        ),
        (
            replace(GOOD, after=replace(PHASE, redis_hits={"A": 40.0, "B": 29.0})),
            "after: process B answered 29 times from Redis, 60 times before",
        ),
        (replace(GOOD, after=replace(PHASE, redis_hits={"A": 40.0})), "after: process B answered 0 times from Redis"),
        (replace(GOOD, audit=Audit(equal=99)), "only 99 keys in Redis could be compared"),
        (during(log_bytes=101_000), "during: 101 bytes of log a request"),
        (replace(GOOD, recovery=replace(PHASE, log_bytes=101_000)), "recovery: 101 bytes of log a request"),
        (replace(GOOD, after=replace(PHASE, log_bytes=101_000)), "after: 101 bytes of log a request"),
        (replace(GOOD, after=replace(PHASE, openings=2)), "after: breakers opened 2 times"),
        (replace(GOOD, descriptors_after={"A": 15, "B": 14}), "process A has 15 file descriptors open, it had 14"),
        (limited(during(transitions=3), transitions_a_minute=2), "3 transitions of one breaker, 1 are allowed"),
        (
            replace(during(openings=0, transitions=1), scenario=replace(SCENARIO, expects=(breaker_opens,))),
            "no breaker opened",
        ),
        (
            replace(during(openings=7), scenario=replace(SCENARIO, expects=(breakers_open(8),))),
            "breakers opened 7 times, 8 are the least",
        ),
        (
            replace(during(openings=1), scenario=replace(SCENARIO, expects=(breaker_stays_closed,))),
            "breakers opened 1 times",
        ),
        (
            replace(GOOD, scenario=replace(SCENARIO, expects=(counted("corrupt"),))),
            "0 corrupt counted, 1 are the least",
        ),
        (
            replace(during(counts={"loads": 9.0}), scenario=replace(SCENARIO, expects=(counted_at_most("loads", 8),))),
            "9 loads counted, 8 are the most",
        ),
        (
            replace(during_requests(errors={"X": 2}), scenario=replace(SCENARIO, expects=(refused_as("OVERLOADED"),))),
            "nobody was refused as OVERLOADED, but {'X': 2}",
        ),
        (replace(GOOD, scenario=replace(SCENARIO, expects=(database_is_missed,))), "nobody missed the database"),
        (
            replace(during_requests(reads_explained=500), scenario=replace(SCENARIO, expects=(reads_answered(0.5),))),
            "only 44.4% of the reads were answered, 50% are the least",
        ),
        (
            replace(
                GOOD,
                tally=Tally(
                    violations=Counter({Finding.TOO_OLD: 1}),
                    first_violations=[Violation(finding=Finding.TOO_OLD, details="the status of x")],
                ),
            ),
            "old answers: 1 times older than the local TTL, the first: ['the status of x']",
        ),
    ],
)
def test_problem_is_told_when_a_limit_is_broken(outcome: Outcome, problem: str) -> None:
    """Each limit that does not depend on the machine's speed is told by itself."""
    (found,) = problems(outcome)

    assert found.startswith(problem)


@pytest.mark.parametrize(
    ("outcome", "problem"),
    [
        (during_requests(p99_seconds=0.056), "p99 of 56.0 ms during the fault, 55.0 ms are allowed"),
        (limited(during_requests(p99_seconds=0.056), p99_seconds=0.05), "p99 of 56.0 ms during the fault, 50.0 ms"),
        (limited(during_requests(reads_p90_seconds=0.021), reads_p90_seconds=0.02), "p90 of reads of 21.0 ms during"),
        (
            during_requests(refused_p99_seconds=5.6),
            "p99 of refusals of 5600.0 ms during the fault, 5500.0 ms are allowed",
        ),
        (during_requests(last_refused_seconds=1.25), "somebody was refused 1.25 s after the return, 1 s are allowed"),
        (during_requests(paused_seconds=0.51), "during: the load slept for 0.51 s"),
        (replace(GOOD, recovery_seconds=2.5), "Redis was used again after 2.50 s, 2 s are allowed"),
        (replace(GOOD, recovery_seconds=math.inf), "Redis was used again after inf s"),
        (during_requests(sent=949), "during: only 949 of 1000 requests were sent"),
        (during_requests(longest_seconds=7.0), "during: somebody waited for 7.0 s"),
        (during_requests(p99_seconds=math.nan), "nobody was answered during the fault"),
        (replace(GOOD, after=replace(PHASE, requests=replace(REQUESTS, p99_seconds=0.08))), "p99 of 80.0 ms after"),
        (replace(GOOD, tally=Tally(violations=Counter({Finding.LATE: 2}))), "2 answers older than 100 ms"),
    ],
)
def test_time_problem_is_told_when_something_took_too_long(outcome: Outcome, problem: str) -> None:
    """What depends on the machine's speed is told apart from the rest."""
    assert problems(outcome) == []
    (found,) = time_problems(outcome)

    assert found.startswith(problem)


def test_slow_answers_are_allowed_when_the_steady_state_was_slow() -> None:
    """Three times the steady state's p99, if that is more than a deadline and the database's."""
    slow = replace(
        during_requests(p99_seconds=0.28), before=replace(PHASE, requests=replace(REQUESTS, p99_seconds=0.1))
    )

    assert time_problems(slow) == []


def test_page_says_what_did_not_hold() -> None:
    """The page has a line a scenario, and every problem in words."""
    bad = replace(during_requests(reads_unexplained=3), name="bad")
    broken_off = BrokenOff(name="ended", scenario=SCENARIO, reason="no standby")

    page = markdown([GOOD, bad, broken_off], command="make chaos")

    assert "| made-up | 10 | 1000 | 0 + 0 |" in page
    assert "- bad: during: 3 requests failed without a cause" in page
    assert "| BROKEN OFF |" in page
    assert "- ended: broken off: no standby" in page


def test_page_tells_the_trace_that_each_fault_must_leave() -> None:
    """In the words of what is expected."""
    expects = (breaker_opens, counted("corrupt", 7), counted_at_most("loads", 9), reads_answered(0.9))

    page = markdown([replace(GOOD, scenario=replace(SCENARIO, expects=expects))], command="make chaos")

    told = "A breaker opens. 7 corrupt at least. 9 loads at most. 90% of the reads are answered."
    assert f"| None. | none | {told} | never |" in page


def test_requests_are_counted_by_what_became_of_them() -> None:
    """Failures are explained by an absence of who is needed, until a moment after; waits are told without pauses."""
    timeline = Timeline()
    timeline.note_stall(CHECKER, 1.125, 1.25)
    timeline.note_stall(DATABASE, 1.0, 1.5)
    timeline.note_stall(CHECKER, 100.0, 101.0)
    timeline.begin_absence(DATABASE, at=10.0).end = 11.0
    timeline.begin_absence("B", at=20.0)
    late = 11.0 + RETURN_SECONDS
    samples = [
        Sample(is_read=True, due_at=1.0, ended_at=1.25, status=200, process="A"),
        Sample(is_read=False, due_at=1.0, ended_at=1.5, status=200, process="A"),
        Sample(is_read=True, due_at=11.25, ended_at=11.5, status=404, is_stale=True, process="A"),
        Sample(is_read=True, due_at=10.5, ended_at=10.75, status=503, process="A"),
        Sample(is_read=True, due_at=2.0, ended_at=3.0, status=0, process="A"),
        Sample(
            is_read=False,
            due_at=late - 0.5,
            ended_at=late + 1,
            status=503,
            request="GET /slow",
            process="A",
            error="OVERLOADED",
        ),
        Sample(is_read=False, due_at=late + 0.5, ended_at=late + 1, status=500, process="A"),
        Sample(is_read=False, due_at=20.5, ended_at=20.75, status=0, process="B"),
        Sample(is_read=True, due_at=20.5, ended_at=20.75, status=503, process="A"),
        Sample(is_read=False, due_at=4.0, is_sent=False),
    ]

    found = count(samples, timeline)

    assert found == Requests(
        due=10,
        sent=9,
        reads=5,
        reads_explained=1,
        reads_unexplained=2,
        writes_explained=2,
        writes_unexplained=1,
        stale=1,
        errors={"OVERLOADED": 1},
        paused_seconds=0.125,
        p50_seconds=0.25,
        p99_seconds=0.375,
        reads_p90_seconds=0.25,
        raw_p99_seconds=0.5,
        refused_p99_seconds=1.5,
        longest_seconds=1.5,
        longest_request="GET /slow of A, 503",
        last_refused_seconds=1.5,
    )


@pytest.mark.parametrize(("share", "value"), [(0.0, 1.0), (0.5, 2.0), (0.51, 3.0), (0.99, 4.0), (1.0, 4.0)])
def test_quantile_is_the_value_that_so_many_do_not_exceed(share: float, value: float) -> None:
    """Of few values, too."""
    assert quantile([1.0, 2.0, 3.0, 4.0], share) == value
