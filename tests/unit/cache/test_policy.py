"""What a user of the cache describes its entries with, and the notes that stay with a value."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zpmeow.cache.policy import FENCE_SECONDS, EntryPolicy, Notes


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


def test_note_is_found_when_it_was_made() -> None:
    """What was made once need not be made again."""
    notes = Notes(max_bytes=100)

    notes.put("etag", b"tag")

    assert notes.get("etag") == b"tag"
    assert notes.get("other") is None


def test_note_stays_as_it_is_when_it_is_made_again() -> None:
    """The first one is kept, and costs its bytes once."""
    notes = Notes(max_bytes=6)
    notes.put("etag", b"one")

    notes.put("etag", b"two")
    notes.put("more", b"123")

    assert (notes.get("etag"), notes.get("more")) == (b"one", b"123")


def test_note_is_left_out_when_there_is_no_room_for_it() -> None:
    """A smaller one may still fit."""
    notes = Notes(max_bytes=6)
    notes.put("a", b"1234")

    notes.put("b", b"123")
    notes.put("c", b"12")

    assert [notes.get(name) for name in "abc"] == [b"1234", None, b"12"]


@given(max_bytes=st.integers(0, 100), made=st.lists(st.tuples(st.integers(0, 9), st.binary(max_size=60)), max_size=40))
def test_notes_stay_within_their_bytes_whatever_is_made(max_bytes: int, made: list[tuple[int, bytes]]) -> None:
    """All notes of a value together take no more than the bound."""
    notes = Notes(max_bytes=max_bytes)

    for name, note in made:
        notes.put(name, note)

    assert sum(len(notes.get(name) or b"") for name in range(10)) <= max_bytes
