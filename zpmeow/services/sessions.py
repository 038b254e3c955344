"""The use cases of a session: made, read, changed, connected, removed.

Each takes the `Admission` that let the caller in, so that nothing is read twice and no use case can be
reached without one.
"""

from dataclasses import dataclass, field
from uuid import UUID

from zpmeow.domain import transitions
from zpmeow.domain.api_key import generate_api_key, hash_api_key
from zpmeow.domain.errors import CredentialNotFound, QrCodeNotFound, SessionNotFound
from zpmeow.domain.ports import UNSET, Clock, NewSession, Page, Removal, SessionChanges, SessionRepository, Unset
from zpmeow.domain.proxy import split_password
from zpmeow.domain.records import Entity, SessionStatus, Snapshot, Webhook
from zpmeow.services.access import Admission

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

    def __init__(self, *, sessions: SessionRepository, clock: Clock) -> None:
        """Work on the repository, by the database's clock."""
        self._sessions = sessions
        self._clock = clock

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

    async def list_sessions(self, *, limit: int, cursor: UUID | None, status: SessionStatus | None) -> Page:
        """Return a page of sessions, oldest first."""
        return await self._sessions.list_sessions(limit=limit, cursor=cursor, status=status)

    async def info(self, admission: Admission) -> Snapshot:
        """Return the session with its status and device; for an engine with the proxy's password."""
        snapshot = await self._read(admission, INFO)
        if admission.sees_proxy_password and snapshot.session.has_proxy_password:
            found = await self._sessions.find(admission.target, INFO, with_secrets=True)
            if found is None:
                raise _no_session()
            return found
        return snapshot

    async def status(self, admission: Admission) -> Snapshot:
        """Return the session with its status and device."""
        return await self._read(admission, INFO)

    async def qr(self, admission: Admission) -> Snapshot:
        """Return the session with a QR code that is valid now. Raises QrCodeNotFound."""
        snapshot = await self._read(admission, QR)
        expires_at = snapshot.qr.expires_at
        if snapshot.qr.code is None or expires_at is None or expires_at <= self._clock.now():
            message = "the session has no QR code to scan"
            raise QrCodeNotFound(message)
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
        return await self._sessions.update(admission.target, changes)

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
        return await self._sessions.change_status(admission.target, transitions.connect)

    async def disconnect(self, admission: Admission) -> Snapshot:
        """Note the wish to be disconnected; drops the QR code."""
        return await self._sessions.change_status(admission.target, transitions.disconnect)

    async def report_status(self, admission: Admission, status: SessionStatus, reason: str | None) -> Snapshot:
        """Store what an engine reports. Raises InvalidTransition."""
        return await self._sessions.change_status(admission.target, transitions.report(status, reason))

    async def put_qr(self, admission: Admission, code: str, lifetime_seconds: float) -> Snapshot:
        """Store the code to scan."""
        return await self._sessions.put_qr(admission.target, code, lifetime_seconds)

    async def put_credential(self, admission: Admission, device_jid: str) -> Snapshot:
        """Store the device that the session is paired with. Raises DeviceAlreadyInUse."""
        return await self._sessions.put_credential(admission.target, device_jid)

    async def remove_credential(self, admission: Admission) -> Snapshot:
        """Forget the device."""
        return await self._sessions.remove_credential(admission.target)

    async def _read(self, admission: Admission, entities: frozenset[Entity]) -> Snapshot:
        if admission.snapshot is not None and entities <= admission.snapshot.records.keys():
            return admission.snapshot
        found = await self._sessions.find(admission.target, entities)
        if found is None:
            raise _no_session()
        return found


def _no_session() -> SessionNotFound:
    return SessionNotFound("no session has that id or name")
