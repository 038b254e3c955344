"""Holds some of the hits against the database, beside the requests: an old answer shall not stay unnoticed.

    a read's hits ── drawn, one read in so many ── one of those drawn in each tenth of a second, each as likely
        └── ask the database ── the same version? ──→ match
              └── other: a moment later, would the cache still answer that? ── no: match; yes: stale or missing

The second look is what tells an old answer from one that was overtaken while it was looked at.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Never
from uuid import UUID

from zpmeow.cache.tiered_cache import TieredCache
from zpmeow.domain.errors import Unavailable
from zpmeow.domain.ports import SessionReader
from zpmeow.domain.records import Entity
from zpmeow.domain.references import ById
from zpmeow.events import ConsistencyChecked, Observer
from zpmeow.repositories.cache_policies import CachePolicies

WINDOW_SECONDS = 0.1
"""Of all reads drawn in such a time one is compared, so that the database is asked ten times a second at most."""

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
                differing = None if chosen is None else await self._look(chosen)
                if differing is not None:
                    second_looks.create_task(self._look_again(differing))

    async def _look(self, hits: _Hits) -> _Hits | None:
        """Tell of the matches; return the others."""
        differing = await self._differing(hits)
        if differing is None:
            return None
        for entity in hits.versions.keys() - differing.keys():
            self._tell(hits, entity, hits.versions[entity])
        return _Hits(hits.session_id, {entity: hits.versions[entity] for entity in differing}) if differing else None

    async def _look_again(self, hits: _Hits) -> None:
        """Tell what is old and still answered; the rest was overtaken."""
        await self._sleep(SECOND_LOOK_SECONDS)
        answered = {entity for entity in hits.versions if await self._still_answers(hits, entity)}
        differing = await self._differing(hits) if answered else {}
        if differing is None:
            return
        for entity, version in hits.versions.items():
            self._tell(hits, entity, differing.get(entity, version) if entity in answered else version)

    async def _differing(self, hits: _Hits) -> Mapping[Entity, int | None] | None:
        """Return the database's versions where they differ; None: nothing can be said without the database."""
        try:
            found = await self._truth.find(ById(hits.session_id), frozenset(hits.versions))
        except Unavailable:
            return None  # Others tell of it.
        true = {entity: None if found is None else found.records[entity].version for entity in hits.versions}
        return {entity: version for entity, version in true.items() if version != hits.versions[entity]}

    async def _still_answers(self, hits: _Hits, entity: Entity) -> bool:
        key = self._policies.entry_key(hits.session_id, entity)
        local = self._cache.peek(key)
        return hits.versions[entity] == (await self._cache.peek_tier(key) if local is None else local)

    def _tell(self, hits: _Hits, entity: Entity, true_version: int | None) -> None:
        version = hits.versions[entity]
        outcome = "match" if true_version == version else "missing" if true_version is None else "stale"
        key = self._policies.entry_key(hits.session_id, entity)
        self._observer(ConsistencyChecked(entity, outcome, key.text, version, true_version))
