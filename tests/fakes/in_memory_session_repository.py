"""The port `SessionRepository` in memory: what PostgreSQL promises, without PostgreSQL.

What the triggers do there is done here by comparing the rows before and after each write.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from itertools import count
from uuid import UUID, uuid4

from typing_extensions import override

from tests.fakes.in_memory_command_queue import InMemoryCommandQueue
from zpmeow.domain.changes import Change
from zpmeow.domain.commands import CommandAction, NewCommand
from zpmeow.domain.errors import ApiKeyTaken, DeviceAlreadyInUse, SessionNameTaken, SessionNotFound, SessionNotHeld
from zpmeow.domain.ports import (
    UNSET,
    ListedSession,
    NewSession,
    OverduePromises,
    Page,
    Removal,
    SessionChanges,
    SessionRepository,
)
from zpmeow.domain.records import (
    CredentialRecord,
    Entity,
    QrRecord,
    ReadSource,
    Record,
    SessionRecord,
    SessionStatus,
    Snapshot,
    StatusRecord,
)
from zpmeow.domain.references import ById, ByKeyHash, ByName, SessionReference
from zpmeow.domain.transitions import StatusChange, changes_nothing


def _wall_clock() -> datetime:
    return datetime.now(UTC)


@dataclass(slots=True)
class _Rows:
    """The four rows of a session; its own holds the proxy's password."""

    session: SessionRecord
    status: StatusRecord
    qr: QrRecord
    credential: CredentialRecord
    newest_code: tuple[datetime, datetime] | None = None


