"""The port of a cache tier: bytes under keys, in some other place that may fail at any time.

Implementations: `RedisTier` (a Redis server), `ResilientTier` (guards another tier with mode, breaker
and deadline), `NullTier` (the no-op cache), and the fakes of the tests. One contract suite runs against
all of them.

Entries are written set-if-newer. The tier compares the `(epoch, version)` that stand at a fixed place of
the envelope (`envelope.EPOCH_OFFSET`, `envelope.VERSION_OFFSET`, `envelope.FLAGS_OFFSET`):

    stored                         | new: older version | same version      | newer version
    -------------------------------+--------------------+-------------------+--------------
    a value                        | refused            | a value replaces, | replaces
                                   |                    | a fence does not, |
                                   |                    | `retire` does     |
    a fence ("nothing below v")    | refused            | replaces          | replaces
    another epoch, or no envelope,
    or a wrong type, or nothing    | replaces

So a command that timed out here and runs there late does no harm, as long as what it would have to beat is still
there. Against values so late that it may not be, a value is refused unless a position (`position.py`) of its epoch
stands in the tier, and is not more than `MAX_VALUE_AGE_MS` ahead of the moment at which the value was read from the
truth. A fence is superseded if a position of another epoch stands there, and taken otherwise.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol


@dataclass(slots=True, frozen=True, kw_only=True)
class Entry:
    """An enveloped entry to be written set-if-newer.

    `lifetime_seconds` is the physical lifetime of the key, at least that of a fence. `retire`: this is
    a fence that also replaces a value of its own version (an operator wants the value gone).
    """

    key: str
    envelope: bytes
    lifetime_seconds: float
    retire: bool = False


@dataclass(slots=True, frozen=True, kw_only=True)
class Hint:
    """A plain text to be written as it is: a guess that its reader verifies. Has no version."""

    key: str
    text: bytes
    lifetime_seconds: float


Write = Entry | Hint

MAX_VALUE_AGE_MS = 5_000  # Fences live for ten minutes, but a server that evicts the wrong way may drop young ones.


class PutOutcome(StrEnum):
    """What became of a write. REPLACED_CORRUPT: written, over something that was no envelope of ours.

    REFUSED: a value that is too old, or there is no position to tell.
    """

    APPLIED = "applied"
    SUPERSEDED = "superseded"
    REFUSED = "refused"
    REPLACED_CORRUPT = "replaced_corrupt"


@dataclass(slots=True, frozen=True, kw_only=True)
class TierInfo:
    """What a tier says of itself: `version` such as "Redis 7.0.15", and how many keys it holds.

    `used_memory_bytes` and `maxmemory_policy` (such as "volatile-ttl") are None where the tier does not tell.
    """

    version: str
    total_keys: int
    used_memory_bytes: int | None = None
    maxmemory_policy: str | None = None


ADVISED_POLICIES = ("volatile-ttl", "noeviction")
"""What to set maxmemory-policy to. Under a heavy fill, allkeys-lru evicted 38 of 1,050 fences younger than 3 s,
volatile-lru 44 of 1,056, volatile-ttl none; noeviction refuses writes instead."""


class CacheTier(Protocol):
    """Bytes under keys. Every method raises CacheError and nothing else; after a cancellation a write
    may or may not have happened, and the tier is fit for the next call.
    """

    async def get_many(self, keys: Sequence[str]) -> list[bytes | None]:
        """Return what stands under each key, in order; None for nothing and for a wrong type. One round trip."""
        ...

    async def put_many(self, writes: Sequence[Write]) -> list[PutOutcome]:
        """Write each, in order, by the rules above; a hint is always APPLIED. One round trip."""
        ...

    async def discard(self, key: str, expected: bytes) -> bool:
        """Remove the key if exactly `expected` stands there; tell whether it was removed."""
        ...

    async def probe(self) -> None:
        """Prove that the tier serves reads and writes: PING, write a canary, read it back."""
        ...

    async def describe(self) -> TierInfo:
        """Ask the tier what it is and how full."""
        ...

    async def reset(self) -> None:
        """Drop idle connections, so that the next call makes new ones. Does not wait for the network."""
        ...

    async def close(self) -> None:
        """Release everything. Calls after this raise CacheUnavailable."""
        ...
