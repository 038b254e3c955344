"""API keys: what is generated is accepted, what is altered is refused without a look-up."""

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zpmeow.domain.api_key import generate_api_key, hash_api_key, is_plausible_api_key

_BASE62 = string.digits + string.ascii_letters


def test_generated_key_is_plausible_and_long_enough() -> None:
    """A generated key passes its own check and has 32 random characters of base62: 190 bits."""
    key = generate_api_key()

    assert is_plausible_api_key(key)
    assert key.startswith("zpm_")
    assert len(key) == 42
    assert set(key[4:]) <= set(_BASE62)


def test_generated_keys_differ() -> None:
    """No two keys of a thousand are the same."""
    assert len({generate_api_key() for _ in range(1000)}) == 1000


@given(position=st.integers(4, 41), replacement=st.sampled_from(_BASE62))
def test_altered_key_is_refused_whatever_character_changes(position: int, replacement: str) -> None:
    """One changed character anywhere makes a generated key implausible."""
    key = generate_api_key()
    if key[position] == replacement:
        return

    altered = key[:position] + replacement + key[position + 1 :]

    assert not is_plausible_api_key(altered)


@pytest.mark.parametrize(
    ("key", "plausible"),
    [
        ("a" * 31, False),
        ("a" * 32, True),
        ("a" * 100, True),
        ("a" * 101, False),
        ("a" * 31 + "é", False),
        ("a" * 31 + "\n", False),
        ("zpm_" + "a" * 38, False),
        ("zpm_", False),
        ("zpm_" + "é" * 38, False),
        ("", False),
    ],
)
def test_brought_key_is_judged_by_length_and_characters(key: str, plausible: bool) -> None:  # noqa: FBT001  (a parameter of the table)
    """A key without our prefix has 32 to 100 printable ASCII characters; with it, a right checksum."""
    assert is_plausible_api_key(key) is plausible


def test_hash_is_sha256_of_the_key() -> None:
    """The stored hash is plain SHA-256, so that other tools can make it."""
    assert hash_api_key("abc").hex() == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
