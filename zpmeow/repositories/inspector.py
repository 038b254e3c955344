"""Holds some of the hits against the database, beside the requests: an old answer shall not stay unnoticed.

    a read's hits ── drawn, one read in so many ── one of those drawn in each tenth of a second, each as likely
        └── ask the database ── the same version? ──→ match
              └── other: what would the cache answer a moment later? ── what the database had, or has since: match
                                                                     ── anything older: stale; gone by then: missing

The second look is what tells an old answer from one that was overtaken while it was looked at. Where database or cache
cannot be asked, nothing is said.
"""

import asyncio
import contextlib
import random
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Never
from uuid import UUID

from zpmeow.cache.errors import CacheError
from zpmeow.cache.tiered_cache import TieredCache
from zpmeow.domain.errors import Unavailable
from zpmeow.domain.ports import SessionReader
from zpmeow.domain.records import Entity
from zpmeow.domain.references import ById
from zpmeow.events import ConsistencyChecked, Observer
from zpmeow.repositories.cache_policies import CachePolicies

WINDOW_SECONDS = 0.1
"""Of all reads drawn in such a time one is compared: ten a second at most, by a question or two each."""

SECOND_LOOK_SECONDS = 1.0
"""Ten times what a change may take to be seen by every process."""


@dataclass(slots=True, frozen=True)
class _Hits:
    session_id: UUID
    versions: Mapping[Entity, int]


class Inspector:
    """Draws hits and compares them, one read's at a time."""

    def __init__(
        self,
        *,
        truth: SessionReader,
        cache: TieredCache,
        policies: CachePolicies,
        one_in: int,
        observer: Observer,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        chance: Callable[[], float] = random.random,
    ) -> None:
        """Draw one read in `one_in` by `chance` (0.0 to below 1.0); 0: none."""
        self._truth = truth
        self._cache = cache
        self._policies = policies
        self._one_in = one_in
        self._observer = observer
        self._sleep = sleep
        self._chance = chance
        self._drawn = 0
        self._chosen: _Hits | None = None
        self._woken = asyncio.Event()

    def consider(self, session_id: UUID, hits: Iterable[tuple[Entity, int]]) -> None:
        """Take note of a read's hits (entity, version); they are only gone through when they are drawn.

        Whichever of this window's comes last has the same chance as the first: who came first would be the same
        entity, or the same client, again and again.
        """
        if self._one_in == 0 or self._chance() * self._one_in >= 1:
            return
        self._drawn += 1
        if self._chance() * self._drawn < 1:
            self._chosen = _Hits(session_id, dict(hits))
            self._woken.set()

    async def run(self) -> Never:
        """Compare for ever."""
        async with asyncio.TaskGroup() as second_looks:
            while True:
                await self._woken.wait()
                await self._sleep(WINDOW_SECONDS)
                self._woken.clear()
                chosen, self._chosen, self._drawn = self._chosen, None, 0
                if chosen is not None and (suspects := await self._look(chosen)):
                    second_looks.create_task(self._look_again(chosen.session_id, suspects))

    async def _look(self, hits: _Hits) -> dict[Entity, int | None]:
        """Tell of the matches; return the database's versions of the others."""
        try:
            true = await self._true_versions(hits.session_id, hits.versions)
        except Unavailable:
            return {}  # Nothing can be said without the database, and others tell of it.
        suspects = {entity: version for entity, version in true.items() if version != hits.versions[entity]}
        for entity in true.keys() - suspects.keys():
            self._tell(hits.session_id, entity, "match", hits.versions[entity], true[entity])
        return suspects

    async def _look_again(self, session_id: UUID, before: Mapping[Entity, int | None]) -> None:
        """Judge what is answered a moment after the database had these versions."""
        await self._sleep(SECOND_LOOK_SECONDS)
        answered = {}
        for entity in before:
            with contextlib.suppress(CacheError):  # Of this one nothing can be said.
                answered[entity] = await self._answered(session_id, entity)
        if not answered:
            return
        try:
            true = await self._true_versions(session_id, answered)
        except Unavailable:
            return
        for entity, version in answered.items():
            outcome = _judge(version, before[entity], true[entity])
            self._tell(session_id, entity, outcome, version, true[entity])

    async def _true_versions(self, session_id: UUID, entities: Iterable[Entity]) -> dict[Entity, int | None]:
        found = await self._truth.find(ById(session_id), frozenset(entities))
        return {entity: None if found is None else found.records[entity].version for entity in entities}

    async def _answered(self, session_id: UUID, entity: Entity) -> int | None:
        key = self._policies.entry_key(session_id, entity)
        local = self._cache.peek(key)
        return await self._cache.peek_tier(key) if local is None else local

    def _tell(self, session_id: UUID, entity: Entity, outcome: str, cached: int | None, true: int | None) -> None:
        key = self._policies.entry_key(session_id, entity)
        self._observer(ConsistencyChecked(entity, outcome, key.text, cached, true))


def _judge(answered: int | None, before: int | None, now: int | None) -> str:
    """Judge a version that the cache answers, if any, by what the database had a moment before that and has since."""
    if answered is None:
        return "match"
    if before is None:
        return "missing"
    # What is removed between this answer and the question is no fault: only what was gone before is missing.
    return "stale" if answered < before or (now is not None and answered > now) else "match"
