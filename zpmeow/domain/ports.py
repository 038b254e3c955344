"""What the domain needs from outside: the contracts, told once. Implementations say `@override`.

`SessionRepository` has three implementations behind one contract suite: `PostgresSessionRepository`
(the truth), `CachedSessionRepository` (the truth behind the cache), `InMemorySessionRepository` (tests).
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum
from typing import Final, Protocol
from uuid import UUID

from zpmeow.domain.records import Entity, SessionRecord, SessionStatus, Snapshot, StatusRecord, Webhook
from zpmeow.domain.references import SessionReference
from zpmeow.domain.transitions import StatusChange


class Clock(Protocol):
    """The database's time, so that every process agrees when a thing expires."""

    def now(self) -> datetime:
        """Return the time, timezone-aware UTC. Never goes back within a process."""
        ...


class Unset(Enum):
    """The mark of a field that a change leaves alone (None would mean: remove it)."""

    UNSET = "unset"


UNSET: Final = Unset.UNSET


@dataclass(slots=True, frozen=True, kw_only=True)
class NewSession:
    """What a session is made of. `key_hash` is 32 bytes of SHA-256."""

    name: str
    key_hash: bytes = field(repr=False)
    proxy_url: str | None = field(default=None, repr=False)
    proxy_password: str | None = field(default=None, repr=False)
    webhook: Webhook | None = None


@dataclass(slots=True, frozen=True, kw_only=True)
class SessionChanges:
    """The fields of a session to change; those left UNSET stay as they are.

    `proxy_password` goes with `proxy_url`: setting the one sets the other.
    """

    name: str | Unset = UNSET
    key_hash: bytes | Unset = field(default=UNSET, repr=False)
    proxy_url: str | Unset | None = field(default=UNSET, repr=False)
    proxy_password: str | None = field(default=None, repr=False)
    webhook: Webhook | Unset | None = UNSET


@dataclass(slots=True, frozen=True, kw_only=True)
class ListedSession:
    """One line of the list: read from the database in one query, never from the cache."""

    session: SessionRecord
    status: StatusRecord
    device_jid: str | None = field(repr=False)


@dataclass(slots=True, frozen=True, kw_only=True)
class Page:
    """Some sessions in the order of their making, and where the next page starts (None: it was the last)."""

    sessions: Sequence[ListedSession]
    next_cursor: UUID | None


@dataclass(slots=True, frozen=True, kw_only=True)
class Removal:
    """What went with a session: its last record, and a version above all that its rows ever had."""

    session: SessionRecord
    version: int


class SessionReader(Protocol):
    """Reads the records of a session."""

    async def find(
        self, reference: SessionReference, entities: frozenset[Entity], *, with_secrets: bool = False
    ) -> Snapshot | None:
        """Return the asked-for records of the session and always its own, or None if there is no such session.

        Records asked for by one call come from one moment where the database is asked, and may be of
        several moments where the cache answers; each is never older than the coherence bound.

        Args:
            reference: by id, by name or by the hash of its key.
            entities: what is wanted besides `Entity.SESSION`.
            with_secrets: the session record holds the proxy's password (asks the database).

        Raises:
            Unavailable: only the database could answer, and it cannot.
        """
        ...