class InMemorySessionRepository(SessionRepository, OverduePromises):
    """Sessions in a dictionary, in the order of their making. No method waits, so each is one atomic step."""

    def __init__(
        self,
        *,
        now: Callable[[], datetime] = _wall_clock,
        committed: Callable[[Sequence[Change]], None] = lambda _changes: None,
        commands: InMemoryCommandQueue | None = None,
    ) -> None:
        """Start empty; `now` is the database's clock, `committed` is told what each write has changed.

        What engines are to do is left in `commands`.
        """
        self._now = now
        self._commands = commands or InMemoryCommandQueue(now=now)
        self._commands.is_alive = self._is_alive
        self._committed = committed
        self._versions = count(1)
        self._sessions: dict[UUID, _Rows] = {}

    @override
    async def find(
        self, reference: SessionReference, entities: frozenset[Entity], *, with_secrets: bool = False
    ) -> Snapshot | None:
        rows = self._look_up(reference)
        return None if rows is None else _snapshot(rows, *entities, with_secrets=with_secrets)

    @override
    async def create(self, new: NewSession) -> Snapshot:
        self._check_unique(None, new.name, new.key_hash)
        identifier, now = uuid4(), self._now()
        session = SessionRecord(
            id=identifier,
            version=next(self._versions),
            name=new.name,
            key_hash=new.key_hash,
            proxy_url=new.proxy_url,
            has_proxy_password=new.proxy_password is not None,
            proxy_password=new.proxy_password,
            webhook=new.webhook,
            created_at=now,
            updated_at=now,
        )
        status = StatusRecord(
            session_id=identifier,
            version=next(self._versions),
            status=SessionStatus.DISCONNECTED,
            desired_status=SessionStatus.DISCONNECTED,
            reason=None,
            changed_at=now,
        )
        rows = _Rows(
            session=session,
            status=status,
            qr=QrRecord(session_id=identifier, version=next(self._versions), code=None, expires_at=None),
            credential=CredentialRecord(
                session_id=identifier, version=next(self._versions), device_jid=None, paired_at=None
            ),
        )
        self._sessions[identifier] = rows
        self._commit(None, rows)
        return _snapshot(rows, *Entity)

    @override
    async def update(self, reference: SessionReference, changes: SessionChanges) -> Snapshot:
        rows = self._require(reference)
        if changes == SessionChanges():
            return _snapshot(rows, *Entity)
        session = rows.session
        session = replace(
            session,
            name=session.name if changes.name is UNSET else changes.name,
            key_hash=session.key_hash if changes.key_hash is UNSET else changes.key_hash,
            webhook=session.webhook if changes.webhook is UNSET else changes.webhook,
            updated_at=self._now(),
        )
        if changes.proxy_url is not UNSET:
            session = replace(
                session,
                proxy_url=changes.proxy_url,
                has_proxy_password=changes.proxy_password is not None,
                proxy_password=changes.proxy_password,
            )
        self._check_unique(session.id, session.name, session.key_hash)
        before = replace(rows)
        rows.session = replace(session, version=next(self._versions))
        self._commit(before, rows)
        return _snapshot(rows, *Entity)

    @override
    async def delete(self, reference: SessionReference) -> Removal:
        rows = self._require(reference)
        del self._sessions[rows.session.id]
        removal_version = next(self._versions)
        self._commands.leave(rows.session.id, NewCommand(action=CommandAction.DELETE))
        self._commit(rows, None)
        return Removal(session=_without_secrets(rows.session), version=removal_version)

    @override
    async def change_status(
        self,
        reference: SessionReference,
        decide: Callable[[StatusRecord], StatusChange],
        *,
        holder: UUID | None = None,
    ) -> Snapshot:
        rows = self._require(reference)
        before = replace(rows)
        self._check_holds(rows, holder)
        change = decide(rows.status)
        if not changes_nothing(rows.status, change):
            rows.status = self._changed(rows.status, change)
        if change.command is not None:
            self._commands.leave(rows.session.id, change.command)
        dropped = change.drops_codes and self._drop_codes(rows)
        if change.drops_pairing_code and rows.qr.pairing_code is not None:
            dropped = True
            rows.qr = replace(rows.qr, version=next(self._versions), pairing_code=None, pairing_expires_at=None)
        self._commit(before, rows)
        return _snapshot(rows, Entity.STATUS, Entity.QR) if dropped else _snapshot(rows, Entity.STATUS)

    def _changed(self, current: StatusRecord, change: StatusChange) -> StatusRecord:
        now = self._now()
        valid_until = current.valid_until if change.keeps_promise else None
        if change.valid_for_seconds is not None:
            valid_until = now + timedelta(seconds=change.valid_for_seconds)
        changed = replace(
            current,
            version=next(self._versions),
            status=change.status,
            desired_status=change.desired_status,
            reason=change.reason,
            valid_until=valid_until,
        )
        says_the_same = (current.status, current.desired_status, current.reason) == (
            changed.status,
            changed.desired_status,
            changed.reason,
        )
        is_new = not says_the_same or current.at(now).is_overdue
        return replace(changed, changed_at=now) if is_new else changed

    @override
    async def record_silence(self, *, limit: int) -> int:
        overdue = [rows for rows in self._sessions.values() if rows.status.at(self._now()).is_overdue]
        for rows in overdue[:limit]:
            before = replace(rows)
            rows.status = replace(rows.status.at(self._now()), version=next(self._versions), is_overdue=False)
            if rows.status.desired_status is SessionStatus.CONNECTED:
                self._commands.leave(rows.session.id, NewCommand(action=CommandAction.CONNECT))
            self._commit(before, rows)
        return len(overdue[:limit])

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
        rows = self._require(reference)
        self._check_holds(rows, holder)
        expires_at = self._now() + timedelta(seconds=lifetime_seconds)
        if issued_at is not None and rows.newest_code is not None:
            newest, kept_until = rows.newest_code
            if issued_at < newest and self._now() < kept_until:
                return _snapshot(rows, Entity.QR)
        rows.newest_code = None if issued_at is None else (issued_at, expires_at)
        before = replace(rows)
        rows.qr = replace(rows.qr, version=next(self._versions), code=code, expires_at=expires_at)
        self._commit(before, rows)
        return _snapshot(rows, Entity.QR)

    @override
    async def put_pairing_code(
        self, reference: SessionReference, code: str, lifetime_seconds: float, *, holder: UUID | None = None
    ) -> Snapshot:
        rows = self._require(reference)
        self._check_holds(rows, holder)
        expires_at = self._now() + timedelta(seconds=lifetime_seconds)
        before = replace(rows)
        rows.qr = replace(rows.qr, version=next(self._versions), pairing_code=code, pairing_expires_at=expires_at)
        self._commit(before, rows)
        return _snapshot(rows, Entity.QR)

    @override
    async def put_credential(
        self, reference: SessionReference, device_jid: str, *, holder: UUID | None = None
    ) -> Snapshot:
        rows = self._require(reference)
        self._check_holds(rows, holder)
        if any(other is not rows and other.credential.device_jid == device_jid for other in self._sessions.values()):
            message = "another session is paired with that device"
            raise DeviceAlreadyInUse(message)
        before = replace(rows)
        if rows.credential.device_jid != device_jid:
            rows.credential = replace(
                rows.credential, version=next(self._versions), device_jid=device_jid, paired_at=self._now()
            )
        dropped = self._drop_codes(rows)
        self._commit(before, rows)
        return _snapshot(rows, Entity.CREDENTIAL, Entity.QR) if dropped else _snapshot(rows, Entity.CREDENTIAL)

    @override
    async def remove_credential(self, reference: SessionReference) -> Snapshot:
        rows = self._require(reference)
        before = replace(rows)
        if rows.credential.device_jid is not None:
            rows.credential = replace(rows.credential, version=next(self._versions), device_jid=None, paired_at=None)
        self._commit(before, rows)
        return _snapshot(rows, Entity.CREDENTIAL)

    @override
    async def list_sessions(
        self,
        *,
        limit: int,
        cursor: UUID | None,
        status: SessionStatus | None = None,
        desired_status: SessionStatus | None = None,
    ) -> Page:
        identifiers = list(self._sessions)
        if cursor is not None:
            identifiers = identifiers[identifiers.index(cursor) + 1 :] if cursor in self._sessions else []
        found = [self._sessions[identifier] for identifier in identifiers]
        now = self._now()
        found = [rows for rows in found if status is None or rows.status.at(now).status is status]
        found = [rows for rows in found if desired_status is None or rows.status.desired_status is desired_status]
        sessions = [
            ListedSession(
                session=_without_secrets(rows.session),
                status=rows.status.at(now),
                device_jid=rows.credential.device_jid,
            )
            for rows in found[:limit]
        ]
        return Page(sessions=sessions, next_cursor=sessions[-1].session.id if len(found) > limit else None)

    @override
    async def find_many(self, session_ids: Collection[UUID], entities: frozenset[Entity]) -> dict[UUID, Snapshot]:
        found = {one: await self.find(ById(one), entities) for one in session_ids}
        return {one: snapshot for one, snapshot in found.items() if snapshot is not None}

    @override
    async def recent(self, limit: int) -> Sequence[Snapshot]:
        snapshots = [_snapshot(rows, *Entity) for rows in self._sessions.values()]
        return sorted(snapshots, key=lambda snapshot: max(snapshot.versions), reverse=True)[:limit]

    def _commit(self, before: _Rows | None, after: _Rows | None) -> None:
        """Tell what was changed: records by their versions, and look-ups that lead elsewhere now."""
        changes = []
        for entity in Entity:
            old, new = _record(before, entity), _record(after, entity)
            if new is None:
                assert old is not None
                changes.append(Change(entity=entity, key=str(_id(old)), version=next(self._versions)))
            elif old is None or old.version != new.version:
                changes.append(Change(entity=entity, key=str(_id(new)), version=new.version))
        changes += _changed_look_ups(before, after)
        if changes:
            self._committed(changes)

    def _look_up(self, reference: SessionReference) -> _Rows | None:
        match reference:
            case ById(identifier):
                return self._sessions.get(identifier)
            case ByName(name):
                found = (rows for rows in self._sessions.values() if rows.session.name == name)
            case ByKeyHash(key_hash):
                found = (rows for rows in self._sessions.values() if rows.session.key_hash == key_hash)
        return next(found, None)

    def _require(self, reference: SessionReference) -> _Rows:
        rows = self._look_up(reference)
        if rows is None:
            message = "there is no such session"
            raise SessionNotFound(message)
        return rows

    def _is_alive(self, session_id: UUID) -> bool:
        rows = self._sessions.get(session_id)
        alive = {SessionStatus.CONNECTING, SessionStatus.CONNECTED}
        return rows is not None and rows.status.at(self._now()).status in alive

    def _check_holds(self, rows: _Rows, engine: UUID | None) -> None:
        if engine is not None and self._commands.holders.get(rows.session.id) != engine:
            message = "another engine has the session, or none is to have it"
            raise SessionNotHeld(message)

    def _check_unique(self, own_id: UUID | None, name: str, key_hash: bytes) -> None:
        others = [rows.session for rows in self._sessions.values() if rows.session.id != own_id]
        if any(other.name == name for other in others):
            message = "another session has that name"
            raise SessionNameTaken(message)
        if any(other.key_hash == key_hash for other in others):
            message = "another session has that API key"
            raise ApiKeyTaken(message)

    def _drop_codes(self, rows: _Rows) -> bool:
        if rows.qr.code is None and rows.qr.pairing_code is None:
            return False
        rows.qr = QrRecord(session_id=rows.qr.session_id, version=next(self._versions), code=None, expires_at=None)
        return True


