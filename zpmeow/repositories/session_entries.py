"""Between a session's records and its cached entries: which key holds which record, and until when."""

from collections.abc import Callable
from uuid import UUID

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

    def keys(self, session_id: UUID, entities: frozenset[Entity]) -> dict[Entity, EntryKey]:
        """Return where these records of the session are cached."""
        return {entity: self._policies.entry_key(session_id, entity) for entity in entities}

    def values(self, snapshot: Snapshot) -> dict[EntryKey, Loaded]:
        """Return the snapshot's records as the cache takes them."""
        keys = self.keys(snapshot.session.id, frozenset(snapshot.records))
        return {keys[entity]: self.loaded(record) for entity, record in snapshot.records.items()}

    def loaded(self, record: Record) -> Loaded:
        """Bound a QR code's entry by the code's own expiry; one that has expired already needs no bound."""
        expires_at_ms = None
        if isinstance(record, QrRecord) and record.expires_at is not None:
            expires_at_ms = int(record.expires_at.timestamp() * 1000)
            if expires_at_ms <= self.now_ms():
                expires_at_ms = None
        return Loaded(value=record, version=record.version, expires_at_ms=expires_at_ms)

    def outdated(self, snapshot: Snapshot, knows_newer: Callable[[EntryKey, int], bool]) -> bool:
        """Tell whether a newer version of one of the records is known."""
        keys = self.keys(snapshot.session.id, frozenset(snapshot.records))
        return any(knows_newer(keys[entity], record.version) for entity, record in snapshot.records.items())
