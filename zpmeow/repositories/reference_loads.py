"""Loads by name or key, for which there was no hint or a wrong one: one query, one load at a time for each.

Joining a load under way must not mean reading the past. One that brings an outdated record is repeated, as
everywhere; one that brings nothing has no version to tell that by, so a write that makes or renames a session
lets nobody join the loads that began before it (`forget`).
"""

from collections.abc import Mapping, Sequence

from zpmeow.cache.single_flight import SingleFlight
from zpmeow.cache.tiered_cache import TieredCache
from zpmeow.domain.ports import SessionReader
from zpmeow.domain.records import Entity, ReadSource, Snapshot
from zpmeow.domain.references import ByKeyHash, ByName
from zpmeow.events import LoadCoalesced, LoadFinished, LoadOutcome, Observer
from zpmeow.repositories.cache_policies import CachePolicies
from zpmeow.repositories.session_entries import SessionEntries

_MAX_LOADS = 3  # A load older than a change known here is repeated; the second begins after that change.

Hinted = ByName | ByKeyHash


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
        self._flights: SingleFlight[tuple[Hinted, frozenset[Entity]], Snapshot] = SingleFlight(
            on_coalesced=lambda load: observer(LoadCoalesced(policies.hint_key(load[0]).policy.entity))
        )

    async def load(self, reference: Hinted, wanted: frozenset[Entity], *, bypassed: bool) -> Snapshot | None:
        """Ask the truth; `bypassed`: the tier takes no calls, so that nothing is sent to it.

        Raises what the truth raises. After a cancellation the load goes on.
        """
        if isinstance(reference, ByKeyHash):
            reference = ByKeyHash(reference.key_hash)
        flight = (reference, wanted)

        async def load(_flights: Sequence[object]) -> Mapping[tuple[Hinted, frozenset[Entity]], Snapshot]:
            found = await self._load_and_fill(reference, wanted, bypassed=bypassed)
            return {} if found is None else {flight: found}

        found = None
        for _ in range(_MAX_LOADS):
            found = (await self._flights.load([flight], load)).get(flight)
            if found is None:
                return None
            if not self._entries.outdated(found, self._cache.knows_newer):
                break
        assert found is not None
        return Snapshot(records=found.records, source=ReadSource.BYPASS if bypassed else ReadSource.MISS)

    async def _load_and_fill(self, reference: Hinted, wanted: frozenset[Entity], *, bypassed: bool) -> Snapshot | None:
        mark = self._cache.begin_load()
        try:
            found = await self._truth.find(reference, wanted)
        except Exception:
            self._report_loads(wanted, LoadOutcome.ERROR)
            raise
        self._report_loads(wanted, LoadOutcome.ABSENT if found is None else LoadOutcome.FOUND)
        if found is not None and not bypassed:
            self._cache.fill(self._entries.values(found), mark)
            self._cache.put_hint(self._policies.hint_key(reference), str(found.session.id).encode())
        return found

    def forget(self) -> None:
        """Let nobody join the loads under way any more."""
        self._flights.forget()

    async def close(self, *, grace_seconds: float) -> None:
        """Let loads end."""
        await self._flights.close(grace_seconds=grace_seconds)

    def _report_loads(self, entities: frozenset[Entity], outcome: LoadOutcome) -> None:
        for entity in entities:
            self._observer(LoadFinished(entity, outcome))
