"""The use cases of a session: made, read, changed, connected, removed.

Each takes the `Admission` that let the caller in, so that nothing is read twice and no use case can be
reached without one.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from zpmeow.domain import transitions
from zpmeow.domain.api_key import generate_api_key, hash_api_key
from zpmeow.domain.errors import CredentialNotFound, PairingCodeNotFound, QrCodeNotFound, SessionNotFound
from zpmeow.domain.ports import UNSET, Clock, NewSession, Page, Removal, SessionChanges, SessionRepository, Unset
from zpmeow.domain.proxy import split_password
from zpmeow.domain.records import Entity, QrRecord, SessionStatus, Snapshot, StatusRecord, Webhook
from zpmeow.domain.references import ById
from zpmeow.domain.transitions import StatusChange
from zpmeow.services.access import Admission
from zpmeow.services.arrivals import Arrivals

INFO = frozenset({Entity.SESSION, Entity.STATUS, Entity.CREDENTIAL})
QR = frozenset({Entity.SESSION, Entity.QR})
CREDENTIALS = frozenset({Entity.SESSION, Entity.CREDENTIAL})
NOTHING: frozenset[Entity] = frozenset()


@dataclass(slots=True, frozen=True, kw_only=True)
class Keyed:
    """A session and its new API key in clear: shown once, kept nowhere."""

    snapshot: Snapshot
    api_key: str = field(repr=False)


class SessionService:
    """What callers may do with sessions. Every method may raise Unavailable, and SessionNotFound."""

    def __init__(self, *, sessions: SessionRepository, clock: Clock, arrivals: Arrivals) -> None:
        """Work on the repository, by the database's clock; `arrivals` tells those who wait of changes."""
        self._sessions = sessions
        self._clock = clock
        self._arrivals = arrivals

    async def create(self, *, name: str, api_key: str | None, proxy_url: str | None, webhook: Webhook | None) -> Keyed:
        """Make a session; a key is generated unless the caller brings one.

        Raises:
            SessionNameTaken: another session has the name.
            ApiKeyTaken: another session has the key.
        """
        key = api_key or generate_api_key()
        stripped_url, password = (None, None) if proxy_url is None else split_password(proxy_url)
        snapshot = await self._sessions.create(
            NewSession(
                name=name,
                key_hash=hash_api_key(key),
                proxy_url=stripped_url,
                proxy_password=password,
                webhook=webhook,
            )
        )
        return Keyed(snapshot=snapshot, api_key=key)

    async def list_sessions(
        self,
        *,
        limit: int,
        cursor: UUID | None,
        status: SessionStatus | None = None,
        desired_status: SessionStatus | None = None,
    ) -> Page:
        """Return a page of sessions, oldest first."""
        return await self._sessions.list_sessions(
            limit=limit, cursor=cursor, status=status, desired_status=desired_status
        )

    async def info(self, admission: Admission) -> Snapshot:
        """Return the session with its status and device; for an engine with the proxy's password."""
        snapshot = await self._read(admission, INFO)
        if admission.sees_proxy_password and snapshot.session.has_proxy_password:
            found = await self._sessions.find(admission.target, INFO, with_secrets=True)
            if found is None:
                raise _no_session()
            return found.at(self._clock.now())
        return snapshot

    async def status(self, admission: Admission) -> Snapshot:
        """Return the session with its status and device."""
        return await self._read(admission, INFO)

    async def qr(self, admission: Admission, *, wait_seconds: float = 0.0) -> Snapshot:
        """Return the session with a QR code that is valid now, as soon as there is one within the wait.

        Raises:
            QrCodeNotFound: there was none.
            Stopping: the service stops before the wait is over.
        """
        snapshot = await self._codes(admission, QrRecord.has_code, wait_seconds)
        if snapshot is None:
            message = "the session has no QR code to scan"
            raise QrCodeNotFound(message)
        return snapshot

    async def pairing_code(self, admission: Admission, *, wait_seconds: float = 0.0) -> Snapshot:
        """Return the session with a pairing code that is valid now, as soon as there is one within the wait.

        Raises:
            PairingCodeNotFound: there was none.
            Stopping: the service stops before the wait is over.
        """
        snapshot = await self._codes(admission, QrRecord.has_pairing_code, wait_seconds)
        if snapshot is None:
            message = "the session has no pairing code to enter"
            raise PairingCodeNotFound(message)
        return snapshot

    async def credentials(self, admission: Admission) -> Snapshot:
        """Return the session with the device it is paired with. Raises CredentialNotFound."""
        snapshot = await self._read(admission, CREDENTIALS)
        if snapshot.credential.device_jid is None:
            message = "the session is not paired with a device"
            raise CredentialNotFound(message)
        return snapshot

    async def update(
        self,
        admission: Admission,
        *,
        name: str | Unset = UNSET,
        proxy_url: str | Unset | None = UNSET,
        webhook: Webhook | Unset | None = UNSET,
    ) -> Snapshot:
        """Change what is given; None removes the proxy or the webhook. Raises SessionNameTaken."""
        password = None
        if isinstance(proxy_url, str):
            proxy_url, password = split_password(proxy_url)
        changes = SessionChanges(name=name, proxy_url=proxy_url, proxy_password=password, webhook=webhook)
        return (await self._sessions.update(admission.target, changes)).at(self._clock.now())

    async def rotate_key(self, admission: Admission) -> Keyed:
        """Give the session a new key; the old one opens nothing any more."""
        key = generate_api_key()
        snapshot = await self._sessions.update(admission.target, SessionChanges(key_hash=hash_api_key(key)))
        return Keyed(snapshot=snapshot, api_key=key)

    async def delete(self, admission: Admission) -> Removal:
        """Remove the session and all that belongs to it."""
        return await self._sessions.delete(admission.target)

    async def connect(self, admission: Admission) -> Snapshot:
        """Note the wish to be connected. Raises AlreadyConnected."""
        return await self._change_status(admission, transitions.connect)

    async def pair(self, admission: Admission, phone: str) -> Snapshot:
        """Note the wish to be connected, and paired with this telephone first. Raises AlreadyConnected."""
        return await self._change_status(admission, transitions.pair(phone))

    async def disconnect(self, admission: Admission) -> Snapshot:
        """Note the wish to be disconnected; drops the QR code."""
        return await self._change_status(admission, transitions.disconnect)

    async def report_status(
        self,
        admission: Admission,
        status: SessionStatus,
        reason: str | None,
        *,
        valid_for_seconds: float | None = None,
        holder: UUID | None = None,
    ) -> Snapshot:
        """Store what an engine reports, as a promise for so long if it says so.

        Raises:
            InvalidTransition: there is no such step.
            SessionNotHeld: `holder` is not the engine that has the session.
        """
        return await self._change_status(
            admission, transitions.report(status, reason, valid_for_seconds), holder=holder
        )

    async def put_qr(
        self,
        admission: Admission,
        code: str,
        lifetime_seconds: float,
        *,
        issued_at: datetime | None = None,
        holder: UUID | None = None,
    ) -> Snapshot:
        """Store the code to scan, unless a newer one is there: `issued_at` tells, by the engine's clock.

        Raises SessionNotHeld: `holder` is not the engine that has the session.
        """
        return await self._sessions.put_qr(admission.target, code, lifetime_seconds, issued_at=issued_at, holder=holder)

    async def put_pairing_code(
        self, admission: Admission, code: str, lifetime_seconds: float, *, holder: UUID | None = None
    ) -> Snapshot:
        """Store the code to enter on a telephone. Raises SessionNotHeld."""
        return await self._sessions.put_pairing_code(admission.target, code, lifetime_seconds, holder=holder)

    async def put_credential(self, admission: Admission, device_jid: str, *, holder: UUID | None = None) -> Snapshot:
        """Store the device that the session is paired with. Raises DeviceAlreadyInUse, SessionNotHeld."""
        return await self._sessions.put_credential(admission.target, device_jid, holder=holder)

    async def remove_credential(self, admission: Admission) -> Snapshot:
        """Forget the device."""
        return await self._sessions.remove_credential(admission.target)

    async def _codes(
        self, admission: Admission, is_there: Callable[[QrRecord, datetime], bool], wait_seconds: float
    ) -> Snapshot | None:
        """Return the session when it has such a code, None if it has none until the wait is over."""
        deadline = asyncio.get_running_loop().time() + wait_seconds
        snapshot = await self._read(admission, QR)
        if is_there(snapshot.qr, self._clock.now()):
            return snapshot
        if wait_seconds <= 0:
            return None
        session_id = snapshot.session.id
        with self._arrivals.watch(Entity.QR, str(session_id)) as watch:
            has_time = True
            while True:
                found = await self._sessions.find(ById(session_id), QR)
                if found is None:
                    raise _no_session()
                admission.check_still_opens(found.session)
                if is_there(found.qr, self._clock.now()):
                    return found
                if not has_time:
                    return None
                has_time = await watch.changed(deadline)

    async def _change_status(
        self, admission: Admission, decide: Callable[[StatusRecord], StatusChange], *, holder: UUID | None = None
    ) -> Snapshot:
        """Decide on what the status reads as now, which need not be recorded yet."""
        return await self._sessions.change_status(
            admission.target, lambda current: decide(current.at(self._clock.now())), holder=holder
        )

    async def _read(self, admission: Admission, entities: frozenset[Entity]) -> Snapshot:
        found = admission.snapshot
        if found is None or not entities <= found.records.keys():
            found = await self._sessions.find(admission.target, entities)
        if found is None:
            raise _no_session()
        return found.at(self._clock.now())


def _no_session() -> SessionNotFound:
    return SessionNotFound("no session has that id or name")
