"""The sessions as the database has them: every call is one statement, but `change_status`, which needs a transaction.

References are resolved within the statement, never before it, and every write locks the session's row
first (see the lock order in `migrations/0001_sessions.sql`), so writers of one session go one after the other and
never in a circle.
"""

from collections.abc import Callable, Collection, Sequence
from datetime import datetime
from uuid import UUID

from asyncpg import Record as Row
from typing_extensions import override

from zpmeow.domain.errors import (
    SessionNotFound,
    SessionNotHeld,
)
from zpmeow.domain.ports import (
    UNSET,
    ListedSession,
    NewSession,
    Page,
    Removal,
    SessionChanges,
    SessionRepository,
)
from zpmeow.domain.records import Entity, ReadSource, Record, SessionStatus, Snapshot, StatusRecord, Webhook
from zpmeow.domain.references import ById, ByKeyHash, ByName, SessionReference
from zpmeow.domain.transitions import StatusChange, changes_nothing
from zpmeow.postgres import statements
from zpmeow.postgres.database import Database, Transaction
from zpmeow.postgres.refusals import device_in_use, key_taken, name_taken, refusals
from zpmeow.postgres.rows import SnapshotReader, qr_record, session_record, snapshot, status_record

_ALL = frozenset(Entity)
_ONLY_SESSION = frozenset({Entity.SESSION})


class PostgresSessionRepository(SessionRepository):
    """Reads and writes sessions in PostgreSQL."""

    def __init__(self, *, database: Database) -> None:
        """Work on the database."""
        self._database = database
        self._readers = {children: SnapshotReader(children) for children in statements.FIND_MANY}

    @override
    async def find(
        self, reference: SessionReference, entities: frozenset[Entity], *, with_secrets: bool = False
    ) -> Snapshot | None:
        children = entities - _ONLY_SESSION
        key = _reference_argument(reference)
        if key is None:
            return None
        sql = statements.FIND[type(reference), children, with_secrets]
        row = await self._database.fetch_row("find", sql, key)
        return None if row is None else snapshot(row, *children)

    @override
    async def create(self, new: NewSession) -> Snapshot:
        with refusals():
            row = await self._database.fetch_row(
                "create",
                statements.CREATE,
                new.name,
                new.key_hash,
                new.proxy_url,
                new.proxy_password,
                *_webhook_arguments(new.webhook),
            )
        made = _present(row)
        if made["name_taken"]:
            raise name_taken()
        if made["key_taken"]:
            raise key_taken()
        return snapshot(made, Entity.STATUS, Entity.QR, Entity.CREDENTIAL)

    @override
    async def update(self, reference: SessionReference, changes: SessionChanges) -> Snapshot:
        if changes == SessionChanges():
            unchanged = await self.find(reference, _ALL)
            if unchanged is None:
                raise _no_session()
            return unchanged
        webhook = None if changes.webhook is UNSET else changes.webhook
        with refusals():
            row = await self._write(
                "update",
                statements.UPDATE,
                reference,
                None if changes.name is UNSET else changes.name,
                None if changes.key_hash is UNSET else changes.key_hash,
                changes.proxy_url is not UNSET,
                None if changes.proxy_url is UNSET else changes.proxy_url,
                None if changes.proxy_url is UNSET else changes.proxy_password,
                changes.webhook is not UNSET,
                *_webhook_arguments(webhook),
            )
        if row["name_taken"]:
            raise name_taken()
        return snapshot(row, Entity.STATUS, Entity.QR, Entity.CREDENTIAL)

    @override
    async def delete(self, reference: SessionReference) -> Removal:
        row = await self._write("delete", statements.DELETE, reference)
        return Removal(session=session_record(row), version=row["removal_version"])

    @override
    async def change_status(
        self,
        reference: SessionReference,
        decide: Callable[[StatusRecord], StatusChange],
        *,
        holder: UUID | None = None,
    ) -> Snapshot:
        key = _reference_argument(reference)
        if key is None:
            raise _no_session()

        async def change(transaction: Transaction) -> Snapshot:
            locked = await transaction.fetch_row(statements.LOCK_STATUS[type(reference)], key)
            if locked is None:
                raise _no_session()
            if holder is not None:
                await _check_holds(transaction, locked["id"], holder)
            return await _change_status(transaction, locked, decide)

        return await self._database.transaction("change_status", change)

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
        row = await self._write(
            "put_qr", statements.PUT_QR, reference, code, lifetime_seconds, issued_at, holder=holder
        )
        return snapshot(row, Entity.QR)

    @override
    async def put_pairing_code(
        self, reference: SessionReference, code: str, lifetime_seconds: float, *, holder: UUID | None = None
    ) -> Snapshot:
        row = await self._write(
            "put_pairing_code", statements.PUT_PAIRING_CODE, reference, code, lifetime_seconds, holder=holder
        )
        return snapshot(row, Entity.QR)

    @override
    async def put_credential(
        self, reference: SessionReference, device_jid: str, *, holder: UUID | None = None
    ) -> Snapshot:
        with refusals():
            row = await self._write("put_credential", statements.PUT_CREDENTIAL, reference, device_jid, holder=holder)
        if row["taken"]:
            raise device_in_use()
        if row["qr_version"] is None:
            return snapshot(row, Entity.CREDENTIAL)
        return snapshot(row, Entity.CREDENTIAL, Entity.QR)

    @override
    async def remove_credential(self, reference: SessionReference) -> Snapshot:
        row = await self._write("remove_credential", statements.REMOVE_CREDENTIAL, reference)
        return snapshot(row, Entity.CREDENTIAL)

    @override
    async def list_sessions(
        self,
        *,
        limit: int,
        cursor: UUID | None,
        status: SessionStatus | None = None,
        desired_status: SessionStatus | None = None,
    ) -> Page:
        wanted = dict(zip(statements.LIST_FILTERS, (cursor, status, desired_status), strict=True))
        filters = {name: value for name, value in wanted.items() if value is not None}
        most = limit + 1  # One more tells whether there is a next page.
        sql = statements.LIST[tuple(filters), most <= statements.SHORT_LIMIT]
        rows = await self._database.fetch("list", sql, most, *filters.values())
        sessions = [
            ListedSession(
                session=session_record(row),
                status=status_record(row).at(row["read_at"]),
                device_jid=row["device_jid"],
            )
            for row in rows[:limit]
        ]
        return Page(sessions=sessions, next_cursor=sessions[-1].session.id if len(rows) > limit else None)

    @override
    async def recent(self, limit: int) -> Sequence[Snapshot]:
        rows = await self._database.fetch("recent", statements.RECENT, limit)
        return [snapshot(row, Entity.STATUS, Entity.QR, Entity.CREDENTIAL) for row in rows]

    @override
    async def find_many(self, session_ids: Collection[UUID], entities: frozenset[Entity]) -> dict[UUID, Snapshot]:
        children = entities - _ONLY_SESSION
        rows = await self._database.fetch("find_many", statements.FIND_MANY[children], statements.several(session_ids))
        read = self._readers[children].read
        return {row["id"]: read(row) for row in rows}

    async def _write(
        self,
        query: str,
        sql: dict[statements.ReferenceKind, str],
        reference: SessionReference,
        *arguments: object,
        holder: UUID | None = None,
    ) -> Row:
        """Write by one statement; for a holder, in a transaction that looks under the session's lock who has it."""
        key = _reference_argument(reference)
        kind = type(reference)

        async def write(transaction: Transaction) -> Row | None:
            assert holder is not None
            locked = await transaction.fetch_row(statements.LOCK_SESSION[kind], key)
            if locked is not None:
                await _check_holds(transaction, locked["id"], holder)
            return await transaction.fetch_row(sql[kind], key, *arguments)

        row = None
        if key is not None and holder is None:
            row = await self._database.fetch_row(query, sql[kind], key, *arguments)
        elif key is not None:
            row = await self._database.transaction(query, write)
        if row is None:
            raise _no_session()
        return row


