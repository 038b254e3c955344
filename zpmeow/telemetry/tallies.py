"""Counts and timings by label values, as plain numbers: what an event costs is made here.

An addition takes 0.2 µs, where prometheus_client's own counters take 0.8 µs and its histograms 1.8 µs
(they lock, and walk through their buckets); ten events a request make that worth a file. One thread
adds; others may read, and see each number whole.
"""

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable
from itertools import accumulate
from typing import Final

# From 0.1 ms, a fast answer of a Redis nearby, to 5 s, the default limit of a query; 50 ms is the cache's.
BOUNDS_SECONDS: Final = (
    0.0001,
    0.00025,
    0.0005,
    0.001,
    0.0025,
    0.005,
    0.01,
    0.025,
    0.05,
    0.1,
    0.25,
    0.5,
    1.0,
    2.5,
    5.0,
)

Labels = tuple[str, ...]
Buckets = list[tuple[float, int]]


class Counts(defaultdict[Labels, int]):
    """Counts by label values; a new combination starts at 0 by being counted."""

    def __init__(self, known: Iterable[Labels]) -> None:
        """Start with the known combinations, at 0."""
        super().__init__(int, dict.fromkeys(known, 0))


class Timing:
    """Durations sorted into buckets."""

    __slots__ = ("_counts", "sum_seconds")

    def __init__(self) -> None:
        """Start empty."""
        self._counts = [0] * (len(BOUNDS_SECONDS) + 1)
        self.sum_seconds = 0.0

    def observe(self, seconds: float) -> None:
        """Take note of one duration; it belongs to the first bucket whose bound it does not exceed."""
        self.sum_seconds += seconds
        self._counts[bisect_left(BOUNDS_SECONDS, seconds)] += 1

    def cumulative(self) -> list[int]:
        """Return how many durations were at or below each bound, and how many there were."""
        return list(accumulate(self._counts))

    def buckets(self) -> Buckets:
        """Return the upper bounds in seconds, the last infinite, and how many durations were at or below each."""
        return list(zip((*BOUNDS_SECONDS, float("inf")), self.cumulative(), strict=True))


class Timings(dict[Labels, Timing]):
    """Timings by label values; a new combination starts by being observed."""

    def __init__(self, known: Iterable[Labels]) -> None:
        """Start with the known combinations, empty."""
        super().__init__((labels, Timing()) for labels in known)

    def __missing__(self, labels: Labels) -> Timing:
        """Start a combination that nobody announced: a number under a new name is better than an error."""
        timing = Timing()
        self[labels] = timing
        return timing

    def merged(self, *, having: str | None = None) -> Buckets:
        """Return the buckets of all timings together, or of those that have a certain label value."""
        chosen = [timing.buckets() for labels, timing in list(self.items()) if having is None or having in labels]
        bounds = (*BOUNDS_SECONDS, float("inf"))
        return [(bound, sum(buckets[place][1] for buckets in chosen)) for place, bound in enumerate(bounds)]
