"""The port through which the relay brings changes to a tier: entries and position as one step, or not at all.

Implementations: `RedisTier`, and the fake of the tests; one contract suite runs against both.
"""

from collections.abc import Sequence
from typing import Protocol

from zpmeow.cache.tier import Entry


class ChangeSink(Protocol):
    """A tier as the relay sees it. Every method raises CacheError and nothing else."""

    async def probe(self) -> None:
        """Prove that the tier takes writes."""
        ...

    async def read_position(self) -> bytes | None:
        """Return the position that stands in the tier, if any."""
        ...

    async def apply(self, fences: Sequence[Entry], *, expected: bytes | None, position: bytes) -> bool:
        """Write the fences, set-if-newer, and replace the position, if exactly `expected` stands there (None: nothing).

        Tells whether it did. One round trip. After an error or a cancellation it may happen later, unless the position
        has changed by then.
        """
        ...