class SessionRepository(SessionReader, Protocol):
    """The sessions: reads and writes.

    A write is done when it returns: committed, and seen by every later read of this process. Its
    answer holds the records that it changed, with their new versions, and always the session's own
    (`source` is MISS: it comes from the database). After a cancellation a write has happened wholly
    or not at all. All raise Unavailable when the database cannot answer; whether the write then
    happened is not known. All that take a reference raise SessionNotFound. Those that take a `holder` write only if
    that engine has the session, by the commands that it took, and raise SessionNotHeld otherwise.
    """

    async def create(self, new: NewSession) -> Snapshot:
        """Make a session, with all four records. Raises SessionNameTaken, ApiKeyTaken."""
        ...

    async def update(self, reference: SessionReference, changes: SessionChanges) -> Snapshot:
        """Change a session's own record; the answer holds all four. Raises SessionNameTaken, ApiKeyTaken."""
        ...

    async def delete(self, reference: SessionReference) -> Removal:
        """Remove a session and all that belongs to it."""
        ...

    async def change_status(
        self,
        reference: SessionReference,
        decide: Callable[[StatusRecord], StatusChange],
        *,
        holder: UUID | None = None,
    ) -> Snapshot:
        """Change the status as `decide` says on the current record, under the row's lock.

        `decide` must not wait; what it raises is raised here, and nothing has changed. A change that
        changes nothing writes nothing. The answer holds the status, and the codes if any was dropped.
        """
        ...

    async def put_qr(
        self,
        reference: SessionReference,
        code: str,
        lifetime_seconds: float,
        *,
        issued_at: datetime | None = None,
        holder: UUID | None = None,
    ) -> Snapshot:
        """Store a QR code; it expires `lifetime_seconds` from now by the database's clock.

        `issued_at` is when its engine made it, by the engine's clock: while the code stored last would live, one that
        is older than that changes nothing, and the answer holds the newer one. Without it the last one to come wins.
        """
        ...

    async def put_pairing_code(
        self, reference: SessionReference, code: str, lifetime_seconds: float, *, holder: UUID | None = None
    ) -> Snapshot:
        """Store a code to enter on a telephone; it expires `lifetime_seconds` from now by the database's clock."""
        ...

    async def put_credential(
        self, reference: SessionReference, device_jid: str, *, holder: UUID | None = None
    ) -> Snapshot:
        """Store the device; the codes are dropped. Raises DeviceAlreadyInUse.

        The same device again changes nothing but drops the codes all the same.
        """
        ...

    async def remove_credential(self, reference: SessionReference) -> Snapshot:
        """Forget the device; nothing happens if there is none."""
        ...

    async def list_sessions(
        self,
        *,
        limit: int,
        cursor: UUID | None,
        status: SessionStatus | None = None,
        desired_status: SessionStatus | None = None,
    ) -> Page:
        """Return a page of sessions, oldest first: those made after the session `cursor`.

        Statuses are as they read at that moment: one whose promise has ended is listed as an error. A cursor whose
        session is gone gives an empty last page. Asks the database.
        """
        ...

    async def find_many(self, session_ids: Collection[UUID], entities: frozenset[Entity]) -> dict[UUID, Snapshot]:
        """Return those of the sessions that there are, each with the asked-for records and its own.

        All are from one moment. Asks the database.
        """
        ...

    async def recent(self, limit: int) -> Sequence[Snapshot]:
        """Return up to `limit` sessions with all four records, the most recently changed first. Asks the database."""
        ...


class OverduePromises(Protocol):
    """The statuses whose promise has ended."""

    async def record_silence(self, *, limit: int) -> int:
        """Record up to `limit` of them as what they are, and return how many. Raises Unavailable.

        Those that somebody is writing at the moment are left out. Any process may do that, several at a time.
        """
        ...


class Health(Protocol):
    """Tells whether something this service stands on works."""

    async def problem(self) -> str | None:
        """Return None if it works, else the reason in a few words without secrets. Takes at most 1 s."""
        ...


@dataclass(slots=True, frozen=True, kw_only=True)
class ControlState:
    """What all processes must agree on, as PostgreSQL has it.

    `mode` is the cache mode's value; `epoch` are 16 random bytes: entries of another epoch are void;
    `read_at` is the database's clock when this was read.
    """

    mode: str
    epoch: bytes
    read_at: datetime


class ControlStore(Protocol):
    """The settings that processes share. All raise Unavailable."""

    async def read(self) -> ControlState:
        """Read all of it, in one query."""
        ...

    async def set_mode(self, mode: str) -> None:
        """Keep an operator's choice; it survives restarts."""
        ...
