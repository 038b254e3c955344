"""Redaction: what looks like a secret never gets into a line, and what does not stays as it is."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zpmeow.domain.api_key import generate_api_key
from zpmeow.telemetry.redaction import make_redactor

redact = make_redactor()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("key zpm_0123456789abcdefghij used", "key zpm_*** used"),
        ("x=zpm_0123456789abcdefghij", "x=zpm_***"),
        ("socks5://me:hunter2@proxy:1080", "socks5://me:***@proxy:1080"),
        ("redis://:hunter2@h:6379/0", "redis://:***@h:6379/0"),
        ("http://me:pass@word@proxy", "http://me:***@proxy"),
        ("postgresql://h/db?password=hunter2&sslmode=require", "postgresql://h/db?password=***&sslmode=require"),
        ("Authorization: Bearer hunter2hunter2", "Authorization: Bearer ***"),
        (
            "Key (device_jid)=(5511999999999@s.whatsapp.net) already exists",
            "Key (device_jid)=(***@s.whatsapp.net) already exists",
        ),
        ("5511999999999:12@s.whatsapp.net", "***@s.whatsapp.net"),
        ("5511999999999.0:12@s.whatsapp.net", "***@s.whatsapp.net"),
        ("2@AbCdEfGhIjKlMnOpQrSt,uvw+/=,xyz==", "***"),
        ("zpmeow:key:" + "ab" * 32, "zpmeow:key:abababab***"),
    ],
)
def test_secret_is_masked(text: str, expected: str) -> None:
    """Keys, passwords in URLs, devices and QR codes are masked; what stands around them stays."""
    assert redact(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "Cache HIT for session test-session",
        "/sessions/{sessionId}/info",
        "zpmeow-redis; hit",
        "http://localhost:8080/health?a=b",
        "me@example.org wrote at 12:30",
        "PostgreSQL 18.4 at postgresql://localhost:5432/zpmeow",
        "zpm_ is a prefix",
        "",
    ],
)
def test_innocent_text_stays(text: str) -> None:
    """Lines stay readable."""
    assert redact(text) == text


@given(st.text(max_size=50), st.text(max_size=50))
def test_generated_key_is_masked_wherever_it_stands(before: str, after: str) -> None:
    """No text around a key lets it through."""
    key = generate_api_key()

    assert key not in redact(f"{before}{key}{after}")


@given(st.text(st.characters(codec="utf-8"), min_size=6, max_size=40), st.text(max_size=30))
def test_own_secret_is_masked_whatever_it_looks_like(secret: str, around: str) -> None:
    """The service's own keys and passwords need not look like any."""
    assert secret not in make_redactor([secret])(f"{around} {secret} {around}").replace("***", "\0")


def test_longer_secret_is_masked_whole_when_it_contains_a_shorter_one() -> None:
    """Nothing of the longer one is left over."""
    assert make_redactor(["hunter2", "hunter2-and-more"])("<hunter2-and-more>") == "<***>"


def test_short_own_secret_is_not_masked() -> None:
    """A password such as `db` would make every line unreadable."""
    assert make_redactor(["db"])("the db answers") == "the db answers"


def test_long_texts_take_no_time_to_speak_of() -> None:
    """No pattern goes over a long text again and again (this would take minutes, or for ever)."""
    for unit in ("1", "1:", "://a:", "2@a", "zpm_", "key:", "password=", "a@", "bearer "):
        redact(unit * 20_000 + "@")
