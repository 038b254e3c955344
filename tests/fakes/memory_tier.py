"""A cache tier and a sink in a dict, with the same rules for writes as the real one and a clock that tests turn."""

from collections.abc import Sequence

from typing_extensions import override

from zpmeow.cache.change_sink import ChangeSink
from zpmeow.cache.envelope import (
    EPOCH_OFFSET,
    FLAGS_OFFSET,
    HEADER_BYTES,
    MAGIC,
    MAX_ENVELOPE_BYTES,
    VERSION_OFFSET,
)
from zpmeow.cache.errors import CacheUnavailable
from zpmeow.cache.position import POSITION_KEY, decode_position
from zpmeow.cache.tier import MAX_VALUE_AGE_MS, CacheTier, Entry, PutOutcome, TierInfo, Write

WRITTEN_AT_OFFSET = 40


class MemoryTier(CacheTier, ChangeSink):
    """Remembers what it is given until its lifetime is over on `now_seconds`.

    `calls` names each operation in order. `stored` may be changed by a test; a value that is None stands
    for a key of a wrong type.
    """

    def __init__(self) -> None:
        """Begin empty, at 0 seconds."""
        self.now_seconds = 0.0
        self.stored: dict[str, bytes | None] = {}
        self.expires_at: dict[str, float] = {}
        self.calls: list[str] = []
        self.resets = 0
        self.closed = False

    def place(self, key: str, value: bytes | None) -> None:
        """Put something under a key without any rule and without an end."""
        self.stored[key] = value
        self.expires_at.pop(key, None)

    def lifetime_seconds(self, key: str) -> float | None:
        """Tell how long a key will still stand; None if for ever."""
        self._expire()
        return self.expires_at[key] - self.now_seconds if key in self.expires_at else None

    @override
    async def get_many(self, keys: Sequence[str]) -> list[bytes | None]:
        self._begin("get")
        return [self.stored.get(key) for key in keys]

    @override
    async def put_many(self, writes: Sequence[Write]) -> list[PutOutcome]:
        self._begin("put")
        return [self._put(write) for write in writes]

    @override
    async def discard(self, key: str, expected: bytes) -> bool:
        self._begin("delete")
        if self.stored.get(key) != expected:
            return False
        del self.stored[key]
        self.expires_at.pop(key, None)
        return True

    @override
    async def read_position(self) -> bytes | None:
        (position,) = await self.get_many([POSITION_KEY])
        return position

    @override
    async def apply(self, fences: Sequence[Entry], *, expected: bytes | None, position: bytes) -> bool:
        self._begin("apply")
        if POSITION_KEY in self.stored and self.stored[POSITION_KEY] is None:
            del self.stored[POSITION_KEY]  # A wrong type is no position.
        if self.stored.get(POSITION_KEY) != expected:
            return False
        for fence in fences:
            self._put(fence)
        self.place(POSITION_KEY, position)
        return True

    @override
    async def probe(self) -> None:
        self._begin("ping")

    @override
    async def describe(self) -> TierInfo:
        self._begin("info")
        return TierInfo(version="Memory 1.0.0", total_keys=len(self.stored))

    @override
    async def reset(self) -> None:
        self.resets += 1

    @override
    async def close(self) -> None:
        self.closed = True

    def _begin(self, operation: str) -> None:
        if self.closed:
            message = "closed"
            raise CacheUnavailable(message)
        self.calls.append(operation)
        self._expire()

    def _expire(self) -> None:
        for key in [key for key, at in self.expires_at.items() if at <= self.now_seconds]:
            del self.expires_at[key]
            del self.stored[key]

    def _put(self, write: Write) -> PutOutcome:
        expires_at = self.now_seconds + write.lifetime_seconds
        if not isinstance(write, Entry):
            self.stored[write.key], self.expires_at[write.key] = write.text, expires_at
            return PutOutcome.APPLIED
        outcome = self._judge(write)
        if outcome in {PutOutcome.APPLIED, PutOutcome.REPLACED_CORRUPT}:
            self.stored[write.key], self.expires_at[write.key] = write.envelope, expires_at
        elif _is_fence(write.envelope) and write.key in self.expires_at:
            self.expires_at[write.key] = max(self.expires_at[write.key], expires_at)
        return outcome

    def _judge(self, entry: Entry) -> PutOutcome:
        refusal = self._refusal(entry.envelope)
        if refusal is not None:
            return refusal
        if entry.key not in self.stored:
            return PutOutcome.APPLIED
        old = self.stored[entry.key]
        if old is None or not _is_envelope(old):
            return PutOutcome.REPLACED_CORRUPT
        if old[EPOCH_OFFSET:VERSION_OFFSET] != entry.envelope[EPOCH_OFFSET:VERSION_OFFSET]:
            return PutOutcome.APPLIED
        old_version, new_version = _version(old), _version(entry.envelope)
        same_may_replace = _is_fence(old) or not _is_fence(entry.envelope) or entry.retire
        if new_version > old_version or (new_version == old_version and same_may_replace):
            return PutOutcome.APPLIED
        return PutOutcome.SUPERSEDED

    def _refusal(self, envelope: bytes) -> PutOutcome | None:
        """Say what the position has against an entry, if anything."""
        position = decode_position(self.stored.get(POSITION_KEY) or b"")
        if position is None:
            return None if _is_fence(envelope) else PutOutcome.REFUSED
        if position.epoch != envelope[EPOCH_OFFSET:VERSION_OFFSET]:
            return PutOutcome.SUPERSEDED if _is_fence(envelope) else PutOutcome.REFUSED
        written_at_ms = int.from_bytes(envelope[WRITTEN_AT_OFFSET : WRITTEN_AT_OFFSET + 8])
        is_late = position.at_ms - written_at_ms > MAX_VALUE_AGE_MS
        return PutOutcome.REFUSED if is_late and not _is_fence(envelope) else None


def _is_envelope(data: bytes) -> bool:
    return HEADER_BYTES <= len(data) <= MAX_ENVELOPE_BYTES and data.startswith(MAGIC) and data[FLAGS_OFFSET] in (0, 1)


def _is_fence(envelope: bytes) -> bool:
    return envelope[FLAGS_OFFSET] == 0


def _version(envelope: bytes) -> int:
    return int.from_bytes(envelope[VERSION_OFFSET : VERSION_OFFSET + 8])
