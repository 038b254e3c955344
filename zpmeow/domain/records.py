"""The records of a session: one record is one row of one table and one cached entry.

Each carries the version its row got from the database's one sequence; of two copies of a record the
one with the higher version is the newer. The four rows of a session are made and deleted together,
so "no QR code" is a record whose fields are None, never a missing record.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from typing import Final, Protocol, Self
from uuid import UUID

ENGINE_SILENT: Final = "engine_silent"
"""The reason of an error that nobody reported: the engine's promise has ended without a new report."""


class Entity(StrEnum):
    """The kinds of records; the value is the suffix of the cache key."""

    SESSION = "session"
    STATUS = "status"
    QR = "qr"
    CREDENTIAL = "credential"


_ENTITIES: Final = tuple(Entity)


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
    """How the session's connection stands, as last reported, and how its owner wants it.

    `valid_until`: the report was a promise that ends then; None: it holds until the next. `is_overdue`: it was made by
    `at`, and the database does not say so yet.
    """

    session_id: UUID
    version: int
    status: SessionStatus
    desired_status: SessionStatus
    reason: str | None
    changed_at: datetime
    valid_until: datetime | None = None
    is_overdue: bool = False

    def at(self, now: datetime) -> Self:
        """Return what the record says at this moment, by the database's clock: an ended promise is an error."""
        if self.valid_until is None or now < self.valid_until:
            return self
        return replace(
            self,
            status=SessionStatus.ERROR,
            reason=ENGINE_SILENT,
            changed_at=self.valid_until,
            valid_until=None,
            is_overdue=True,
        )


@dataclass(slots=True, frozen=True, kw_only=True)
class QrRecord:
    """The codes to pair with, if any: one to scan, one to enter on a telephone. Neither is served after its expiry."""

    session_id: UUID
    version: int
    code: str | None
    expires_at: datetime | None
    pairing_code: str | None = None
    pairing_expires_at: datetime | None = None

    def __repr__(self) -> str:
        """Show when the codes expire, never the codes."""
        return (
            f"QrRecord(session_id={self.session_id}, version={self.version}, expires_at={self.expires_at},"
            f" pairing_expires_at={self.pairing_expires_at})"
        )

    def has_code(self, now: datetime) -> bool:
        """Tell whether there is a code to scan at this moment, by the database's clock."""
        return self.code is not None and self.expires_at is not None and now < self.expires_at

    def has_pairing_code(self, now: datetime) -> bool:
        """Tell whether there is a code to enter at this moment."""
        return self.pairing_code is not None and self.pairing_expires_at is not None and now < self.pairing_expires_at


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


class SnapshotRecall(Protocol):
    """What was read once, ready to be read again without asking whose it is."""

    def repeat(self) -> bool:
        """Read again from this process' memory, if that would find the very same records: then that counts as a read.

        Tell whether it did; never, if other memory than this process' had to be asked.
        """
        ...

    async def read(self) -> "Snapshot | None":
        """Read the records again, on the way of every read.

        None: by what is known here the session is gone, or is not the one any more that was asked for. Raises what
        reading raises.
        """
        ...


@dataclass(slots=True, frozen=True, kw_only=True)
class Snapshot:
    """Some records of one session, read together, and who answered.

    `make_recall` makes what reads it again; None: only by asking anew.
    The properties raise KeyError for a record that was not asked for: a programming error.
    """

    records: Mapping[Entity, Record]
    source: ReadSource
    make_recall: Callable[[], SnapshotRecall] | None = field(default=None, repr=False, compare=False)

    def at(self, now: datetime) -> "Snapshot":
        """Return what the records say at this moment, by the database's clock."""
        status = self.records.get(Entity.STATUS)
        if not isinstance(status, StatusRecord) or (says := status.at(now)) is status:
            return self
        return replace(self, records={**self.records, Entity.STATUS: says})

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
        return tuple(self.records[entity].version for entity in _ENTITIES if entity in self.records)
