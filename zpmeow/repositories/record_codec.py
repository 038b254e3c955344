"""Records as bytes: JSON arrays of a record's fields, in the order written here.

The schema number of an entity is raised whenever its fields change: entries of another number are
discarded and loaded anew. Never a secret: a session is written without its proxy's password.
"""

from datetime import datetime
from functools import lru_cache
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

_STATUSES = {status.value: status for status in SessionStatus}


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
            record.created_at.isoformat(),
            record.updated_at.isoformat(),
        ]
    )


def decode_session(data: bytes) -> SessionRecord:
    """Read what `encode_session` wrote. Raises ValueError or TypeError."""
    identifier, version, name, key_hash, proxy_url, has_password, webhook, created_at, updated_at = orjson.loads(data)
    return SessionRecord(
        id=_read_uuid(identifier),
        version=version,
        name=name,
        key_hash=bytes.fromhex(key_hash),
        proxy_url=proxy_url,
        has_proxy_password=has_password,
        proxy_password=None,
        webhook=None if webhook is None else Webhook(url=webhook[0], events=tuple(webhook[1])),
        created_at=datetime.fromisoformat(created_at),
        updated_at=datetime.fromisoformat(updated_at),
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
            record.changed_at.isoformat(),
            None if record.valid_until is None else record.valid_until.isoformat(),
        ]
    )


def decode_status(data: bytes) -> StatusRecord:
    """Read what `encode_status` wrote. Raises ValueError, TypeError or KeyError."""
    session_id, version, status, desired_status, reason, changed_at, valid_until = orjson.loads(data)
    return StatusRecord(
        session_id=_read_uuid(session_id),
        version=version,
        status=_STATUSES[status],
        desired_status=_STATUSES[desired_status],
        reason=reason,
        changed_at=datetime.fromisoformat(changed_at),
        valid_until=None if valid_until is None else datetime.fromisoformat(valid_until),
    )


def encode_qr(record: QrRecord) -> bytes:
    """Return the codes' bytes."""
    return orjson.dumps(
        [
            str(record.session_id),
            record.version,
            record.code,
            None if record.expires_at is None else record.expires_at.isoformat(),
            record.pairing_code,
            None if record.pairing_expires_at is None else record.pairing_expires_at.isoformat(),
        ]
    )


def decode_qr(data: bytes) -> QrRecord:
    """Read what `encode_qr` wrote. Raises ValueError or TypeError."""
    session_id, version, code, expires_at, pairing_code, pairing_expires_at = orjson.loads(data)
    return QrRecord(
        session_id=_read_uuid(session_id),
        version=version,
        code=code,
        expires_at=None if expires_at is None else datetime.fromisoformat(expires_at),
        pairing_code=pairing_code,
        pairing_expires_at=None if pairing_expires_at is None else datetime.fromisoformat(pairing_expires_at),
    )


def encode_credential(record: CredentialRecord) -> bytes:
    """Return the device's bytes."""
    return orjson.dumps(
        [
            str(record.session_id),
            record.version,
            record.device_jid,
            None if record.paired_at is None else record.paired_at.isoformat(),
        ]
    )


def decode_credential(data: bytes) -> CredentialRecord:
    """Read what `encode_credential` wrote. Raises ValueError or TypeError."""
    session_id, version, device_jid, paired_at = orjson.loads(data)
    return CredentialRecord(
        session_id=_read_uuid(session_id),
        version=version,
        device_jid=device_jid,
        paired_at=None if paired_at is None else datetime.fromisoformat(paired_at),
    )


# Bytes that a record's objects take (sys.getsizeof, all of them), without the texts whose length differs.
_SESSION_BYTES = 900
_SMALL_RECORD_BYTES = 500


def weigh_session(record: SessionRecord) -> int:
    """Estimate the memory that the record takes."""
    webhook = record.webhook
    texts = len(record.name) + len(record.proxy_url or "")
    if webhook is not None:
        texts += len(webhook.url) + sum(60 + len(event) for event in webhook.events)
    return _SESSION_BYTES + texts


def weigh_status(record: StatusRecord) -> int:
    """Estimate the memory that the record takes."""
    return _SMALL_RECORD_BYTES + len(record.reason or "")


def weigh_qr(record: QrRecord) -> int:
    """Estimate the memory that the record takes."""
    return _SMALL_RECORD_BYTES + len(record.code or "")


def weigh_credential(record: CredentialRecord) -> int:
    """Estimate the memory that the record takes."""
    return _SMALL_RECORD_BYTES + len(record.device_jid or "")


@lru_cache(maxsize=4096)  # The three records of one answer hold the same id.
def _read_uuid(text: str) -> UUID:
    return UUID(text)
