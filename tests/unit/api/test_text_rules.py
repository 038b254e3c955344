"""The rules for texts: what passes can be stored, split and joined; the document says the same."""

import re
from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zpmeow.api import text_rules
from zpmeow.api.text_rules import DEVICE_JID, NAME, OWN_API_KEY, PROXY_URL, QR_CODE, REASON, WEBHOOK_URL, TextRule
from zpmeow.domain.api_key import is_plausible_api_key
from zpmeow.domain.proxy import split_password, with_password
from zpmeow.domain.references import parse_uuid

RULES = [rule for rule in vars(text_rules).values() if isinstance(rule, TextRule)]


@pytest.mark.parametrize("rule", RULES)
def test_example_keeps_its_own_rule(rule: TextRule) -> None:
    """What the document shows is accepted."""
    assert rule.allows(rule.example)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("bad", ["\0", "\n", "\r", "\x7f"])
def test_no_rule_lets_through_what_a_database_cannot_store(rule: TextRule, bad: str) -> None:
    """Neither NUL nor line breaks pass, at no end of the text; lone surrogates are no JSON."""
    assert not any(rule.allows(text) for text in (rule.example + bad, bad + rule.example))


@given(st.from_regex(re.compile(NAME.pattern), fullmatch=True))
def test_name_is_never_mistaken_for_an_id(name: str) -> None:
    """A path segment is an id or a name, never both."""
    assert parse_uuid(name) is None or not NAME.allows(name)


@given(st.from_regex(re.compile(PROXY_URL.pattern), fullmatch=True))
def test_proxy_password_can_be_taken_out_and_put_back(url: str) -> None:
    """Splitting never fails on what the rule lets through, and joining gives an equal URL."""
    stripped, password = split_password(url)

    if password is None:
        assert stripped == url
    else:
        assert "\0" not in password
        assert "\ufffd" not in password
        assert split_password(with_password(stripped, password)) == (stripped, password)


@given(st.from_regex(re.compile(WEBHOOK_URL.pattern), fullmatch=True))
def test_webhook_has_a_host_and_a_port_that_exists(url: str) -> None:
    """What the rule lets through can be called."""
    parts = urlsplit(url)

    assert parts.hostname
    assert parts.port is None or 1 <= parts.port <= 65535
    assert parts.username is None


@given(st.text(alphabet=st.characters(min_codepoint=33, max_codepoint=126), min_size=32, max_size=100))
def test_own_key_opens_its_session_later(key: str) -> None:
    """A key that is accepted at creation is accepted at the door."""
    assert not OWN_API_KEY.allows(key) or is_plausible_api_key(key)


def test_lengths_are_bounds_of_the_whole_text() -> None:
    """The longest is allowed, one more is not."""
    for rule, letter in ((NAME, "x"), (QR_CODE, "x"), (REASON, "é"), (OWN_API_KEY, "x")):
        assert rule.allows(letter * rule.longest)
        assert not rule.allows(letter * (rule.longest + 1))
    assert not DEVICE_JID.allows("1" * 120 + "@s.whatsapp.net")
