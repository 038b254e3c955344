"""What owners and operators do with sessions: make, read, change, connect, remove."""

from collections.abc import Callable, Mapping

from zpmeow.api import presenting
from zpmeow.api.answers import Answer, encoded_success, not_modified, revalidated, success
from zpmeow.api.inputs import CreateSession, ListQuery, PairSession, UpdateSession, WebhookInput
from zpmeow.api.negotiation import still_holds
from zpmeow.api.repeatable import Repeatable
from zpmeow.api.route import Call, Route
from zpmeow.api.shapes import (
    ChangedSessionShape,
    ChangedStatusShape,
    ChangedWebhookShape,
    CreatedShape,
    CredentialShape,
    InfoShape,
    RotatedShape,
    SessionListShape,
    StatusShape,
    WriteShape,
)
from zpmeow.domain.errors import (
    AlreadyConnected,
    ApiKeyTaken,
    CredentialNotFound,
    SessionNameTaken,
    SessionNotFound,
)
from zpmeow.domain.ports import UNSET
from zpmeow.domain.records import Snapshot
from zpmeow.services.access import Access
from zpmeow.services.sessions import CREDENTIALS, INFO

# Marks in the ETag, of what the versions do not tell.
_WITH_PASSWORD = "p"  # noqa: S105  (no password)
_OVERDUE = "o"


async def _create(call: Call[CreateSession]) -> Answer:
    wanted = call.input
    keyed = await call.services.sessions.create(
        name=wanted.name,
        api_key=wanted.api_key,
        proxy_url=wanted.proxy_url,
        webhook=None if wanted.webhook is None else wanted.webhook.to_domain(),
    )
    data: CreatedShape = {
        **presenting.write(keyed.snapshot.session, "create", call.services.now),
        "session": presenting.session(keyed.snapshot),
        "api_key": keyed.api_key,
    }
    return success(data, status=201)


async def _list(call: Call[ListQuery]) -> Answer:
    page = await call.services.sessions.list_sessions(
        limit=call.input.limit,
        cursor=call.input.cursor,
        status=call.input.status,
        desired_status=call.input.desired_status,
    )
    return success(presenting.page(page))


async def _info(call: Call[None]) -> Answer:
    snapshot = await call.services.sessions.info(call.admission)
    shows_password = call.admission.sees_proxy_password and snapshot.session.proxy_password is not None
    mark = _WITH_PASSWORD if shows_password else ""
    return _revalidated(call, snapshot, mark, lambda: presenting.info(snapshot, shows_password=shows_password))


async def _status(call: Call[None]) -> Answer:
    snapshot = await call.services.sessions.status(call.admission)
    return _revalidated(call, snapshot, "", lambda: presenting.status(snapshot))


async def _credentials(call: Call[None]) -> Answer:
    snapshot = await call.services.sessions.credentials(call.admission)
    return success(presenting.credential(snapshot), source=snapshot.source)


async def _update(call: Call[UpdateSession]) -> Answer:
    wanted, given = call.input, call.input.model_fields_set
    webhook = None if wanted.webhook is None else wanted.webhook.to_domain()
    snapshot = await call.services.sessions.update(
        call.admission,
        name=wanted.name if "name" in given else UNSET,
        proxy_url=wanted.proxy_url if "proxy_url" in given else UNSET,
        webhook=webhook if "webhook" in given else UNSET,
    )
    data: ChangedSessionShape = {
        **presenting.write(snapshot.session, "update", call.services.now),
        "session": presenting.session(snapshot),
    }
    return success(data)


async def _rotate_key(call: Call[None]) -> Answer:
    keyed = await call.services.sessions.rotate_key(call.admission)
    data: RotatedShape = {
        **presenting.write(keyed.snapshot.session, "rotate_key", call.services.now),
        "api_key": keyed.api_key,
    }
    return success(data)


async def _put_webhook(call: Call[WebhookInput]) -> Answer:
    snapshot = await call.services.sessions.update(call.admission, webhook=call.input.to_domain())
    data: ChangedWebhookShape = {
        **presenting.write(snapshot.session, "set_webhook", call.services.now),
        "webhook": presenting.webhook(snapshot.session.webhook),
    }
    return success(data)


async def _delete(call: Call[None]) -> Answer:
    removal = await call.services.sessions.delete(call.admission)
    return success(presenting.write(removal.session, "delete", call.services.now))


async def _connect(call: Call[None]) -> Answer:
    snapshot = await call.services.sessions.connect(call.admission)
    return success(presenting.moved(snapshot, "connect", call.services.now))


async def _pair(call: Call[PairSession]) -> Answer:
    snapshot = await call.services.sessions.pair(call.admission, call.input.phone)
    return success(presenting.moved(snapshot, "pair", call.services.now))


async def _disconnect(call: Call[None]) -> Answer:
    snapshot = await call.services.sessions.disconnect(call.admission)
    return success(presenting.moved(snapshot, "disconnect", call.services.now))


