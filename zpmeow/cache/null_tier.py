"""The no-op tier: there is no cache (`CACHE_ENABLED=false`).

It refuses every call as bypassed instead of reading as empty: a look-up that nobody made is neither a hit
nor a miss, and does not spoil the hit ratio.
"""

from collections.abc import Sequence
from typing import Never

from typing_extensions import override

from zpmeow.cache.errors import CacheDisabled
from zpmeow.cache.tier import CacheTier, Write


class NullTier(CacheTier):
    """A CacheTier that is none: calls raise CacheDisabled, without waiting."""

    @override
    async def get_many(self, keys: Sequence[str]) -> Never:
        raise CacheDisabled(_DISABLED)

    @override
    async def put_many(self, writes: Sequence[Write]) -> Never:
        raise CacheDisabled(_DISABLED)

    @override
    async def discard(self, key: str, expected: bytes) -> Never:
        raise CacheDisabled(_DISABLED)

    @override
    async def probe(self) -> Never:
        raise CacheDisabled(_DISABLED)

    @override
    async def describe(self) -> Never:
        raise CacheDisabled(_DISABLED)

    @override
    async def reset(self) -> None:
        """Drop nothing."""

    @override
    async def close(self) -> None:
        """Release nothing."""


_DISABLED = "disabled"
