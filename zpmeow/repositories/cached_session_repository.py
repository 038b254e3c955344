"""The sessions behind the cache: a `SessionRepository` over another one, which is the truth.

    find by id            one MGET for all records; what is missing is loaded by one query
    find by name or key   the hint says the id; the record that it leads to must have that very name or
                          key, else the hint is dropped and the truth is asked, by one query
    write                 the truth first; then the changed records go to the cache, set-if-newer

A write goes on when its caller goes away, so that this process never answers less than what it has committed. What
becomes of a write in which the truth broke off, and of all other changes, the change feed and the relay tell.
"""

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from functools import cache, partial
from uuid import UUID

from typing_extensions import override

from zpmeow.cache.policy import Answer, EntryKey, Loader, Origin
from zpmeow.cache.tiered_cache import TieredCache
from zpmeow.domain.api_key import same_secret
from zpmeow.domain.ports import Clock, NewSession, Page, Removal, SessionChanges, SessionRepository
from zpmeow.domain.records import (
    Entity,
    ReadSource,
    SessionRecord,
    SessionStatus,
    Snapshot,
    StatusRecord,
)
from zpmeow.domain.references import ById, ByKeyHash, ByName, SessionReference, parse_uuid
from zpmeow.domain.transitions import StatusChange
from zpmeow.events import Observer, SessionRead
from zpmeow.repositories.cache_policies import CachePolicies
from zpmeow.repositories.entry_loads import EntryLoads
from zpmeow.repositories.inspector import Inspector
from zpmeow.repositories.reference_loads import Hinted, ReferenceLoads
from zpmeow.repositories.session_entries import SessionEntries
from zpmeow.repositories.snapshot_recall import CachedSnapshotRecall
from zpmeow.repositories.uninterrupted import Uninterrupted

ALL_ENTITIES = frozenset(Entity)
_NEVER_AGAIN = 2**63 - 1  # Above every version: the id of a removed session is never used again.

_SOURCES = {
    Origin.LOCAL: ReadSource.LOCAL,
    Origin.TIER: ReadSource.REDIS,
    Origin.LOAD_AFTER_MISS: ReadSource.MISS,
    Origin.LOAD_AFTER_BYPASS: ReadSource.BYPASS,
    Origin.STALE: ReadSource.STALE,
}
_HITS = {Origin.LOCAL, Origin.TIER}
_FROM_THE_TRUTH = {ReadSource.MISS, ReadSource.BYPASS}
_BADNESS = {source: badness for badness, source in enumerate(ReadSource)}


