"""Proxy passwords come out of the URL, and go back in unchanged."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zpmeow.domain.proxy import split_password, with_mask, with_password


def test_password_is_taken_out_of_the_url() -> None:
    """What is left names the user and not the password."""
    assert split_password("socks5://user:se%40cret@proxy.example:1080") == (
        "socks5://user@proxy.example:1080",
        "se@cret",
    )


@pytest.mark.parametrize("url", ["http://proxy.example:3128", "http://user@proxy.example", "http://[::1]:3128"])
def test_url_stays_as_it_is_when_it_has_no_password(url: str) -> None:
    """Nothing is taken out where nothing is."""
    assert split_password(url) == (url, None)


def test_mask_shows_that_there_is_a_password() -> None:
    """Callers see three stars in its place."""
    assert with_mask("http://user@proxy.example:3128") == "http://user:***@proxy.example:3128"


def test_empty_user_keeps_its_password() -> None:
    """A URL may have a password without a user."""
    url, password = split_password("http://:secret@proxy.example")

    assert password == "secret"
    assert with_password(url, "secret") == "http://:secret@proxy.example"


@given(password=st.text(st.characters(codec="utf-8"), min_size=1))
def test_password_survives_the_way_out_and_in(password: str) -> None:
    """Any password is the same after it was put in and taken out."""
    url = with_password("http://user@proxy.example:3128", password)

    assert split_password(url) == ("http://user@proxy.example:3128", password)
