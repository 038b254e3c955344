"""Naming a session: canonical UUIDs are ids, all else is a name."""

from uuid import UUID

import pytest

from zpmeow.domain.references import ById, ByKeyHash, ByName, parse_reference

_ID = UUID("0e6bd8a4-1f0f-4a4a-9c39-0f7d1c1f9a11")


@pytest.mark.parametrize("text", [str(_ID), str(_ID).upper()])
def test_reference_is_id_when_text_is_a_canonical_uuid(text: str) -> None:
    """Hyphenated UUIDs of any case are ids."""
    assert parse_reference(text) == ById(_ID)


@pytest.mark.parametrize(
    "text", ["test-session", _ID.hex, f"{{{_ID}}}", f"urn:uuid:{_ID}", "0e6bd8a41-f0f-4a4a-9c39-0f7d1c1f9a11", ""]
)
def test_reference_is_name_when_text_is_anything_else(text: str) -> None:
    """Other spellings that Python's UUID takes are names: an id has one spelling."""
    assert parse_reference(text) == ByName(text)


def test_key_reference_does_not_show_the_hash() -> None:
    """The repr of a reference by key is safe to log."""
    assert "ff" not in repr(ByKeyHash(b"\xff" * 32))
