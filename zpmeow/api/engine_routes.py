"""What WhatsApp engines report of a session: its status, the code to scan, the device it is paired with."""

from zpmeow.api import presenting
from zpmeow.api.answers import Answer, success
from zpmeow.api.inputs import PutCredentials, PutQr, PutStatus
from zpmeow.api.route import Call, Route
from zpmeow.api.shapes import ChangedStatusShape, StoredCredentialShape, StoredQrShape
from zpmeow.domain.errors import DeviceAlreadyInUse, InvalidTransition, SessionNotFound
from zpmeow.services.access import Access


async def _put_qr(call: Call[PutQr]) -> Answer:
    snapshot = await call.services.sessions.put_qr(call.admission, call.input.qr_code, call.input.expires_in)
    data: StoredQrShape = {
        **presenting.write(snapshot.session, "put_qr", call.services.now),
        "expires_at": snapshot.qr.expires_at,
    }
    return success(data)


async def _put_status(call: Call[PutStatus]) -> Answer:
    # An empty reason says as little as none.
    reason = call.input.reason or None
    snapshot = await call.services.sessions.report_status(call.admission, call.input.status, reason)
    return success(presenting.moved(snapshot, "put_status", call.services.now))


async def _put_credentials(call: Call[PutCredentials]) -> Answer:
    snapshot = await call.services.sessions.put_credential(call.admission, call.input.device_jid)
    return success(presenting.stored_credential(snapshot, "put_credentials", call.services.now))


async def _remove_credentials(call: Call[None]) -> Answer:
    snapshot = await call.services.sessions.remove_credential(call.admission)
    return success(presenting.stored_credential(snapshot, "remove_credentials", call.services.now))


_SESSION = "/sessions/{sessionId}"

ENGINE_ROUTES = (
    Route(
        method="PUT",
        path=f"{_SESSION}/qr",
        handler=_put_qr,
        summary="Store a code to scan",
        access=Access.ENGINE,
        body=PutQr,
        data=StoredQrShape,
        errors=(SessionNotFound,),
    ),
    Route(
        method="PUT",
        path=f"{_SESSION}/status",
        handler=_put_status,
        summary="Report how the connection stands",
        access=Access.ENGINE,
        body=PutStatus,
        data=ChangedStatusShape,
        errors=(SessionNotFound, InvalidTransition),
    ),
    Route(
        method="PUT",
        path=f"{_SESSION}/credentials",
        handler=_put_credentials,
        summary="Store the device that the session was paired with; drops the QR code",
        access=Access.ENGINE,
        body=PutCredentials,
        data=StoredCredentialShape,
        errors=(SessionNotFound, DeviceAlreadyInUse),
    ),
    Route(
        method="DELETE",
        path=f"{_SESSION}/credentials",
        handler=_remove_credentials,
        summary="Forget the device",
        access=Access.ENGINE,
        data=StoredCredentialShape,
        errors=(SessionNotFound,),
    ),
)