def _revalidated(
    call: Call[None], snapshot: Snapshot, mark: str, present: Callable[[], Mapping[str, object]]
) -> Answer:
    """Answer with the data, or that what the caller keeps still holds.

    The ETag names this very content: the epoch, the versions of all entries it is made of, who may see it, whether a
    promise has ended.
    """
    if snapshot.status.is_overdue:
        mark += _OVERDUE
    epoch_tag = call.services.epoch_tag()
    etag = f'"{epoch_tag}-{"-".join(map(str, snapshot.versions))}{mark}"'
    has_it = still_holds(call.request.headers.get("If-None-Match"), etag)
    if has_it and snapshot.make_recall is None:
        return not_modified(source=snapshot.source, etag=etag)
    body = encoded_success(present())
    repeatable = None
    if snapshot.make_recall is not None:
        repeatable = Repeatable(
            make_recall=snapshot.make_recall,
            records=snapshot.records,
            epoch_tag=epoch_tag,
            until=snapshot.status.valid_until,
            admission=call.admission,
            etag=etag,
            body=body,
        )
    if has_it:
        return not_modified(source=snapshot.source, etag=etag, repeatable=repeatable)
    return revalidated(body, source=snapshot.source, etag=etag, repeatable=repeatable)


_SESSION = "/sessions/{sessionId}"

SESSION_ROUTES = (
    Route(
        method="POST",
        path="/sessions/create",
        handler=_create,
        summary="Make a session",
        access=Access.OPERATOR,
        body=CreateSession,
        status=201,
        data=CreatedShape,
        errors=(SessionNameTaken, ApiKeyTaken),
    ),
    Route(
        method="GET",
        path="/sessions/list",
        handler=_list,
        summary="List sessions, oldest first",
        access=Access.OPERATOR,
        query=ListQuery,
        data=SessionListShape,
    ),
    # For engines, who may not call the route above: which sessions should be connected?
    Route(
        method="GET",
        path="/engine/sessions",
        handler=_list,
        summary="List sessions, oldest first",
        access=Access.ENGINE,
        query=ListQuery,
        data=SessionListShape,
    ),
    Route(
        method="GET",
        path=f"{_SESSION}/info",
        handler=_info,
        summary="Read a session",
        access=Access.READER,
        entities=INFO,
        data=InfoShape,
        errors=(SessionNotFound,),
        revalidates=True,
    ),
    Route(
        method="PATCH",
        path=_SESSION,
        handler=_update,
        summary="Rename a session, change its proxy or webhook",
        access=Access.OPERATOR,
        body=UpdateSession,
        data=ChangedSessionShape,
        errors=(SessionNotFound, SessionNameTaken),
    ),
    Route(
        method="POST",
        path=f"{_SESSION}/rotate-key",
        handler=_rotate_key,
        summary="Give a session a new API key",
        access=Access.OWNER,
        data=RotatedShape,
        errors=(SessionNotFound,),
    ),
    Route(
        method="DELETE",
        path=f"{_SESSION}/delete",
        handler=_delete,
        summary="Remove a session and all that belongs to it",
        access=Access.OPERATOR,
        data=WriteShape,
        errors=(SessionNotFound,),
    ),
    Route(
        method="POST",
        path=f"{_SESSION}/connect",
        handler=_connect,
        summary="Wish the session to be connected",
        access=Access.OWNER,
        data=ChangedStatusShape,
        errors=(SessionNotFound, AlreadyConnected),
    ),
    Route(
        method="POST",
        path=f"{_SESSION}/pair",
        handler=_pair,
        summary="Wish the session to be paired with a telephone, by a code to enter there, and connected",
        access=Access.OWNER,
        body=PairSession,
        data=ChangedStatusShape,
        errors=(SessionNotFound, AlreadyConnected),
    ),
    Route(
        method="POST",
        path=f"{_SESSION}/disconnect",
        handler=_disconnect,
        summary="Wish the session to be disconnected; drops the QR code",
        access=Access.OWNER,
        data=ChangedStatusShape,
        errors=(SessionNotFound,),
    ),
    Route(
        method="GET",
        path=f"{_SESSION}/status",
        handler=_status,
        summary="Read how the connection stands",
        access=Access.READER,
        entities=INFO,
        data=StatusShape,
        errors=(SessionNotFound,),
        revalidates=True,
    ),
    Route(
        method="GET",
        path=f"{_SESSION}/credentials",
        handler=_credentials,
        summary="Read which device the session is paired with",
        access=Access.READER,
        entities=CREDENTIALS,
        data=CredentialShape,
        errors=(SessionNotFound, CredentialNotFound),
    ),
    Route(
        method="PUT",
        path=f"{_SESSION}/webhook",
        handler=_put_webhook,
        summary="Say where the session's events are sent",
        access=Access.OWNER,
        body=WebhookInput,
        data=ChangedWebhookShape,
        errors=(SessionNotFound,),
    ),
)
