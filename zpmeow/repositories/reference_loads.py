"""Loads by name or key, for which there was no hint or a wrong one: one query, one load at a time for each.

Joining a load under way must not mean reading the past. One that brings an outdated record is repeated, as
everywhere; one that brings nothing is repeated if somebody made, renamed or removed a session under that name or key
since it began.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from zpmeow.cache.loads import MAX_LOADS
from zpmeow.cache.policy import LoadMark
from zpmeow.cache.single_flight import SingleFlight
from zpmeow.cache.tiered_cache import TieredCache
from zpmeow.domain.ports import SessionReader
from zpmeow.domain.records import Entity, ReadSource, Snapshot
from zpmeow.domain.references import ByKeyHash, ByName
from zpmeow.events import LoadCoalesced, LoadFinished, LoadOutcome, Observer
from zpmeow.repositories.cache_policies import CachePolicies
from zpmeow.repositories.session_entries import SessionEntries

Hinted = ByName | ByKeyHash
Flight = tuple[Hinted, frozenset[Entity]]


@dataclass(slots=True, frozen=True)
class _Flown:
    """What a load brought, and when it began."""

    found: Snapshot | None
    mark: LoadMark


class ReferenceLoads:
    """Asks the truth, and leaves what it finds, and the hint, in the cache."""

    def __init__(
        self,
        *,
        truth: SessionReader,
        cache: TieredCache,
        policies: CachePolicies,
        entries: SessionEntries,
        observer: Observer,
    ) -> None:
        """Ask `truth`."""
        self._truth = truth
        self._cache = cache
        self._policies = policies
        self._entries = entries
        self._observer = observer
        self._flights: SingleFlight[Flight, _Flown] = cache.flights(
            on_coalesced=lambda load: observer(LoadCoalesced(policies.hint_key(load[0]).policy.entity))
        )

    async def load(self, reference: Hinted, wanted: frozenset[Entity], *, bypassed: bool) -> Snapshot | None:
        """Ask the truth; `bypassed`: the tier takes no calls, so that nothing is sent to it.

        Raises what the truth raises. After a cancellation the load goes on.
        """
        if isinstance(reference, ByKeyHash):
            reference = ByKeyHash(reference.key_hash)
        flight = (reference, wanted)

        async def load(_flights: Sequence[Flight]) -> Mapping[Flight, _Flown]:
            return {flight: await self._load_and_keep(reference, wanted, bypassed=bypassed)}

        flown = (await self._flights.load([flight], load))[flight]
        for _ in range(MAX_LOADS - 1):
            if not self._is_outdated(reference, flown):
                break
            flown = (await self._flights.load([flight], load))[flight]
        if flown.found is None:
            return None
        return Snapshot(records=flown.found.records, source=ReadSource.BYPASS if bypassed else ReadSource.MISS)

    async def close(self, *, grace_seconds: float) -> None:
        """Let loads end."""
        await self._flights.close(grace_seconds=grace_seconds)

    def _is_outdated(self, reference: Hinted, flown: _Flown) -> bool:
        if flown.found is None:
            return self._cache.hints.changed_since(self._policies.hint_key(reference), flown.mark)
        return self._entries.outdated(flown.found, self._cache.knows_newer)

    async def _load_and_keep(self, reference: Hinted, wanted: frozenset[Entity], *, bypassed: bool) -> _Flown:
        mark = self._cache.begin_load()
        try:
            found = await self._truth.find(reference, wanted)
        except Exception:
            self._report_loads(wanted, LoadOutcome.ERROR)
            raise
        self._report_loads(wanted, LoadOutcome.ABSENT if found is None else LoadOutcome.FOUND)
        hint_key = self._policies.hint_key(reference)
        if found is None:
            self._cache.hints.deny(hint_key, mark)
        elif bypassed:
            self._cache.keep(self._entries.values(found), mark)
        else:
            self._cache.fill(self._entries.values(found), mark)
            self._cache.hints.put(hint_key, str(found.session.id).encode())
        return _Flown(found, mark)

    def _report_loads(self, entities: frozenset[Entity], outcome: LoadOutcome) -> None:
        for entity in entities:
            self._observer(LoadFinished(entity, outcome))
