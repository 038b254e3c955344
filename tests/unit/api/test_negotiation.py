"""Accept and If-None-Match, without a request around them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zpmeow.api.negotiation import preferred, still_holds

OFFERS = ("application/json", "image/png", "image/svg+xml")


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        (None, "application/json"),
        ("", "application/json"),
        ("*/*", "application/json"),
        ("image/*", "image/png"),
        ("IMAGE/PNG", "image/png"),
        ("image/png;q=0.5, image/svg+xml;q=0.6", "image/svg+xml"),
        ("*/*;q=0.9, application/json;q=0.1", "image/png"),
        ("image/*;q=0.9, image/png;q=0.1", "image/svg+xml"),
        ("image/png;q=0", "application/json"),
        ("image/png;q=nan", "application/json"),
        ("image/png;q=2", "application/json"),
        ("image/png; charset=utf-8 ; q=1", "image/png"),
        ("application/json;q=0.5, image/png;q=0.5", "application/json"),
    ],
)
def test_preferred_follows_q_values_and_the_most_specific_range(accept: str | None, expected: str) -> None:
    """The caller's wish decides; the server's order only breaks ties."""
    assert preferred(accept, OFFERS) == expected


@given(st.text())
def test_preferred_always_names_an_offer(accept: str) -> None:
    """No header is strange enough to leave the caller without an answer."""
    assert preferred(accept, OFFERS) in OFFERS


@pytest.mark.parametrize(
    ("if_none_match", "holds"),
    [
        (None, False),
        ("", False),
        ('"a"', True),
        ('W/"a"', True),
        ('"b", W/"a"', True),
        ("*", True),
        ('"b"', False),
        ("a", False),
        ('"a-"', False),
    ],
)
def test_copy_holds_when_its_tag_is_among_those_sent(if_none_match: str | None, *, holds: bool) -> None:
    """Tags are compared weakly, lists and the asterisk included."""
    assert still_holds(if_none_match, '"a"') is holds
