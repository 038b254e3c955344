"""What a scenario expects of the phase of its fault: the trace that it must leave, and what must not follow from it.

A fault that leaves no trace may never have happened, and a run that proves nothing must not pass.
"""

from collections.abc import Callable, Iterator
from typing import TypeAlias

from deploy.chaos.harness.measurement import COUNTS, Measurement

Expectation: TypeAlias = Callable[[Measurement], Iterator[str]]
"""Takes the phase of the fault; yields what is not as expected. Its docstring tells readers what is expected."""


def breaker_opens(during: Measurement) -> Iterator[str]:
    """A breaker opens."""
    # One that closes was opened by something before the fault.
    if not during.openings:
        yield "no breaker opened: was there a fault?"


def breakers_open(least: int) -> Expectation:
    """All breakers together open so often."""

    def check(during: Measurement) -> Iterator[str]:
        if during.openings < least:
            yield f"breakers opened {during.openings} times, {least} are the least"

    check.__doc__ = f"Breakers open {least} times at least."
    return check


def breaker_stays_closed(during: Measurement) -> Iterator[str]:
    """No breaker opens."""
    if during.openings:
        yield f"breakers opened {during.openings} times"


def counted(name: str, least: float = 1) -> Expectation:
    """At least so much of this is counted, one of `COUNTS`."""
    assert name in COUNTS, name

    def check(during: Measurement) -> Iterator[str]:
        if during.counts.get(name, 0) < least:
            yield f"{during.counts.get(name, 0):g} {name} counted, {least:g} are the least"

    check.__doc__ = f"{least:g} {name} at least."
    return check


def counted_at_most(name: str, most: float) -> Expectation:
    """No more than so much of this is counted, one of `COUNTS`."""
    assert name in COUNTS, name

    def check(during: Measurement) -> Iterator[str]:
        if during.counts.get(name, 0) > most:
            yield f"{during.counts[name]:g} {name} counted, {most:g} are the most"

    check.__doc__ = f"{most:g} {name} at most."
    return check


def database_is_missed(during: Measurement) -> Iterator[str]:
    """Something is refused, or marked as stale, for want of the database."""
    requests = during.requests
    if not requests.reads_explained + requests.writes_explained + requests.stale:
        yield "nobody missed the database: was there a fault?"


def reads_answered(least_ratio: float) -> Expectation:
    """At least this share of the reads is answered, whatever is away."""

    def check(during: Measurement) -> Iterator[str]:
        requests = during.requests
        failed = requests.reads_explained + requests.reads_unexplained
        ratio = 1 - failed / requests.reads
        if ratio < least_ratio:
            yield f"only {ratio:.1%} of the reads were answered, {least_ratio:.0%} are the least"

    check.__doc__ = f"{least_ratio:.0%} of the reads are answered."
    return check


def refused_as(code: str) -> Expectation:
    """Somebody is refused with this code."""

    def check(during: Measurement) -> Iterator[str]:
        if not during.requests.errors.get(code):
            yield f"nobody was refused as {code}, but {dict(during.requests.errors)}"

    check.__doc__ = f"Somebody is refused as {code}."
    return check


def seen_by_the_fault(_during: Measurement) -> Iterator[str]:
    """The fault looks for its own trace, and breaks off without it."""
    yield from ()