async def _check_holds(transaction: Transaction, session_id: UUID, engine: UUID) -> None:
    """A statement of its own, after the lock: it sees what the one whom it waited for has done."""
    row = await transaction.fetch_row(statements.HOLDER, session_id)
    if row is None or row["engine"] != engine:
        message = "another engine has the session, or none is to have it"
        raise SessionNotHeld(message)


async def _change_status(
    transaction: Transaction, locked: Row, decide: Callable[[StatusRecord], StatusChange]
) -> Snapshot:
    session, status = session_record(locked), status_record(locked)
    change = decide(status)
    records: dict[Entity, Record] = {Entity.SESSION: session, Entity.STATUS: status}
    if not changes_nothing(status, change):
        row = await transaction.fetch_row(
            statements.UPDATE_STATUS,
            session.id,
            change.status,
            change.desired_status,
            change.reason,
            change.valid_for_seconds,
            change.keeps_promise,
        )
        records[Entity.STATUS] = status_record(_present(row))
    if change.command is not None:
        await transaction.fetch_row(statements.LEAVE_COMMAND, session.id, change.command.action, change.command.phone)
    if change.drops_codes or change.drops_pairing_code:
        sql = statements.DROP_CODES if change.drops_codes else statements.DROP_PAIRING_CODE
        dropped = await transaction.fetch_row(sql, session.id)
        if dropped is not None:
            records[Entity.QR] = qr_record(dropped)
    return Snapshot(records=records, source=ReadSource.MISS)


def _reference_argument(reference: SessionReference) -> UUID | str | bytes | None:
    """Return what `$1` is, or None for a name that no session can have (the schema allows few characters)."""
    match reference:
        case ById(identifier):
            return identifier
        case ByName(name):
            return name if name.isascii() and name.isprintable() else None
        case ByKeyHash(key_hash):
            return key_hash


def _webhook_arguments(webhook: Webhook | None) -> tuple[str | None, list[str] | None]:
    return (None, None) if webhook is None else (webhook.url, list(webhook.events))


def _no_session() -> SessionNotFound:
    return SessionNotFound("no session has that id or name")


def _present(row: Row | None) -> Row:
    assert row is not None  # A statement that makes or changes a locked row returns it.
    return row
