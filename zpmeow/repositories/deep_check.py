"""Holds every entry in Redis against the database: what `zpmeow doctor --deep` does.

    all keys, some hundred at a time ── decode ── the same version and content in the database? ──→ counted
                                                        └── other: looked at again a moment later ──→ told

The second look is for what was being changed while it was looked at: what is still there then, in the same version, is
not.
"""

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass, fields, replace
from typing import Protocol
from uuid import UUID

from zpmeow.cache.entry_codec import EntryCodec
from zpmeow.cache.envelope import Corruption
from zpmeow.domain.records import Entity, Record, SessionRecord, Snapshot
from zpmeow.domain.references import parse_uuid
from zpmeow.repositories.cache_policies import CachePolicies

BATCH = 500
SECOND_LOOK_SECONDS = 1.0
_KEY = re.compile(r"zpmeow:\{(?P<id>[0-9a-f-]{36})\}:(?P<entity>session|status|qr|credential)")


class KeyedTier(Protocol):
    """A tier whose keys can be listed."""

    async def scan(self, cursor: int, *, pattern: str, count: int) -> tuple[int, list[str]]:
        """Return the next cursor (0: that was all) and some keys."""
        ...

    async def get_many(self, keys: Sequence[str]) -> list[bytes | None]:
        """Return what stands under each key."""
        ...


_ALL = frozenset(Entity)
FindMany = Callable[[Collection[UUID], frozenset[Entity]], Awaitable[dict[UUID, Snapshot]]]


@dataclass(slots=True, frozen=True, kw_only=True)
class Difference:
    """An entry that is not as the database has it, told without values."""

    key: str
    text: str

    def __str__(self) -> str:
        """Return one line."""
        return f"{self.key}: {self.text}"


@dataclass(slots=True, kw_only=True)
class DeepCounts:
    """How many keys were seen, and what they were. `void`: of another epoch, a fence, or past all use."""

    keys: int = 0
    equal: int = 0
    void: int = 0
    other: int = 0


@dataclass(slots=True, frozen=True)
class _Found:
    key: str
    session_id: UUID
    entity: Entity
    version: int
    record: Record


class DeepCheck:
    """Goes through all entries once."""

    def __init__(
        self,
        *,
        tier: KeyedTier,
        find_many: FindMany,
        policies: CachePolicies,
        codec: EntryCodec,
        now_ms: Callable[[], int],
        epoch: bytes,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """Compare `tier` with what `find_many` says. `now_ms`: the clock that `codec` goes by."""
        self._tier = tier
        self._find_many = find_many
        self._policies = policies
        self._codec = codec
        self._now_ms = now_ms
        self._epoch = epoch
        self._sleep = sleep
        self.counts = DeepCounts()

    async def differences(self) -> AsyncIterator[Difference]:
        """Yield what differs. Raises CacheError and Unavailable."""
        cursor = 0
        while True:
            cursor, keys = await self._tier.scan(cursor, pattern="zpmeow:{*", count=BATCH)
            self.counts.keys += len(keys)
            doubtful = {found.key: found.version for found, _ in await self._compare(keys, counts=self.counts)}
            if doubtful:
                await self._sleep(SECOND_LOOK_SECONDS)
                for found, text in await self._compare(list(doubtful), counts=DeepCounts()):
                    if found.version == doubtful[found.key]:
                        yield Difference(key=found.key, text=text)
            if cursor == 0:
                return

    async def _compare(self, keys: Sequence[str], *, counts: DeepCounts) -> list[tuple[_Found, str]]:
        if not keys:
            return []
        entries = []
        for key, data in zip(keys, await self._tier.get_many(keys), strict=True):
            found = self._read(key, data, counts)
            if found is not None:
                entries.append(found)
        truth = await self._find_many({found.session_id for found in entries}, _ALL) if entries else {}
        different = []
        for found in entries:
            text = _difference(found, truth.get(found.session_id))
            if text is None:
                counts.equal += 1
            else:
                different.append((found, text))
        return different

    def _read(self, key: str, data: bytes | None, counts: DeepCounts) -> _Found | None:
        parsed = _KEY.fullmatch(key)
        session_id = None if parsed is None else parse_uuid(parsed["id"])
        if parsed is None or session_id is None:
            counts.other += 1
            return None
        entity = Entity(parsed["entity"])
        entry_key = self._policies.entry_key(session_id, entity)
        now_ms = self._now_ms()
        reading = None if data is None else self._codec.read(entry_key, data, epoch=self._epoch, now_ms=now_ms)
        if reading is None:
            counts.void += 1
            return None
        if isinstance(reading, Corruption):
            counts.other += 1  # It is a miss for every reader, who removes it.
            return None
        return _Found(key, session_id, entity, reading.version, reading.value)


def _difference(found: _Found, snapshot: Snapshot | None) -> str | None:
    if snapshot is None:
        return f"version {found.version} in Redis, no such session in the database"
    true = snapshot.records[found.entity]
    if isinstance(true, SessionRecord):
        true = replace(true, proxy_password=None)
    if true.version != found.version:
        return f"version {found.version} in Redis, {true.version} in the database"
    if true == found.record:
        return None
    unequal = [one.name for one in fields(true) if getattr(true, one.name) != getattr(found.record, one.name)]
    return f"version {found.version} in both, but other content: {', '.join(unequal)}"
