"""The tier that is none."""

import pytest

from zpmeow.cache.errors import CacheBypassed
from zpmeow.cache.null_tier import NullTier
from zpmeow.cache.tier import Hint


async def test_calls_are_bypassed_when_there_is_no_cache() -> None:
    """Nothing reads as a miss: every call says that it was not made."""
    tier = NullTier()

    for call in (
        tier.get_many(["key"]),
        tier.put_many([Hint(key="key", text=b"text", lifetime_seconds=1)]),
        tier.discard("key", b"text"),
        tier.probe(),
        tier.describe(),
    ):
        with pytest.raises(CacheBypassed, match="disabled"):
            await call


async def test_reset_and_close_do_nothing_when_there_is_no_cache() -> None:
    """They can be called like those of any tier."""
    tier = NullTier()

    await tier.reset()
    await tier.close()
