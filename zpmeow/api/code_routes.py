"""The codes to pair with: users wait for them, engines bring them."""

from zpmeow.api import presenting
from zpmeow.api.answers import VARY, Answer, success
from zpmeow.api.inputs import PutPairingCode, PutQr, WaitQuery
from zpmeow.api.negotiation import preferred
from zpmeow.api.pictures import CONTENT_TYPES, PICTURES
from zpmeow.api.route import Call, Route
from zpmeow.api.shapes import PairingCodeShape, QrShape, StoredCodeShape
from zpmeow.domain.errors import (
    PairingCodeNotFound,
    QrCodeNotFound,
    SessionNotFound,
    SessionNotHeld,
    Stopping,
)
from zpmeow.services.access import Access
from zpmeow.services.sessions import QR


async def _qr(call: Call[WaitQuery]) -> Answer:
    snapshot = await call.services.sessions.qr(call.admission, wait_seconds=call.input.wait)
    data = presenting.qr(snapshot)
    answer = success(data, source=snapshot.source)
    media_type = preferred(call.request.headers.get("Accept"), ("application/json", *PICTURES))
    if media_type in PICTURES:
        lives_seconds = (data["expires_at"] - call.services.now()).total_seconds()
        picture = await call.services.pictures.get(data["qr_code"], media_type, seconds=lives_seconds)
        if picture is not None:
            answer.body, answer.content_type = picture, CONTENT_TYPES.get(media_type, media_type)
    answer.headers = {"Vary": VARY}
    return answer


async def _pairing_code(call: Call[WaitQuery]) -> Answer:
    snapshot = await call.services.sessions.pairing_code(call.admission, wait_seconds=call.input.wait)
    return success(presenting.pairing_code(snapshot), source=snapshot.source)


async def _put_qr(call: Call[PutQr]) -> Answer:
    wanted = call.input
    snapshot = await call.services.sessions.put_qr(
        call.admission, wanted.qr_code, wanted.expires_in, issued_at=wanted.issued_at, holder=wanted.engine
    )
    data: StoredCodeShape = {
        **presenting.write(snapshot.session, "put_qr", call.services.now),
        "expires_at": snapshot.qr.expires_at,
    }
    return success(data)


async def _put_pairing_code(call: Call[PutPairingCode]) -> Answer:
    wanted = call.input
    snapshot = await call.services.sessions.put_pairing_code(
        call.admission, wanted.code, wanted.expires_in, holder=wanted.engine
    )
    data: StoredCodeShape = {
        **presenting.write(snapshot.session, "put_pairing_code", call.services.now),
        "expires_at": snapshot.qr.pairing_expires_at,
    }
    return success(data)


_SESSION = "/sessions/{sessionId}"

CODE_ROUTES = (
    Route(
        method="GET",
        path=f"{_SESSION}/qr",
        handler=_qr,
        summary="Read the code to scan, as text or picture",
        access=Access.READER,
        entities=QR,
        query=WaitQuery,
        data=QrShape,
        media_types=PICTURES,
        errors=(SessionNotFound, QrCodeNotFound, Stopping),
        waits=True,
    ),
    Route(
        method="GET",
        path=f"{_SESSION}/pairing-code",
        handler=_pairing_code,
        summary="Read the code to enter on a telephone",
        access=Access.READER,
        entities=QR,
        query=WaitQuery,
        data=PairingCodeShape,
        errors=(SessionNotFound, PairingCodeNotFound, Stopping),
        waits=True,
    ),
    Route(
        method="PUT",
        path=f"{_SESSION}/qr",
        handler=_put_qr,
        summary="Store a code to scan",
        access=Access.ENGINE,
        body=PutQr,
        data=StoredCodeShape,
        errors=(SessionNotFound, SessionNotHeld),
    ),
    Route(
        method="PUT",
        path=f"{_SESSION}/pairing-code",
        handler=_put_pairing_code,
        summary="Store a code to enter on a telephone",
        access=Access.ENGINE,
        body=PutPairingCode,
        data=StoredCodeShape,
        errors=(SessionNotFound, SessionNotHeld),
    ),
)
