"""The three ways to name a session: by id, by name, by the hash of its API key."""

from dataclasses import dataclass
from functools import lru_cache
from uuid import UUID


@dataclass(slots=True, frozen=True)
class ById:
    """The session with this id."""

    id: UUID


@dataclass(slots=True, frozen=True)
class ByName:
    """The session that has this name now."""

    name: str


@dataclass(slots=True, frozen=True)
class ByKeyHash:
    """The session that this API key opens now.

    `likely_id` is the caller's guess, such as the id in the request's path: a hint that saves a
    look-up when it is right and is verified like every hint. `key_hash` is 32 bytes of SHA-256.
    """

    key_hash: bytes
    likely_id: UUID | None = None

    def __repr__(self) -> str:
        """Hide the hash."""
        return "ByKeyHash(…)"


SessionReference = ById | ByName | ByKeyHash


def parse_reference(text: str) -> ById | ByName:
    """Read `{sessionId}` of a path: a UUID in its canonical form is an id, anything else a name.

    Args:
        text: what the caller wrote, unescaped.
    """
    identifier = parse_uuid(text)
    return ByName(text) if identifier is None else ById(identifier)


def parse_uuid(text: str) -> UUID | None:
    """Return the UUID written in canonical form (36 characters, hyphens, any case), or None."""
    if len(text) != 36 or text.count("-") != 4:  # noqa: PLR2004  (8-4-4-4-12 digits of RFC 9562)
        return None
    return _parse_canonical(text)


@lru_cache(maxsize=4096)  # Each request reads the same few again and again; a miss costs 3 µs.
def _parse_canonical(text: str) -> UUID | None:
    try:
        identifier = UUID(text)
    except ValueError:
        return None
    return identifier if str(identifier) == text.lower() else None
