"""A cache tier whose answers come when a test lets them."""

import asyncio
from collections.abc import Sequence

from typing_extensions import override

from zpmeow.cache.tier import CacheTier, PutOutcome, TierInfo, Write


class SlowTier(CacheTier):
    """Passes calls on to another tier; between `hang` and `resume` each waits first.

    `waiting` calls are held up now, `cancelled` ones were given up by their callers while they were.
    """

    def __init__(self, inner: CacheTier) -> None:
        """Answer at once until told otherwise."""
        self._inner = inner
        self._go_on = asyncio.Event()
        self._go_on.set()
        self.waiting = 0
        self.attempts = 0
        self.cancelled = 0

    def hang(self) -> None:
        """Let all calls from now on wait."""
        self._go_on.clear()

    def resume(self) -> None:
        """Let the waiting calls, and those to come, go on."""
        self._go_on.set()

    @override
    async def get_many(self, keys: Sequence[str]) -> list[bytes | None]:
        await self._wait()
        return await self._inner.get_many(keys)

    @override
    async def put_many(self, writes: Sequence[Write]) -> list[PutOutcome]:
        await self._wait()
        return await self._inner.put_many(writes)

    @override
    async def discard(self, key: str, expected: bytes) -> bool:
        await self._wait()
        return await self._inner.discard(key, expected)

    @override
    async def probe(self) -> None:
        await self._wait()
        await self._inner.probe()

    @override
    async def describe(self) -> TierInfo:
        await self._wait()
        return await self._inner.describe()

    @override
    async def reset(self) -> None:
        await self._inner.reset()

    @override
    async def close(self) -> None:
        await self._inner.close()

    async def _wait(self) -> None:
        self.attempts += 1
        self.waiting += 1
        try:
            await self._go_on.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        finally:
            self.waiting -= 1
