"""After quiet: every entry in Redis equals the database's row or reads as absent, and every answer is the database's.

Absent to every reader is a key that is not there, a fence, an entry of another epoch, and one past all use. Look-ups
by name and key are hints that are verified by whoever follows them: they may be wrong.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import redis

from tests.coherence.sql_client import SqlClient
from zpmeow.cache.envelope import Envelope, decode
from zpmeow.domain.records import (
    CredentialRecord,
    Entity,
    QrRecord,
    SessionRecord,
    StatusRecord,
)
from zpmeow.repositories.cache_policies import CacheLifetimes, CachePolicies

_ROWS = """
    SELECT s.id::text AS id, floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint AS now_ms,
           (SELECT epoch FROM control_settings) AS epoch,
           s.version AS session_version, s.name, s.key_hash, s.webhook_url,
           t.version AS status_version, t.status, t.reason,
           q.version AS qr_version, q.code, q.expires_at,
           c.version AS credential_version, c.device_jid, c.paired_at
    FROM sessions s
    JOIN session_status t ON t.session_id = s.id
    JOIN session_qr q ON q.session_id = s.id
    JOIN session_credential c ON c.session_id = s.id
"""
_POLICIES = CachePolicies(
    CacheLifetimes(session_seconds=1, status_seconds=1, qr_seconds=1, credential_seconds=1, stale_if_error=True)
)
_BATCH = 500


@dataclass(slots=True)
class Audit:
    """What was found: keys by what they hold, and every difference in words."""

    equal: int = 0
    fences: int = 0
    void: int = 0
    others: int = 0
    corrupt: list[str] = field(default_factory=list)
    differences: list[str] = field(default_factory=list)


async def audit_redis(port: int, client: SqlClient, *, expects_garbage: bool = False) -> Audit:
    """Compare every entry in Redis with its row. Nobody writes meanwhile.

    `expects_garbage`: somebody has spoiled entries. Those that are corrupt are absent to every reader, too.
    """
    rows = {row["id"]: row for row in await client.fetch(_ROWS)}
    (epoch,) = (row["epoch"] for row in await client.fetch("SELECT epoch FROM control_settings"))
    ((now_ms,),) = [row.values() for row in await client.fetch("SELECT (extract(epoch FROM now()) * 1000)::bigint")]
    found = Audit()
    for key, data in _entries(port):
        session_id, _, entity = key.removeprefix("zpmeow:{").partition("}:")
        if data is None or entity not in set(Entity):
            found.others += 1
            continue
        _compare(found, key, Entity(entity), data, rows.get(session_id), epoch, now_ms)
    if not expects_garbage:
        found.differences += found.corrupt
    return found


def _compare(
    found: Audit, key: str, entity: Entity, data: bytes, row: Mapping[str, Any] | None, epoch: bytes, now_ms: int
) -> None:
    policy = _POLICIES.entry_key(UUID(int=0), entity).policy
    envelope = decode(data, key=key, kind=policy.kind, schema=policy.schema)
    if not isinstance(envelope, Envelope):
        found.corrupt.append(f"{key} is corrupt: {envelope}")
    elif envelope.epoch != epoch or (envelope.usable_until_ms <= now_ms and envelope.payload is not None):
        found.void += 1
    elif envelope.payload is None:
        found.fences += 1
    elif row is None:
        found.differences.append(f"{key} has version {envelope.version} of a session that is gone")
    else:
        wanted = (row[f"{entity}_version"], _fields_of_row(entity, row))
        stands = (envelope.version, _fields_of_record(policy.decode(envelope.payload)))
        if stands == wanted:
            found.equal += 1
        else:
            found.differences.append(f"{key} is {stands}, the database has {wanted}")


def _fields_of_row(entity: Entity, row: Mapping[str, Any]) -> tuple[object, ...]:
    match entity:
        case Entity.SESSION:
            return row["name"], row["key_hash"], row["webhook_url"]
        case Entity.STATUS:
            return row["status"], row["reason"]
        case Entity.QR:
            return row["code"], row["expires_at"]
        case Entity.CREDENTIAL:
            return row["device_jid"], row["paired_at"]


def _fields_of_record(record: object) -> tuple[object, ...]:
    match record:
        case SessionRecord():
            return record.name, record.key_hash, None if record.webhook is None else record.webhook.url
        case StatusRecord():
            return record.status, record.reason
        case QrRecord():
            return record.code, record.expires_at
        case CredentialRecord():
            return record.device_jid, record.paired_at
        case _:
            message = f"an entry of ours holds a {type(record).__name__}"
            raise TypeError(message)


def _entries(port: int) -> Iterator[tuple[str, bytes | None]]:
    """Return all keys of ours; the value is None for what is no string."""
    with redis.Redis(port=port) as connection:
        raw: Any = connection
        keys = sorted(set(raw.scan_iter("zpmeow:*", count=_BATCH)))
        for first in range(0, len(keys), _BATCH):
            batch = keys[first : first + _BATCH]
            for key, value in zip(batch, raw.mget(batch), strict=True):
                yield key.decode(errors="backslashreplace"), value
