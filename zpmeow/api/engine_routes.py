"""The engines' side: what they report of a session (status, device), and what they shall do."""

from zpmeow.api import presenting
from zpmeow.api.answers import Answer, success
from zpmeow.api.inputs import AcknowledgeCommand, CommandsQuery, PutCredentials, PutStatus
from zpmeow.api.route import Call, Route
from zpmeow.api.shapes import (
    AcknowledgedShape,
    ChangedStatusShape,
    CommandsShape,
    StoredCredentialShape,
)
from zpmeow.domain.errors import CommandNotFound, DeviceAlreadyInUse, InvalidTransition, SessionNotFound, SessionNotHeld
from zpmeow.domain.references import parse_uuid
from zpmeow.services.access import Access
from zpmeow.services.commands import read_cursor


async def _put_status(call: Call[PutStatus]) -> Answer:
    wanted = call.input
    snapshot = await call.services.sessions.report_status(
        call.admission,
        wanted.status,
        wanted.reason or None,  # An empty reason says as little as none.
        valid_for_seconds=wanted.valid_for,
        holder=wanted.engine,
    )
    return success(presenting.moved(snapshot, "put_status", call.services.now))


async def _put_credentials(call: Call[PutCredentials]) -> Answer:
    snapshot = await call.services.sessions.put_credential(
        call.admission, call.input.device_jid, holder=call.input.engine
    )
    return success(presenting.stored_credential(snapshot, "put_credentials", call.services.now))


async def _remove_credentials(call: Call[None]) -> Answer:
    snapshot = await call.services.sessions.remove_credential(call.admission)
    return success(presenting.stored_credential(snapshot, "remove_credentials", call.services.now))


async def _commands(call: Call[CommandsQuery]) -> Answer:
    wanted = call.input
    delivery = await call.services.commands.next(
        read_cursor(wanted.cursor), sessions=wanted.limit, wait_seconds=wanted.wait
    )
    return success(presenting.commands(delivery))


async def _acknowledge(call: Call[AcknowledgeCommand]) -> Answer:
    identifier = parse_uuid(call.names["id"])
    if identifier is None:
        message = "no command has that id"
        raise CommandNotFound(message)
    error = None if call.input.ok else call.input.error or "no reason given"
    ended = await call.services.commands.acknowledge(identifier, error=error, engine=call.input.engine)
    data: AcknowledgedShape = {
        "session_id": ended.session_id,
        "action": "acknowledge",
        "status": "success",
        "timestamp": call.services.now(),
        "id": identifier,
    }
    return success(data)


_SESSION = "/sessions/{sessionId}"

ENGINE_ROUTES = (
    Route(
        method="PUT",
        path=f"{_SESSION}/status",
        handler=_put_status,
        summary="Report how the connection stands",
        access=Access.ENGINE,
        body=PutStatus,
        data=ChangedStatusShape,
        errors=(SessionNotFound, InvalidTransition, SessionNotHeld),
    ),
    Route(
        method="PUT",
        path=f"{_SESSION}/credentials",
        handler=_put_credentials,
        summary="Store the device that the session was paired with; drops the QR code",
        access=Access.ENGINE,
        body=PutCredentials,
        data=StoredCredentialShape,
        errors=(SessionNotFound, SessionNotHeld, DeviceAlreadyInUse),
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
    Route(
        method="GET",
        path="/engine/commands",
        handler=_commands,
        summary="Take the commands that wait, each until it is acknowledged, for 30 s at most",
        access=Access.ENGINE,
        query=CommandsQuery,
        data=CommandsShape,
        waits=True,
        is_safe=False,  # HEAD would take commands and bring them to nobody.
    ),
    Route(
        method="POST",
        path="/engine/commands/{id}/ack",
        handler=_acknowledge,
        summary="Say that a command has been done, or why it could not be",
        access=Access.ENGINE,
        body=AcknowledgeCommand,
        data=AcknowledgedShape,
        errors=(CommandNotFound, SessionNotHeld),
    ),
)
