"""A cache tier that raises what a test tells it to."""

from collections.abc import Sequence

from typing_extensions import override

from zpmeow.cache.tier import CacheTier, PutOutcome, TierInfo, Write


class FailingTier(CacheTier):
    """Passes calls on to another tier while `error` is None, and raises it otherwise.

    `script`, if not empty, decides for the next calls instead, one item each.
    """

    def __init__(self, inner: CacheTier, *, error: BaseException | None = None) -> None:
        """Fail in front of `inner`."""
        self._inner = inner
        self.error = error
        self.script: list[BaseException | None] = []
        self.attempts = 0
        self.resets = 0

    @override
    async def get_many(self, keys: Sequence[str]) -> list[bytes | None]:
        self._fail()
        return await self._inner.get_many(keys)

    @override
    async def put_many(self, writes: Sequence[Write]) -> list[PutOutcome]:
        self._fail()
        return await self._inner.put_many(writes)

    @override
    async def discard(self, key: str, expected: bytes) -> bool:
        self._fail()
        return await self._inner.discard(key, expected)

    @override
    async def probe(self) -> None:
        self._fail()
        await self._inner.probe()

    @override
    async def describe(self) -> TierInfo:
        self._fail()
        return await self._inner.describe()

    @override
    async def reset(self) -> None:
        self.resets += 1
        await self._inner.reset()

    @override
    async def close(self) -> None:
        await self._inner.close()

    def _fail(self) -> None:
        self.attempts += 1
        error = self.script.pop(0) if self.script else self.error
        if error is not None:
            raise error
