"""Holds some of the hits against the database, beside the requests: an old answer shall not stay unnoticed.

    hit ── drawn, one in so many ── rate limit ── queue ── ask the database ── the same version? ──→ match
                                                        └── other: a moment later, would the cache still
                                                            answer that? ── no: match; yes: stale or missing

The second look is what tells an old answer from one that was overtaken while it was looked at.
"""

import asyncio
import random
import time
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Never
from uuid import UUID

from zpmeow.cache.policy import EntryKey
from zpmeow.cache.tiered_cache import TieredCache
from zpmeow.domain.errors import Unavailable
from zpmeow.domain.ports import SessionReader
from zpmeow.domain.records import Entity
from zpmeow.domain.references import ById
from zpmeow.events import ConsistencyChecked, Observer
from zpmeow.repositories.cache_policies import CachePolicies

MAX_PER_SECOND = 10.0
SECOND_LOOK_SECONDS = 1.0
"""Ten times what a change may take to be seen by every process."""

_BURST_SECONDS = 1.0
"""Unused comparisons of so long may be caught up: with few requests, each of a request's entities has its turn."""

_MAX_WAITING = 100


@dataclass(slots=True, frozen=True)
class _Sample:
    session_id: UUID
    entity: Entity
    version: int


class Inspector:
    """Samples hits and compares them, one at a time."""

    def __init__(
        self,
        *,
        truth: SessionReader,
        cache: TieredCache,
        policies: CachePolicies,
        one_in: int,
        observer: Observer,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        monotonic: Callable[[], float] = time.monotonic,
        chance: Callable[[], float] = random.random,
    ) -> None:
        """Look at one hit in `one_in`, drawn by `chance` (0.0 to 1.0), ten a second at most; 0: at none."""
        self._truth = truth
        self._cache = cache
        self._policies = policies
        self._one_in = one_in
        self._observer = observer
        self._sleep = sleep
        self._monotonic = monotonic
        self._chance = chance
        self._next_at = float("-inf")
        self._waiting: deque[_Sample] = deque(maxlen=_MAX_WAITING)
        self._woken = asyncio.Event()

    def consider(self, session_id: UUID, entity: Entity, version: int) -> None:
        """Take note of a hit; costs next to nothing."""
        if self._one_in == 0 or self._chance() * self._one_in >= 1:
            return
        now = self._monotonic()
        if now < self._next_at:
            return
        self._next_at = max(self._next_at, now - _BURST_SECONDS) + 1 / MAX_PER_SECOND
        self._waiting.append(_Sample(session_id, entity, version))
        self._woken.set()

    async def run(self) -> Never:
        """Compare for ever."""
        while True:
            await self._woken.wait()
            self._woken.clear()
            while self._waiting:
                sample = self._waiting.popleft()
                try:
                    await self.inspect(sample.session_id, sample.entity, sample.version)
                except Unavailable:
                    continue  # Nothing can be said without the database, and others tell of it.

    async def inspect(self, session_id: UUID, entity: Entity, version: int) -> None:
        """Compare one hit and tell what was found. Raises Unavailable."""
        true_version = await self._true_version(session_id, entity)
        key = self._policies.entry_key(session_id, entity)
        if true_version != version:
            await self._sleep(SECOND_LOOK_SECONDS)
            if await self._still_answers(key, version):
                true_version = await self._true_version(session_id, entity)
            else:
                true_version = version
        outcome = "match" if true_version == version else "missing" if true_version is None else "stale"
        self._observer(ConsistencyChecked(entity, outcome, key.text, version, true_version))

    async def _still_answers(self, key: EntryKey, version: int) -> bool:
        local = self._cache.peek(key)
        return version == (await self._cache.peek_tier(key) if local is None else local)

    async def _true_version(self, session_id: UUID, entity: Entity) -> int | None:
        found = await self._truth.find(ById(session_id), frozenset({entity}))
        return None if found is None else found.records[entity].version
