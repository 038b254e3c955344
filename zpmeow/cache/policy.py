"""What is cached and for how long: the types that a user of the cache describes its entries with.

A key is text; its policy says how its value becomes bytes and back, and how long it stays fresh. The
physical lifetime in the tier is longer: never shorter than a fence's, so that no slow fill can slip in
behind a value that has just expired, and as long as stale answers may be wanted.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol

FENCE_SECONDS = 600.0  # Longer than any load, fill or late command can live: those end within seconds.


@dataclass(slots=True, frozen=True, kw_only=True, eq=False)
class EntryPolicy:
    """How the entries of one entity are kept. Two policies are the same only if they are one object.

    Attributes:
        entity: the name for metrics.
        kind: the entity's number in the envelope, 0 to 255. Never reused.
        schema: the number of the encoding; raised whenever `encode` changes its output.
        fresh_seconds: how long after it was loaded a value may be served.
        stale_seconds: how much longer it may be served, marked, while the database is away; 0 = never.
        encode: a value's bytes.
        decode: the reverse; raises ValueError, KeyError, TypeError or AttributeError on bytes that it cannot read.
    """

    entity: str
    kind: int
    schema: int
    fresh_seconds: float
    stale_seconds: float
    encode: Callable[[Any], bytes]
    decode: Callable[[bytes], Any]

    @property
    def lifetime_seconds(self) -> float:
        """How long the key lives in the tier."""
        return max(self.fresh_seconds + self.stale_seconds, FENCE_SECONDS)


@dataclass(slots=True, frozen=True)
class EntryKey:
    """Where an entry stands, and its policy."""

    text: str
    policy: EntryPolicy


@dataclass(slots=True, frozen=True, kw_only=True, eq=False)
class HintPolicy:
    """How the hints of one kind are kept: `entity` is the name for metrics."""

    entity: str
    lifetime_seconds: float


@dataclass(slots=True, frozen=True)
class HintKey:
    """Where a hint stands, and its policy."""

    text: str
    policy: HintPolicy


@dataclass(slots=True, frozen=True, kw_only=True)
class HintAnswer:
    """What stands under a hint's key, if anything. `bypassed`: the tier was not even asked."""

    text: bytes | None
    bypassed: bool


@dataclass(slots=True, frozen=True, kw_only=True)
class Loaded:
    """A value as the truth has it.

    `expires_at_ms`: it must not be served at or after this moment (milliseconds since 1970, the
    database's clock), whatever the policy says; None: the policy alone decides.
    """

    value: Any
    version: int
    expires_at_ms: int | None = None


@dataclass(slots=True, frozen=True, kw_only=True)
class LoadMark:
    """When a load began: what it brings is as old as that, and belongs to the epoch of that moment."""

    began_at_ms: int
    epoch: bytes | None


class Loader(Protocol):
    """Asks the truth for some keys at once. What is missing in the answer does not exist."""

    async def __call__(self, keys: Sequence[EntryKey], /) -> Mapping[EntryKey, Loaded]:
        """Load the values of the keys, or raise the error that means: the truth cannot answer now."""
        ...


class Origin(StrEnum):
    """Who answered."""

    TIER = "tier"
    LOAD_AFTER_MISS = "load_after_miss"
    LOAD_AFTER_BYPASS = "load_after_bypass"
    STALE = "stale"


@dataclass(slots=True, kw_only=True)
class Answer:
    """A value, its row's version, and who answered."""

    value: Any
    version: int
    origin: Origin