def _record(rows: _Rows | None, entity: Entity) -> Record | None:
    return None if rows is None else _snapshot(rows, entity).records[entity]


def _id(record: Record) -> UUID:
    return record.id if isinstance(record, SessionRecord) else record.session_id


def _changed_look_ups(before: _Rows | None, after: _Rows | None) -> list[Change]:
    old = set() if before is None else _look_ups(before.session)
    new = set() if after is None else _look_ups(after.session)
    return [Change(entity=entity, key=key, version=1) for entity, key in sorted(old ^ new)]


def _look_ups(session: SessionRecord) -> set[tuple[str, str]]:
    return {("name", session.name), ("key", session.key_hash.hex())}


def _snapshot(rows: _Rows, *entities: Entity, with_secrets: bool = False) -> Snapshot:
    session = rows.session if with_secrets else _without_secrets(rows.session)
    every: dict[Entity, Record] = {
        Entity.SESSION: session,
        Entity.STATUS: rows.status,
        Entity.QR: rows.qr,
        Entity.CREDENTIAL: rows.credential,
    }
    wanted = {Entity.SESSION, *entities}
    return Snapshot(
        records={entity: record for entity, record in every.items() if entity in wanted}, source=ReadSource.MISS
    )


def _without_secrets(session: SessionRecord) -> SessionRecord:
    return replace(session, proxy_password=None)
