"""What the peers answer."""

import datetime as dt
from uuid import UUID

import pytest

from benchmarks.peers.serving import body_of
from zpmeow.api import presenting
from zpmeow.api.answers import encoded_success
from zpmeow.domain.records import (
    CredentialRecord,
    Entity,
    ReadSource,
    Record,
    SessionRecord,
    SessionStatus,
    Snapshot,
    StatusRecord,
    Webhook,
)

_ID = UUID(int=7)
_CREATED, _UPDATED = (dt.datetime(2026, 11, 30, hour, tzinfo=dt.UTC) for hour in (1, 2))


@pytest.mark.parametrize("webhook", [Webhook(url="https://hooks.test/1", events=("message",)), None])
def test_peer_answers_with_the_bytes_of_zpmeow(webhook: Webhook | None) -> None:
    """Members in the same order, times in the same form: what is compared is who is quicker to say the same."""
    row = {
        "id": str(_ID),
        "name": "one",
        "status": "connected",
        "desired_status": "connected",
        "device_jid": "1@s.whatsapp.net",
        "proxy_url": None,
        "webhook_url": webhook and webhook.url,
        "webhook_events": webhook and list(webhook.events),
        "created_at": _CREATED,
        "updated_at": _UPDATED,
    }

    assert body_of(row) == encoded_success(dict(presenting.info(_snapshot(webhook), shows_password=False)))


def _snapshot(webhook: Webhook | None) -> Snapshot:
    session = SessionRecord(
        id=_ID,
        version=1,
        name="one",
        key_hash=b"",
        proxy_url=None,
        has_proxy_password=False,
        proxy_password=None,
        webhook=webhook,
        created_at=_CREATED,
        updated_at=_UPDATED,
    )
    connected = SessionStatus.CONNECTED
    status = StatusRecord(
        session_id=_ID, version=1, status=connected, desired_status=connected, reason=None, changed_at=_UPDATED
    )
    credential = CredentialRecord(session_id=_ID, version=1, device_jid="1@s.whatsapp.net", paired_at=_UPDATED)
    records: dict[Entity, Record] = {Entity.SESSION: session, Entity.STATUS: status, Entity.CREDENTIAL: credential}
    return Snapshot(records=records, source=ReadSource.LOCAL)
