"""The calls of the API, one method each, and the stream of commands."""

from collections.abc import AsyncIterator, Awaitable, Mapping
from datetime import datetime
from types import TracebackType
from typing import Any, Final, Self
from urllib.parse import quote
from uuid import UUID

from zpmeow.client.errors import Refused
from zpmeow.client.models import Command, CreatedSession, PairingCode, QrCode, Session, Status
from zpmeow.client.transport import Transport
from zpmeow.domain.records import SessionStatus

PATIENCE_SECONDS: Final = 60.0

Reference = UUID | str
"""A session's id or its name."""


class Client:
    """Calls one service with one key. Every method raises Refused and ServiceAway."""

    def __init__(
        self, base_url: str, *, api_key: str | None = None, patience_seconds: float = PATIENCE_SECONDS
    ) -> None:
        """Call the service at `base_url`; use it by `async with`.

        Args:
            base_url: where the service is, or a proxy before several.
            api_key: the engines', the operator's, or a session's own; None where none is asked for.
            patience_seconds: how long a call tries while the service is away.
        """
        self._cursor = ""
        self._transport = Transport(base_url=base_url, api_key=api_key, patience_seconds=patience_seconds)

    async def __aenter__(self) -> Self:
        """Begin."""
        await self._transport.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End."""
        await self._transport.__aexit__(kind, error, trace)

    # What owners and operators do.

    async def create_session(
        self, name: str, *, api_key: str | None = None, proxy_url: str | None = None
    ) -> CreatedSession:
        """Make a session. It is not tried again if it may have been made: ServiceAway leaves that open."""
        body = {"name": name, "api_key": api_key, "proxy_url": proxy_url}
        given = {field: value for field, value in body.items() if value is not None}
        data = await self._transport.call("POST", "/sessions/create", given, is_repeatable=False)
        return CreatedSession(session=Session.read(data["session"]), api_key=data["api_key"])

    async def session(self, reference: Reference) -> Session:
        """Return a session; to an engine with its proxy's password."""
        data = await self._transport.call("GET", _path(reference, "info"))
        return Session.read(data["session"])

    async def status(self, reference: Reference) -> Status:
        """Return how its connection stands."""
        return Status.read(await self._transport.call("GET", _path(reference, "status")))

    async def sessions(
        self, *, status: SessionStatus | None = None, desired_status: SessionStatus | None = None
    ) -> AsyncIterator[Session]:
        """Yield all sessions of these statuses, oldest first, page by page."""
        filters = {"status": status, "desired_status": desired_status}
        query = {name: str(value) for name, value in filters.items() if value is not None}
        while True:
            data = await self._transport.call("GET", "/engine/sessions", query=query)
            for found in data["sessions"]:
                yield Session.read(found)
            if data["next_cursor"] is None:
                return
            query["cursor"] = data["next_cursor"]

    async def connect(self, reference: Reference) -> None:
        """Wish a session to be connected."""
        await self._transport.call("POST", _path(reference, "connect"))

    async def pair(self, reference: Reference, phone: str) -> None:
        """Wish a session to be paired with this telephone (10 to 15 digits), and connected."""
        await self._transport.call("POST", _path(reference, "pair"), {"phone": phone})

    async def disconnect(self, reference: Reference) -> None:
        """Wish a session to be disconnected."""
        await self._transport.call("POST", _path(reference, "disconnect"))

    async def delete_session(self, reference: Reference) -> None:
        """Remove a session; one that is not there is removed."""
        await _unless("SESSION_NOT_FOUND", self._transport.call("DELETE", _path(reference, "delete")))

    async def qr_code(self, reference: Reference, *, wait_seconds: int = 0) -> QrCode | None:
        """Return the code to scan, as soon as there is one within the wait (60 s at most)."""
        call = self._transport.call("GET", _path(reference, "qr"), wait_seconds=wait_seconds)
        data = await _unless("QR_CODE_NOT_FOUND", call)
        return None if data is None else QrCode.read(data)

    async def pairing_code(self, reference: Reference, *, wait_seconds: int = 0) -> PairingCode | None:
        """Return the code to enter on a telephone, as soon as there is one within the wait (60 s at most)."""
        call = self._transport.call("GET", _path(reference, "pairing-code"), wait_seconds=wait_seconds)
        data = await _unless("PAIRING_CODE_NOT_FOUND", call)
        return None if data is None else PairingCode.read(data)

    # What engines do.

    async def report(
        self,
        reference: Reference,
        status: SessionStatus,
        *,
        reason: str | None = None,
        valid_for_seconds: int | None = None,
        as_holder: bool = True,
    ) -> None:
        """Say how a session's connection stands, as a promise for so long if that is given.

        Once this client has asked for commands, all that it reports counts only as the engine that took them: Refused
        (SESSION_NOT_HELD)
        when another one has taken over the session, or its owner does not want it connected any more. Without
        `as_holder` it speaks as anybody.
        """
        body = {"status": status, "reason": reason, "valid_for": valid_for_seconds}
        given: dict[str, object] = {field: value for field, value in body.items() if value is not None}
        if as_holder:
            given.update(self._as_holder())
        await self._transport.call("PUT", _path(reference, "status"), given)

    async def put_qr_code(
        self, reference: Reference, qr_code: str, *, expires_in_seconds: int = 60, issued_at: datetime | None = None
    ) -> None:
        """Bring a code to scan; with `issued_at` (timezone-aware) the newest wins, whatever the order of arrival."""
        body: dict[str, object] = {"qr_code": qr_code, "expires_in": expires_in_seconds, **self._as_holder()}
        if issued_at is not None:
            body["issued_at"] = issued_at.isoformat()
        await self._transport.call("PUT", _path(reference, "qr"), body)

    async def put_pairing_code(self, reference: Reference, code: str, *, expires_in_seconds: int = 160) -> None:
        """Bring a code to enter on a telephone."""
        body = {"code": code, "expires_in": expires_in_seconds, **self._as_holder()}
        await self._transport.call("PUT", _path(reference, "pairing-code"), body)

    async def device(self, reference: Reference) -> str | None:
        """Return the JID of the device that a session is paired with, None if it is not."""
        data = await _unless("CREDENTIAL_NOT_FOUND", self._transport.call("GET", _path(reference, "credentials")))
        return None if data is None else str(data["device_jid"])

    async def put_device(self, reference: Reference, device_jid: str) -> None:
        """Say which device a session is paired with; its codes are dropped."""
        body = {"device_jid": device_jid, **self._as_holder()}
        await self._transport.call("PUT", _path(reference, "credentials"), body)

    async def remove_device(self, reference: Reference) -> None:
        """Say that a session is not paired any more."""
        await self._transport.call("DELETE", _path(reference, "credentials"))

    async def commands(self, *, wait_seconds: int = 30, sessions: int = 10) -> AsyncIterator[Command]:
        """Yield commands for ever, whatever happens to the service or the way there.

        Each is to be acknowledged within 30 s, else another engine gets it. Of one session they come in order; the next
        one comes when all before it are acknowledged. Use one stream per engine process, and `worker.work` around it.

        Args:
            wait_seconds: how long one question waits at the service (60 s at most).
            sessions: of how many sessions commands are taken at a time.
        """
        while True:
            data = await self._transport.call(
                "GET",
                "/engine/commands",
                query={"cursor": self._cursor, "limit": str(sessions)},
                wait_seconds=wait_seconds,
                gives_up=False,
            )
            self._cursor = data["next_cursor"]
            for found in data["commands"]:
                yield Command.read(found)

    async def acknowledge(self, command: Command, *, error: str | None = None) -> None:
        """Say that a command has been done, or why it could not be. Said twice, the first word counts.

        Refused (SESSION_NOT_HELD) when it took too long, and another engine has it by now.
        """
        body: dict[str, object] = {"ok": error is None, **self._as_holder()}
        if error is not None:
            body["error"] = error
        await self._transport.call("POST", f"/engine/commands/{command.id}/ack", body)

    def _as_holder(self) -> dict[str, object]:
        """Say which engine speaks, once it has asked for commands."""
        return {"cursor": self._cursor} if self._cursor else {}


def _path(reference: Reference, what: str) -> str:
    return f"/sessions/{quote(str(reference), safe='')}/{what}"


async def _unless(code: str, call: Awaitable[Mapping[str, Any]]) -> Mapping[str, Any] | None:
    """Return what the call does, None if it is refused with this code."""
    try:
        return await call
    except Refused as refused:
        if refused.code == code:
            return None
        raise
