"""Records as bytes: JSON arrays of a record's fields, in the order written here.

The schema number of an entity is raised whenever its fields change: entries of another number are
discarded and loaded anew. Never a secret: a session is written without its proxy's password.
"""

from datetime import UTC, datetime
from uuid import UUID

import orjson

from zpmeow.domain.records import (
    CredentialRecord,
    QrRecord,
    SessionRecord,
    SessionStatus,
    StatusRecord,
    Webhook,
)

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def encode_session(record: SessionRecord) -> bytes:
    """Return the session's bytes, without its proxy's password."""
    webhook = record.webhook
    return orjson.dumps(
        [
            str(record.id),
            record.version,
            record.name,
            record.key_hash.hex(),
            record.proxy_url,
            record.has_proxy_password,
            None if webhook is None else [webhook.url, webhook.events],
            _to_microseconds(record.created_at),
            _to_microseconds(record.updated_at),
        ]
    )


def decode_session(data: bytes) -> SessionRecord:
    """Read what `encode_session` wrote. Raises ValueError or TypeError."""
    identifier, version, name, key_hash, proxy_url, has_password, webhook, created_at, updated_at = orjson.loads(data)
    return SessionRecord(
        id=UUID(identifier),
        version=version,
        name=name,
        key_hash=bytes.fromhex(key_hash),
        proxy_url=proxy_url,
        has_proxy_password=has_password,
        proxy_password=None,
        webhook=None if webhook is None else Webhook(url=webhook[0], events=tuple(webhook[1])),
        created_at=_from_microseconds(created_at),
        updated_at=_from_microseconds(updated_at),
    )


def encode_status(record: StatusRecord) -> bytes:
    """Return the status' bytes."""
    return orjson.dumps(
        [
            str(record.session_id),
            record.version,
            record.status,
            record.desired_status,
            record.reason,
            _to_microseconds(record.changed_at),
        ]
    )


def decode_status(data: bytes) -> StatusRecord:
    """Read what `encode_status` wrote. Raises ValueError or TypeError."""
    session_id, version, status, desired_status, reason, changed_at = orjson.loads(data)
    return StatusRecord(
        session_id=UUID(session_id),
        version=version,
        status=SessionStatus(status),
        desired_status=SessionStatus(desired_status),
        reason=reason,
        changed_at=_from_microseconds(changed_at),
    )


def encode_qr(record: QrRecord) -> bytes:
    """Return the QR code's bytes."""
    return orjson.dumps(
        [
            str(record.session_id),
            record.version,
            record.code,
            None if record.expires_at is None else _to_microseconds(record.expires_at),
        ]
    )


def decode_qr(data: bytes) -> QrRecord:
    """Read what `encode_qr` wrote. Raises ValueError or TypeError."""
    session_id, version, code, expires_at = orjson.loads(data)
    return QrRecord(
        session_id=UUID(session_id),
        version=version,
        code=code,
        expires_at=None if expires_at is None else _from_microseconds(expires_at),
    )


def encode_credential(record: CredentialRecord) -> bytes:
    """Return the device's bytes."""
    return orjson.dumps(
        [
            str(record.session_id),
            record.version,
            record.device_jid,
            None if record.paired_at is None else _to_microseconds(record.paired_at),
        ]
    )


def decode_credential(data: bytes) -> CredentialRecord:
    """Read what `encode_credential` wrote. Raises ValueError or TypeError."""
    session_id, version, device_jid, paired_at = orjson.loads(data)
    return CredentialRecord(
        session_id=UUID(session_id),
        version=version,
        device_jid=device_jid,
        paired_at=None if paired_at is None else _from_microseconds(paired_at),
    )


def _to_microseconds(time: datetime) -> int:
    """PostgreSQL's resolution; exact, unlike a float of seconds."""
    delta = time - _EPOCH
    return (delta.days * 86_400 + delta.seconds) * 1_000_000 + delta.microseconds


def _from_microseconds(microseconds: int) -> datetime:
    seconds, rest = divmod(microseconds, 1_000_000)
    return datetime.fromtimestamp(seconds, tz=UTC).replace(microsecond=rest)
