"""What a user of the cache describes its entries with, and the notes that stay with a value."""

import json

import pytest

from zpmeow.cache.policy import FENCE_SECONDS, EntryPolicy


@pytest.mark.parametrize(
    ("fresh_seconds", "stale_seconds", "expected"),
    [
        (60, 0, FENCE_SECONDS),
        (FENCE_SECONDS, 0, FENCE_SECONDS),
        (FENCE_SECONDS, 1, FENCE_SECONDS + 1),
        (300, 3600, 3900),
    ],
)
def test_key_lives_as_long_as_a_fence_at_least_when_the_value_ends_sooner(
    fresh_seconds: float, stale_seconds: float, expected: float
) -> None:
    """No slow fill slips in behind a value that has just ended, and stale answers are there as long as wanted."""
    policy = EntryPolicy(
        entity="thing",
        kind=9,
        schema=1,
        fresh_seconds=fresh_seconds,
        stale_seconds=stale_seconds,
        encode=lambda value: json.dumps(value).encode(),
        decode=json.loads,
        weigh=len,
    )

    assert policy.lifetime_seconds == expected
