"""Loads by name or key, for which there was no hint or a wrong one: one query, one load at a time for each.

Joining a load under way must not mean reading the past. One that brings an outdated record is repeated, as
everywhere; one that brings nothing is repeated if somebody made, renamed or removed a session under that name or key
since it began.
"""

from collections.abc import Mapping, Sequence

from zpmeow.cache.loads import LoadLimits, Loads
from zpmeow.cache.policy import LoadMark
from zpmeow.cache.tiered_cache import TieredCache
from zpmeow.domain.patience import wait_patiently
from zpmeow.domain.ports import SessionReader
from zpmeow.domain.records import Entity, ReadSource, Snapshot
from zpmeow.domain.references import ByKeyHash, ByName
from zpmeow.events import LoadCoalesced, LoadFinished, LoadOutcome, Observer
from zpmeow.repositories.cache_policies import CachePolicies
from zpmeow.repositories.session_entries import SessionEntries

Hinted = ByName | ByKeyHash
Wanted = tuple[Hinted, frozenset[Entity]]


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
        self._loads: Loads[ReadSource, Wanted, Snapshot | None] = cache.make_loads(
            load=self._load_and_keep,
            is_outdated=self._is_outdated,
            on_coalesced=lambda wanted: observer(LoadCoalesced(policies.hint_key(wanted[0]).policy.entity)),
            limits=LoadLimits(wait=wait_patiently, most_keys=1),
        )

    async def load(
        self, reference: Hinted, entities: frozenset[Entity], *, asked: LoadMark, bypassed: bool
    ) -> Snapshot | None:
        """Ask the truth; the caller `asked` then. `bypassed`: the tier takes no calls, so that nothing is sent to it.

        Raises what the truth raises. After a cancellation the load goes on.
        """
        if isinstance(reference, ByKeyHash):
            reference = ByKeyHash(reference.key_hash)
        wanted = (reference, entities)
        source = ReadSource.BYPASS if bypassed else ReadSource.MISS
        found = (await self._loads.load([wanted], source, asked=asked))[wanted]
        if found is None:
            return None
        return Snapshot(records=found.records, source=source)

    async def close(self, *, grace_seconds: float) -> None:
        """Let loads end."""
        await self._loads.close(grace_seconds=grace_seconds)

    def _is_outdated(self, wanted: Wanted, found: Snapshot | None, mark: LoadMark) -> bool:
        if found is None:
            return self._cache.hints.changed_since(self._policies.hint_key(wanted[0]), mark)
        return self._entries.outdated(found, self._cache.knows_newer)

    async def _load_and_keep(
        self, source: ReadSource, keys: Sequence[Wanted], mark: LoadMark
    ) -> Mapping[Wanted, Snapshot | None]:
        (wanted,) = keys
        reference, entities = wanted
        try:
            found = await self._truth.find(reference, entities)
        except Exception:
            self._report_loads(entities, LoadOutcome.ERROR)
            raise
        self._report_loads(entities, LoadOutcome.ABSENT if found is None else LoadOutcome.FOUND)
        hint_key = self._policies.hint_key(reference)
        if found is None:
            self._cache.hints.deny(hint_key, mark)
        elif source is ReadSource.BYPASS:
            self._cache.keep(self._entries.values(found), mark)
        else:
            self._cache.fill(self._entries.values(found), mark)
            self._cache.hints.put(hint_key, str(found.session.id).encode())
        return {wanted: found}

    def _report_loads(self, entities: frozenset[Entity], outcome: LoadOutcome) -> None:
        for entity in entities:
            self._observer(LoadFinished(entity, outcome))