class CachedSessionRepository(SessionRepository):
    """Reads through the cache, writes to the truth and on to the cache."""

    def __init__(
        self,
        *,
        truth: SessionRepository,
        cache: TieredCache,
        policies: CachePolicies,
        clock: Clock,
        inspector: Inspector,
        observer: Observer,
    ) -> None:
        """Stand before `truth`; show the hits to `inspector`."""
        self._truth = truth
        self._cache = cache
        self._policies = policies
        self._entries = SessionEntries(policies=policies, clock=clock)
        self._loaders: dict[frozenset[Entity], Loader] = {}
        self._inspector = inspector
        self._observer = observer
        self._writes = Uninterrupted()
        self._loads = ReferenceLoads(
            truth=truth, cache=cache, policies=policies, entries=self._entries, observer=observer
        )

    @override
    async def find(
        self, reference: SessionReference, entities: frozenset[Entity], *, with_secrets: bool = False
    ) -> Snapshot | None:
        wanted = _with_session(entities)
        if with_secrets:
            found = await self._truth.find(reference, wanted, with_secrets=True)
            return None if found is None else replace(found, source=ReadSource.BYPASS)
        if isinstance(reference, ById):
            snapshot = await self._find_by_id(reference.id, wanted, may_be_stale=True)
        else:
            snapshot = await self._find_by_hint(reference, wanted)
        if snapshot is None:
            self._observer(SessionRead("unknown", from_cache=False))
        else:
            self._tell_of(snapshot)
        return snapshot

    @override
    async def create(self, new: NewSession) -> Snapshot:
        return await self._write(lambda: self._truth.create(new), names_it=True)

    @override
    async def update(self, reference: SessionReference, changes: SessionChanges) -> Snapshot:
        return await self._write(lambda: self._truth.update(reference, changes), names_it=True)

    @override
    async def delete(self, reference: SessionReference) -> Removal:
        async def write() -> Removal:
            removal = await self._truth.delete(reference)
            await self._cache.remove(self._policies.session_keys(removal.session.id, ALL_ENTITIES).all, removal.version)
            return removal

        return await self._writes.run(write)

    @override
    async def change_status(
        self,
        reference: SessionReference,
        decide: Callable[[StatusRecord], StatusChange],
        *,
        holder: UUID | None = None,
    ) -> Snapshot:
        return await self._write(lambda: self._truth.change_status(reference, decide, holder=holder))

    @override
    async def put_qr(
        self,
        reference: SessionReference,
        code: str,
        lifetime_seconds: float,
        *,
        issued_at: datetime | None = None,
        holder: UUID | None = None,
    ) -> Snapshot:
        return await self._write(
            lambda: self._truth.put_qr(reference, code, lifetime_seconds, issued_at=issued_at, holder=holder)
        )

    @override
    async def put_pairing_code(
        self, reference: SessionReference, code: str, lifetime_seconds: float, *, holder: UUID | None = None
    ) -> Snapshot:
        return await self._write(lambda: self._truth.put_pairing_code(reference, code, lifetime_seconds, holder=holder))

    @override
    async def put_credential(
        self, reference: SessionReference, device_jid: str, *, holder: UUID | None = None
    ) -> Snapshot:
        return await self._write(lambda: self._truth.put_credential(reference, device_jid, holder=holder))

    @override
    async def remove_credential(self, reference: SessionReference) -> Snapshot:
        return await self._write(lambda: self._truth.remove_credential(reference))

    @override
    async def list_sessions(
        self,
        *,
        limit: int,
        cursor: UUID | None,
        status: SessionStatus | None = None,
        desired_status: SessionStatus | None = None,
    ) -> Page:
        return await self._truth.list_sessions(limit=limit, cursor=cursor, status=status, desired_status=desired_status)

    @override
    async def find_many(self, session_ids: Collection[UUID], entities: frozenset[Entity]) -> dict[UUID, Snapshot]:
        return await self._truth.find_many(session_ids, entities)

    @override
    async def recent(self, limit: int) -> Sequence[Snapshot]:
        return await self._truth.recent(limit)

    async def invalidate(self, reference: SessionReference) -> Snapshot | None:
        """Make the session's cached entries unreadable; return the session as the truth has it.

        That works, too, for a session that the truth has no more, by its id or by a hint that still leads to it.
        """
        found = await self._truth.find(reference, ALL_ENTITIES)
        if found is not None:
            keys = self._policies.session_keys(found.session.id, ALL_ENTITIES).by_entity
            await self._cache.retire({keys[entity]: record.version for entity, record in found.records.items()})
            return found
        session_id = await self._guess_id(reference)
        if session_id is not None and await self._truth.find(ById(session_id), ALL_ENTITIES) is None:
            await self._removed(session_id)
        return None

    async def warm(self, limit: int) -> int:
        """Load the most recently changed sessions into the cache; return how many entries were sent."""
        sent = 0
        mark = self._cache.begin_load()
        for snapshot in await self._truth.recent(limit):
            taken = await self._cache.warm(self._entries.values(snapshot), mark)
            if not taken:
                break
            sent += taken
            self._leave_hint(ByName(snapshot.session.name), snapshot.session)
            self._leave_hint(ByKeyHash(snapshot.session.key_hash), snapshot.session)
        return sent

    async def close(self, *, grace_seconds: float) -> None:
        """Let writes and loads end."""
        await self._writes.close(grace_seconds=grace_seconds)
        await self._loads.close(grace_seconds=grace_seconds)

    async def _find_by_id(self, session_id: UUID, wanted: frozenset[Entity], *, may_be_stale: bool) -> Snapshot | None:
        keys = self._policies.session_keys(session_id, wanted)
        stale_allowed = keys.all if may_be_stale else keys.besides_session
        answers = await self._cache.get_or_load(keys.all, self._loader_of(wanted), may_be_stale=stale_allowed)
        if len(answers) < len(keys.all):
            return None
        origins = {answer.origin for answer in answers.values()}
        if Origin.LOCAL in origins or Origin.TIER in origins:
            hits = ((key.of.entity, one.version) for key, one in answers.items() if one.origin in _HITS)
            self._inspector.consider(session_id, hits)
        return Snapshot(
            records={entity: answers[key].value for entity, key in keys.by_entity.items()},
            source=_worst(origins),
            make_recall=partial(self._make_recall, session_id, wanted, answers, may_be_stale=may_be_stale),
        )

    def _loader_of(self, wanted: frozenset[Entity]) -> Loader:
        """Return what loads these records of sessions; a statement is for those who want the same ones."""
        loader = self._loaders.get(wanted)
        if loader is None:
            loader = self._loaders[wanted] = EntryLoads(truth=self._truth, entries=self._entries)
        return loader

    async def _read_by_id(self, session_id: UUID, wanted: frozenset[Entity], *, may_be_stale: bool) -> Snapshot | None:
        snapshot = await self._find_by_id(session_id, wanted, may_be_stale=may_be_stale)
        if snapshot is not None:
            self._tell_of(snapshot)
        return snapshot

    def _make_recall(
        self,
        session_id: UUID,
        wanted: frozenset[Entity],
        answers: Mapping[EntryKey, Answer],
        *,
        may_be_stale: bool,
    ) -> CachedSnapshotRecall:
        session = answers[self._policies.entry_key(session_id, Entity.SESSION)].value
        hints = [self._policies.hint_key(one) for one in (ByName(session.name), ByKeyHash(session.key_hash))]
        return CachedSnapshotRecall(
            session_id=session_id,
            entities=tuple(key.of.entity for key in answers),
            led_by=self._cache.followed(dict.fromkeys(hints, session.version)),
            local=self._cache.recall(answers),
            read_by_id=partial(self._read_by_id, session_id, wanted, may_be_stale=may_be_stale),
            counts_as=SessionRead(session.name, from_cache=True),
            inspector=self._inspector,
            observer=self._observer,
        )

    def _tell_of(self, snapshot: Snapshot) -> None:
        from_cache = snapshot.source not in _FROM_THE_TRUTH
        self._observer(SessionRead(snapshot.session.name, from_cache))

    async def _find_by_hint(self, reference: Hinted, wanted: frozenset[Entity]) -> Snapshot | None:
        """Follow the caller's own guess, then the cache's hint, then ask the truth.

        A record past its freshness may not authenticate: by key, the session's own is never stale.
        """
        asked = self._cache.begin_load()
        by_name = isinstance(reference, ByName)
        if isinstance(reference, ByKeyHash) and reference.likely_id is not None:
            snapshot = await self._find_by_id(reference.likely_id, wanted, may_be_stale=False)
            if snapshot is not None and _leads_to(reference, snapshot.session):
                return snapshot
        hint_key = self._policies.hint_key(reference)
        hint = await self._cache.hints.get(hint_key)
        if hint.leads_nowhere:
            return None
        if hint.text is not None:
            hinted_id = parse_uuid(hint.text.decode("ascii", "replace"))
            if hinted_id is not None:
                snapshot = await self._find_by_id(hinted_id, wanted, may_be_stale=by_name)
                if snapshot is not None and _leads_to(reference, snapshot.session):
                    return snapshot
            self._cache.hints.discard(hint_key, hint.text)
        return await self._loads.load(reference, wanted, asked=asked, bypassed=hint.bypassed)

    async def _write(self, write: Callable[[], Awaitable[Snapshot]], *, names_it: bool = False) -> Snapshot:
        """Write, and let no read of this process be answered with less; `names_it`: name and key may be new."""

        async def write_and_publish() -> Snapshot:
            mark = self._cache.begin_load()
            changed = await write()
            if names_it:
                self._take_over_names(changed.session)
            await self._cache.publish(self._entries.values(changed), mark)
            return changed

        return await self._writes.run(write_and_publish)

    def _take_over_names(self, session: SessionRecord) -> None:
        for reference in (ByName(session.name), ByKeyHash(session.key_hash)):
            self._cache.changed(self._policies.hint_key(reference).text, session.version)
            self._leave_hint(reference, session)

    async def _removed(self, session_id: UUID) -> None:
        await self._cache.remove(self._policies.session_keys(session_id, ALL_ENTITIES).all, _NEVER_AGAIN)

    async def _guess_id(self, reference: SessionReference) -> UUID | None:
        """Return the id, or the one that a hint says, or None."""
        if isinstance(reference, ById):
            return reference.id
        hint = await self._cache.hints.get(self._policies.hint_key(reference))
        return None if hint.text is None else parse_uuid(hint.text.decode("ascii", "replace"))

    def _leave_hint(self, reference: Hinted, session: SessionRecord) -> None:
        self._cache.hints.put(self._policies.hint_key(reference), str(session.id).encode())


@cache  # Of a few: kept answers hold it.
def _with_session(entities: frozenset[Entity]) -> frozenset[Entity]:
    return entities | {Entity.SESSION}


def _worst(origins: Collection[Origin]) -> ReadSource:
    if len(origins) == 1:
        (origin,) = origins
        return _SOURCES[origin]
    return max((_SOURCES[origin] for origin in origins), key=_BADNESS.__getitem__)


def _leads_to(reference: Hinted, session: SessionRecord) -> bool:
    match reference:
        case ByName(name):
            return session.name == name
        case ByKeyHash(key_hash):
            return same_secret(session.key_hash, key_hash)
