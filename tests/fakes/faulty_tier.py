"""A cache tier with the faults of a real one: away, late, amnesic, corrupt."""

from collections.abc import Sequence
from random import Random

from typing_extensions import override

from tests.fakes.memory_tier import MemoryTier
from zpmeow.cache.change_sink import ChangeSink
from zpmeow.cache.errors import CacheBypassed, CacheTimeout, CacheUnavailable
from zpmeow.cache.tier import CacheTier, Entry, PutOutcome, TierInfo, Write


class FaultyTier(CacheTier, ChangeSink):
    """Passes calls on to a `MemoryTier`, unless told to fail.

    `fault` is None (works), "refused", "bypassed", "timeout" (nothing happened), "read only" (reads work, all else is
    refused), or "late": the call times out for its caller, and the write happens when `run_late_writes` is called,
    whatever came in between.
    """

    def __init__(self, inner: MemoryTier) -> None:
        """Fail in front of `inner`."""
        self.inner = inner
        self.fault: str | None = None
        self._late: list[list[Write]] = []

    async def run_late_writes(self) -> None:
        """Let the writes arrive whose callers gave them up."""
        late, self._late = self._late, []
        for writes in late:
            await self.inner.put_many(writes)

    def corrupt(self, random: Random) -> None:
        """Damage one stored value: flip a bit, cut it, swap it with another, or change its type."""
        keys = sorted(self.inner.stored)
        if not keys:
            return
        key, other = random.choice(keys), random.choice(keys)
        value = self.inner.stored[key]
        if not value:
            return
        kind = random.choice(["flip", "cut", "swap", "type"])
        if kind == "flip":
            flipped = bytearray(value)
            position = random.randrange(len(flipped) * 8)
            flipped[position // 8] ^= 1 << position % 8
            self.inner.stored[key] = bytes(flipped)
        elif kind == "cut":
            self.inner.stored[key] = value[: random.randrange(len(value))]
        elif kind == "swap":
            self.inner.stored[key], self.inner.stored[other] = self.inner.stored[other], value
        else:
            self.inner.stored[key] = None

    def wipe(self) -> None:
        """Forget everything, as FLUSHALL does."""
        self.inner.stored.clear()
        self.inner.expires_at.clear()

    @override
    async def get_many(self, keys: Sequence[str]) -> list[bytes | None]:
        self._fail(reads=True)
        return await self.inner.get_many(keys)

    @override
    async def put_many(self, writes: Sequence[Write]) -> list[PutOutcome]:
        if self.fault == "late":
            self._late.append(list(writes))
        self._fail()
        return await self.inner.put_many(writes)

    @override
    async def discard(self, key: str, expected: bytes) -> bool:
        self._fail()
        return await self.inner.discard(key, expected)

    @override
    async def read_position(self) -> bytes | None:
        self._fail(reads=True)
        return await self.inner.read_position()

    @override
    async def apply(self, fences: Sequence[Entry], *, expected: bytes | None, position: bytes) -> bool:
        self._fail()
        return await self.inner.apply(fences, expected=expected, position=position)

    @override
    async def probe(self) -> None:
        self._fail()

    @override
    async def describe(self) -> TierInfo:
        self._fail()
        return await self.inner.describe()

    @override
    async def reset(self) -> None:
        await self.inner.reset()

    @override
    async def close(self) -> None:
        await self.inner.close()

    def _fail(self, *, reads: bool = False) -> None:
        match self.fault:
            case None:
                return
            case "read only":
                if not reads:
                    raise CacheUnavailable(self.fault)
            case "refused":
                raise CacheUnavailable(self.fault)
            case "bypassed":
                raise CacheBypassed(self.fault)
            case _:
                raise CacheTimeout(self.fault)
