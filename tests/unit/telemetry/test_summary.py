"""The estimate of quantiles from buckets."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zpmeow.telemetry.summary import quantile_seconds
from zpmeow.telemetry.tallies import BOUNDS_SECONDS, Timing, Timings


def test_quantile_is_none_when_nothing_was_measured() -> None:
    """No number is made up."""
    assert quantile_seconds([], 0.5) is None
    assert quantile_seconds(Timing().buckets(), 0.5) is None


def test_quantile_lies_between_the_bounds_of_its_bucket() -> None:
    """Half of the way through the measured ones is half of the way through the bucket."""
    assert quantile_seconds([(0.1, 0), (0.2, 10), (math.inf, 10)], 0.5) == pytest.approx(0.15)


def test_quantile_is_the_last_bound_when_it_lies_above_all() -> None:
    """What is above the last bound is known to be above, not by how much."""
    assert quantile_seconds([(0.1, 1), (0.2, 1), (math.inf, 100)], 0.99) == 0.2


@given(st.lists(st.floats(0, 10), min_size=1), st.floats(0.01, 1))
def test_quantile_is_within_its_bucket_whatever_was_measured(durations: list[float], quantile: float) -> None:
    """The estimate and the true quantile fall into the same bucket."""
    timing = Timing()
    for duration in durations:
        timing.observe(duration)
    exact = sorted(durations)[math.ceil(quantile * len(durations) - 1e-9) - 1]

    estimate = quantile_seconds(timing.buckets(), quantile)

    assert estimate is not None
    upper = next((bound for bound in BOUNDS_SECONDS if exact <= bound), BOUNDS_SECONDS[-1])
    lower = max((bound for bound in (0.0, *BOUNDS_SECONDS) if bound < exact), default=0.0)
    assert lower - 1e-9 <= estimate <= upper + 1e-9


def test_merged_timings_are_the_sum_of_those_chosen() -> None:
    """Queries are told together, operations by name."""
    timings = Timings([("redis", "get"), ("redis", "put")])
    timings["redis", "get"].observe(0.0001)
    timings["redis", "put"].observe(0.0001)

    assert timings.merged()[-1] == (math.inf, 2)
    assert timings.merged(having="get")[0] == (0.0001, 1)
