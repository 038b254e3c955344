"""From records to the shapes of answers. What must not be shown (key hashes, passwords) is left out here."""

from collections.abc import Callable
from datetime import datetime

from zpmeow.api.shapes import (
    ChangedStatusShape,
    CommandsShape,
    CredentialShape,
    InfoShape,
    PairingCodeShape,
    QrShape,
    SessionListShape,
    SessionShape,
    StatusShape,
    StoredCredentialShape,
    WebhookShape,
    WriteShape,
)
from zpmeow.domain.commands import Delivery
from zpmeow.domain.ports import Page
from zpmeow.domain.proxy import with_mask, with_password
from zpmeow.domain.records import SessionRecord, SessionStatus, Snapshot, StatusRecord, Webhook
from zpmeow.services.commands import write_cursor


def info(snapshot: Snapshot, *, shows_password: bool) -> InfoShape:
    """Present a session with its status and device."""
    return {"session_id": snapshot.session.id, "session": session(snapshot, shows_password=shows_password)}


def session(snapshot: Snapshot, *, shows_password: bool = False) -> SessionShape:
    """Present the session itself; the proxy's password only if `shows_password` and it was read."""
    return _session(snapshot.session, snapshot.status, snapshot.credential.device_jid, shows_password=shows_password)


def page(found: Page) -> SessionListShape:
    """Present a page of the list."""
    return {
        "sessions": [
            _session(listed.session, listed.status, listed.device_jid, shows_password=False)
            for listed in found.sessions
        ],
        "next_cursor": found.next_cursor,
    }


def status(snapshot: Snapshot) -> StatusShape:
    """Present how the connection stands."""
    record = snapshot.status
    return {
        "session_id": snapshot.session.id,
        "name": snapshot.session.name,
        "session_status": record.status,
        "is_connected": record.status is SessionStatus.CONNECTED,
        "device_jid": snapshot.credential.device_jid,
        "reason": record.reason,
        "changed_at": record.changed_at,
    }


def qr(snapshot: Snapshot) -> QrShape:
    """Present the code to scan, which must be there."""
    record = snapshot.qr
    assert record.code is not None
    assert record.expires_at is not None
    return {"session_id": record.session_id, "qr_code": record.code, "expires_at": record.expires_at}


def pairing_code(snapshot: Snapshot) -> PairingCodeShape:
    """Present the code to enter, which must be there."""
    record = snapshot.qr
    assert record.pairing_code is not None
    assert record.pairing_expires_at is not None
    return {"session_id": record.session_id, "code": record.pairing_code, "expires_at": record.pairing_expires_at}


def credential(snapshot: Snapshot) -> CredentialShape:
    """Present the device, which must be there."""
    record = snapshot.credential
    assert record.device_jid is not None
    return {"session_id": record.session_id, "device_jid": record.device_jid, "paired_at": record.paired_at}


def webhook(found: Webhook | None) -> WebhookShape | None:
    """Present a webhook, if there is one."""
    return None if found is None else {"url": found.url, "events": list(found.events)}


def write(record: SessionRecord, action: str, now: Callable[[], datetime]) -> WriteShape:
    """Present what every answer to a write on a session carries."""
    return {"session_id": record.id, "action": action, "status": "success", "timestamp": now()}


def moved(snapshot: Snapshot, action: str, now: Callable[[], datetime]) -> ChangedStatusShape:
    """Present where the state machine stands after a write."""
    record = snapshot.status
    return {
        **write(snapshot.session, action, now),
        "session_status": record.status,
        "reason": record.reason,
        "changed_at": record.changed_at,
        "valid_until": record.valid_until,
    }


def stored_credential(snapshot: Snapshot, action: str, now: Callable[[], datetime]) -> StoredCredentialShape:
    """Present which device the session is paired with after a write."""
    record = snapshot.credential
    return {
        **write(snapshot.session, action, now),
        "device_jid": record.device_jid,
        "paired_at": record.paired_at,
    }


def commands(delivery: Delivery) -> CommandsShape:
    """Present commands for an engine."""
    return {
        "commands": [
            {
                "id": command.id,
                "session_id": command.session_id,
                "action": command.action,
                "phone": command.phone,
                "created_at": command.created_at,
                "expires_at": command.expires_at,
            }
            for command in delivery.commands
        ],
        "next_cursor": write_cursor(delivery.position),
    }


def _session(
    record: SessionRecord, status_record: StatusRecord, device_jid: str | None, *, shows_password: bool
) -> SessionShape:
    return {
        "id": record.id,
        "name": record.name,
        "status": status_record.status,
        "desired_status": status_record.desired_status,
        "device_jid": device_jid,
        "proxy_url": _proxy_url(record, shows_password=shows_password),
        "webhook": webhook(record.webhook),
        "created_at": record.created_at,
        "updated_at": record.updated_at,
    }


def _proxy_url(record: SessionRecord, *, shows_password: bool) -> str | None:
    if record.proxy_url is None or not record.has_proxy_password:
        return record.proxy_url
    if shows_password and record.proxy_password is not None:
        return with_password(record.proxy_url, record.proxy_password)
    return with_mask(record.proxy_url)
