"""A source of truth that can be away, or break off after the commit."""

from collections.abc import Callable, Collection, Sequence
from datetime import datetime
from uuid import UUID

from typing_extensions import override

from zpmeow.domain.errors import DatabaseUnavailable
from zpmeow.domain.ports import NewSession, Page, Removal, SessionChanges, SessionRepository
from zpmeow.domain.records import Entity, SessionStatus, Snapshot, StatusRecord
from zpmeow.domain.references import SessionReference
from zpmeow.domain.transitions import StatusChange


class FaultySessionRepository(SessionRepository):
    """Passes calls on to another repository, unless told to fail.

    `fault` is None (works), "away" (nothing happens), or "broken_off": a write happens, and its caller is
    told that the database is unavailable. `finds` counts the reads that reached it.
    """

    def __init__(self, inner: SessionRepository) -> None:
        """Fail in front of `inner`."""
        self._inner = inner
        self.fault: str | None = None
        self.finds = 0

    @override
    async def find(
        self, reference: SessionReference, entities: frozenset[Entity], *, with_secrets: bool = False
    ) -> Snapshot | None:
        if self.fault is not None:
            raise _away()
        self.finds += 1
        return await self._inner.find(reference, entities, with_secrets=with_secrets)

    @override
    async def create(self, new: NewSession) -> Snapshot:
        self._before()
        return self._after(await self._inner.create(new))

    @override
    async def update(self, reference: SessionReference, changes: SessionChanges) -> Snapshot:
        self._before()
        return self._after(await self._inner.update(reference, changes))

    @override
    async def delete(self, reference: SessionReference) -> Removal:
        self._before()
        removal = await self._inner.delete(reference)
        if self.fault is not None:
            raise _away()
        return removal

    @override
    async def change_status(
        self,
        reference: SessionReference,
        decide: Callable[[StatusRecord], StatusChange],
        *,
        holder: UUID | None = None,
    ) -> Snapshot:
        self._before()
        return self._after(await self._inner.change_status(reference, decide, holder=holder))

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
        self._before()
        return self._after(
            await self._inner.put_qr(reference, code, lifetime_seconds, issued_at=issued_at, holder=holder)
        )

    @override
    async def put_pairing_code(
        self, reference: SessionReference, code: str, lifetime_seconds: float, *, holder: UUID | None = None
    ) -> Snapshot:
        self._before()
        return self._after(await self._inner.put_pairing_code(reference, code, lifetime_seconds, holder=holder))

    @override
    async def put_credential(
        self, reference: SessionReference, device_jid: str, *, holder: UUID | None = None
    ) -> Snapshot:
        self._before()
        return self._after(await self._inner.put_credential(reference, device_jid, holder=holder))

    @override
    async def remove_credential(self, reference: SessionReference) -> Snapshot:
        self._before()
        return self._after(await self._inner.remove_credential(reference))

    @override
    async def list_sessions(
        self,
        *,
        limit: int,
        cursor: UUID | None,
        status: SessionStatus | None = None,
        desired_status: SessionStatus | None = None,
    ) -> Page:
        self._before()
        return await self._inner.list_sessions(limit=limit, cursor=cursor, status=status, desired_status=desired_status)

    @override
    async def find_many(self, session_ids: Collection[UUID], entities: frozenset[Entity]) -> dict[UUID, Snapshot]:
        if self.fault is not None:
            raise _away()
        self.finds += 1
        return await self._inner.find_many(session_ids, entities)

    @override
    async def recent(self, limit: int) -> Sequence[Snapshot]:
        self._before()
        return await self._inner.recent(limit)

    def _before(self) -> None:
        if self.fault == "away":
            raise _away()

    def _after(self, changed: Snapshot) -> Snapshot:
        if self.fault is not None:
            raise _away()
        return changed


def _away() -> DatabaseUnavailable:
    return DatabaseUnavailable("the database is away")
