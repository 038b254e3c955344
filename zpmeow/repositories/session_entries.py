"""Between a session's records and its cached entries: which key holds which record, and until when."""

from collections.abc import Callable, Mapping

from zpmeow.cache.policy import EntryKey, Loaded
from zpmeow.domain.ports import Clock
from zpmeow.domain.records import Entity, QrRecord, Record, Snapshot
from zpmeow.repositories.cache_policies import CachePolicies


class SessionEntries:
    """Translates, by the policies and the database's clock."""

    def __init__(self, *, policies: CachePolicies, clock: Clock) -> None:
        """Go by these policies and this clock."""
        self._policies = policies
        self._clock = clock

    def now_ms(self) -> int:
        """Return the database's time, milliseconds since 1970."""
        return int(self._clock.now().timestamp() * 1000)

    def values(self, snapshot: Snapshot) -> dict[EntryKey, Loaded]:
        """Return the snapshot's records as the cache takes them."""
        keys = self._keys(snapshot)
        return {keys[entity]: self.loaded(record) for entity, record in snapshot.records.items()}

    def loaded(self, record: Record) -> Loaded:
        """Bound the codes' entry by their own expiry; what has expired already needs no bound."""
        expires_at_ms = None
        if isinstance(record, QrRecord):
            now_ms = self.now_ms()
            ends = [end for end in (record.expires_at, record.pairing_expires_at) if end is not None]
            ends_ms = [int(end.timestamp() * 1000) for end in ends]
            expires_at_ms = min((end_ms for end_ms in ends_ms if end_ms > now_ms), default=None)
        return Loaded(value=record, version=record.version, expires_at_ms=expires_at_ms)

    def outdated(self, snapshot: Snapshot, knows_newer: Callable[[EntryKey, int], bool]) -> bool:
        """Tell whether a newer version of one of the records is known."""
        keys = self._keys(snapshot)
        return any(knows_newer(keys[entity], record.version) for entity, record in snapshot.records.items())

    def _keys(self, snapshot: Snapshot) -> Mapping[Entity, EntryKey]:
        return self._policies.session_keys(snapshot.session.id, frozenset(snapshot.records)).by_entity
