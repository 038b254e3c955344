"""From rows to records: one function a record, by the column names that `statements` gives them."""

from collections import OrderedDict
from collections.abc import Callable, Collection
from functools import lru_cache
from uuid import UUID

from asyncpg import Record as Row

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
    Webhook,
)

MOST_REMEMBERED = 2048
"""Arbitrary: some 6 MB with usual records."""
_REMEMBERED_BYTES = 2048


def session_record(row: Row) -> SessionRecord:
    """Read the session's own record."""
    webhook_url = row["webhook_url"]
    return SessionRecord(
        id=plain_uuid(row["id"]),
        version=row["version"],
        name=row["name"],
        key_hash=row["key_hash"],
        proxy_url=row["proxy_url"],
        has_proxy_password=row["has_proxy_password"],
        proxy_password=row["proxy_password"],
        webhook=None if webhook_url is None else Webhook(url=webhook_url, events=tuple(row["webhook_events"])),
        created_at=row["created_at"],
        updated_at=row["updated_at"],
    )


def status_record(row: Row) -> StatusRecord:
    """Read the connection's record."""
    return StatusRecord(
        session_id=plain_uuid(row["id"]),
        version=row["status_version"],
        status=SessionStatus(row["status"]),
        desired_status=SessionStatus(row["desired_status"]),
        reason=row["reason"],
        changed_at=row["changed_at"],
        valid_until=row["valid_until"],
    )


def qr_record(row: Row) -> QrRecord:
    """Read the codes' record."""
    return QrRecord(
        session_id=plain_uuid(row["id"]),
        version=row["qr_version"],
        code=row["code"],
        expires_at=row["expires_at"],
        pairing_code=row["pairing_code"],
        pairing_expires_at=row["pairing_expires_at"],
    )


def credential_record(row: Row) -> CredentialRecord:
    """Read the device's record."""
    return CredentialRecord(
        session_id=plain_uuid(row["id"]),
        version=row["credential_version"],
        device_jid=row["device_jid"],
        paired_at=row["paired_at"],
    )


@lru_cache(maxsize=4096)  # The records of one row hold the same id.
def plain_uuid(found: UUID) -> UUID:
    """Return the standard library's UUID: encoders of JSON refuse asyncpg's subclass."""
    return UUID(int=found.int)


_READERS: dict[Entity, Callable[[Row], Record]] = {
    Entity.SESSION: session_record,
    Entity.STATUS: status_record,
    Entity.QR: qr_record,
    Entity.CREDENTIAL: credential_record,
}


def snapshot(row: Row, *entities: Entity) -> Snapshot:
    """Read the session's own record and those of the entities."""
    records = {Entity.SESSION: session_record(row), **{entity: _READERS[entity](row) for entity in entities}}
    return Snapshot(records=records, source=ReadSource.MISS)


class SnapshotReader:
    """Reads rows of one statement; a small one that says what that session's last row said is the same snapshot.

    A row is remembered when its session is read for the second time: with a cache before it, most are read once.
    """

    def __init__(self, entities: Collection[Entity], *, most: int = MOST_REMEMBERED) -> None:
        """Read the session's own record and those of the entities; remember the `most` sessions that were seen last."""
        self._entities = tuple(entities)
        self._most = most
        self._last: OrderedDict[UUID, tuple[Row, Snapshot] | None] = OrderedDict()

    def read(self, row: Row) -> Snapshot:
        """Return what the row says."""
        last = self._last.get(row["id"])
        if last is not None and last[0] == row:
            self._last.move_to_end(row["id"])
            return last[1]
        found = snapshot(row, *self._entities)
        if _text_bytes(row) <= _REMEMBERED_BYTES:
            session_id = found.session.id
            self._last[session_id] = (row, found) if session_id in self._last else None
            if len(self._last) > self._most:
                self._last.popitem(last=False)
        return found


def _text_bytes(row: Row) -> int:
    return sum(len(value) for value in row.values() if isinstance(value, (str, bytes)))
