"""The records of a session: one record is one row of one table and one cached entry.

Each carries the version its row got from the database's one sequence; of two copies of a record the
one with the higher version is the newer. The four rows of a session are made and deleted together,
so "no QR code" is a record whose fields are None, never a missing record.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Protocol
from uuid import UUID


class Entity(StrEnum):
    """The kinds of records; the value is the suffix of the cache key."""

    SESSION = "session"
    STATUS = "status"
    QR = "qr"
    CREDENTIAL = "credential"


class SessionStatus(StrEnum):
    """Where a session's connection to WhatsApp stands."""

    DISCONNECTED = "disconnected"
    CONNECTING = "connecting"
    CONNECTED = "connected"
    ERROR = "error"


@dataclass(slots=True, frozen=True, kw_only=True)
class Webhook:
    """Where a session's events are to be sent, and which of them."""

    url: str
    events: tuple[str, ...]


@dataclass(slots=True, frozen=True, kw_only=True)
class SessionRecord:
    """What a session is: its names, its key's hash, its network settings.

    `key_hash` is the SHA-256 of the API key, 32 bytes. `proxy_password` is None in a copy from the
    cache: passwords never leave the database for Redis. `has_proxy_password` tells that there is one.
    `proxy_url` never holds the password; `proxy.with_password` puts it in.
    """

    id: UUID
    version: int
    name: str
    key_hash: bytes
    proxy_url: str | None
    has_proxy_password: bool
    proxy_password: str | None
    webhook: Webhook | None
    created_at: datetime
    updated_at: datetime

    def __repr__(self) -> str:
        """Show neither the key's hash nor the proxy."""
        return f"SessionRecord(id={self.id}, version={self.version}, name={self.name!r})"


@dataclass(slots=True, frozen=True, kw_only=True)
class StatusRecord:
    """How the session's connection stands, as last reported, and how its owner wants it."""

    session_id: UUID
    version: int
    status: SessionStatus
    desired_status: SessionStatus
    reason: str | None
    changed_at: datetime


@dataclass(slots=True, frozen=True, kw_only=True)
class QrRecord:
    """The code to scan, if any. Never served at or after `expires_at`."""

    session_id: UUID
    version: int
    code: str | None
    expires_at: datetime | None

    def __repr__(self) -> str:
        """Show when the code expires, never the code."""
        return f"QrRecord(session_id={self.session_id}, version={self.version}, expires_at={self.expires_at})"


@dataclass(slots=True, frozen=True, kw_only=True)
class CredentialRecord:
    """The WhatsApp device that the session is paired with, if any."""

    session_id: UUID
    version: int
    device_jid: str | None
    paired_at: datetime | None

    def __repr__(self) -> str:
        """Show whether there is a device, never which."""
        return f"CredentialRecord(session_id={self.session_id}, version={self.version}, paired_at={self.paired_at})"


Record = SessionRecord | StatusRecord | QrRecord | CredentialRecord


class ReadSource(StrEnum):
    """Who answered a read, from best to worst; a snapshot's source is the worst of its records'."""

    LOCAL = "local"
    REDIS = "redis"
    MISS = "miss"
    BYPASS = "bypass"
    STALE = "stale"


class Notes(Protocol):
    """What was made of a record and need not be made again while the record is kept in this process."""

    def get(self, name: object, /) -> bytes | None:
        """Return a note, if it was made."""
        ...

    def put(self, name: object, note: bytes, /) -> None:
        """Keep a note, if there is room for it."""
        ...


@dataclass(slots=True, frozen=True, kw_only=True)
class Snapshot:
    """Some records of one session, read together, and who answered.

    `notes` belong to the session's own record; what is noted must say by its name of which versions it was made.
    The properties raise KeyError for a record that was not asked for: a programming error.
    """

    records: Mapping[Entity, Record]
    source: ReadSource
    notes: Notes | None = None

    @property
    def session(self) -> SessionRecord:
        """The session's own record."""
        record = self.records[Entity.SESSION]
        assert isinstance(record, SessionRecord)
        return record

    @property
    def status(self) -> StatusRecord:
        """The connection's record."""
        record = self.records[Entity.STATUS]
        assert isinstance(record, StatusRecord)
        return record

    @property
    def qr(self) -> QrRecord:
        """The QR code's record."""
        record = self.records[Entity.QR]
        assert isinstance(record, QrRecord)
        return record

    @property
    def credential(self) -> CredentialRecord:
        """The device's record."""
        record = self.records[Entity.CREDENTIAL]
        assert isinstance(record, CredentialRecord)
        return record

    @property
    def versions(self) -> tuple[int, ...]:
        """The versions of all its records, in the order of `Entity`."""
        return tuple(self.records[entity].version for entity in Entity if entity in self.records)
