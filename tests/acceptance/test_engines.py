"""What engines report over HTTP, and what callers then read."""

from datetime import UTC, datetime, timedelta

import pytest

from tests.acceptance.api import ENGINE_KEY, Api
from zpmeow.domain.records import ReadSource
from zpmeow.domain.references import ByName

CODE = "2@" + "aB3+/=" * 40
JID = "5511999999999:12@s.whatsapp.net"


async def test_qr_is_served_when_an_engine_stored_one(api: Api) -> None:
    """A stored code is read back, never cached by anybody on the way."""
    identifier = (await api.create())["session_id"]
    api.repository.source = ReadSource.REDIS

    stored = await api.call("PUT", "/sessions/test-session/qr", {"qr_code": CODE, "expires_in": 30}, key=ENGINE_KEY)
    reply = await api.call("GET", "/sessions/test-session/qr")

    assert (stored.status, stored.data["action"]) == (200, "put_qr")
    assert reply.status == 200
    assert reply.data == {"session_id": identifier, "qr_code": CODE, "expires_at": stored.data["expires_at"]}
    assert reply.headers["Cache-Control"] == "no-store"
    assert reply.headers["Cache-Status"] == "zpmeow-redis; hit"
    assert "ETag" not in reply.headers


async def test_qr_answers_404_when_there_is_none_or_it_expired(api: Api) -> None:
    """A code is never served at or after its expiry."""
    await api.create()

    none = await api.call("GET", "/sessions/test-session/qr")
    await api.call("PUT", "/sessions/test-session/qr", {"qr_code": CODE}, key=ENGINE_KEY)
    api.clock.time = datetime.now(UTC) + timedelta(seconds=61)
    expired = await api.call("GET", "/sessions/test-session/qr")

    assert (none.status, none.error) == (404, "QR_CODE_NOT_FOUND")
    assert (expired.status, expired.error) == (404, "QR_CODE_NOT_FOUND")


@pytest.mark.parametrize(
    ("accept", "content_type", "begins"),
    [
        ("image/png", "image/png", b"\x89PNG\r\n\x1a\n"),
        ("image/svg+xml", "image/svg+xml", b"<?xml"),
        ("image/*", "image/png", b"\x89PNG"),
        ("image/avif,image/webp,image/svg+xml,image/*;q=0.8,*/*;q=0.5", "image/svg+xml", b"<?xml"),
        ("image/png;q=0, image/svg+xml;q=0.1", "image/svg+xml", b"<?xml"),
        ("*/*", "application/json", b"{"),
        ("text/html", "application/json", b"{"),
        ("image/png;q=0.4, application/json", "application/json", b"{"),
        (";;q=x,,/", "application/json", b"{"),
    ],
)
async def test_qr_is_a_picture_when_the_caller_prefers_one(
    api: Api, accept: str, content_type: str, begins: bytes
) -> None:
    """Accept decides between the code as text and as a picture."""
    await api.create()
    await api.call("PUT", "/sessions/test-session/qr", {"qr_code": CODE}, key=ENGINE_KEY)

    reply = await api.call("GET", "/sessions/test-session/qr", headers={"Accept": accept})

    assert reply.status == 200
    assert reply.headers["Content-Type"] == content_type
    assert reply.headers["Cache-Control"] == "no-store"
    assert reply.body.startswith(begins)


async def test_qr_falls_back_to_json_when_no_picture_can_hold_the_code(api: Api) -> None:
    """A code that another writer made too long is still served."""
    await api.create()
    await api.repository.put_qr(ByName("test-session"), "x" * 5000, 60)

    reply = await api.call("GET", "/sessions/test-session/qr", headers={"Accept": "image/png"})

    assert reply.status == 200
    assert len(reply.data["qr_code"]) == 5000


async def test_stored_credentials_are_served_and_drop_the_qr(api: Api) -> None:
    """Once paired, there is nothing left to scan."""
    identifier = (await api.create())["session_id"]
    await api.call("PUT", "/sessions/test-session/qr", {"qr_code": CODE}, key=ENGINE_KEY)

    stored = await api.call("PUT", "/sessions/test-session/credentials", {"device_jid": JID}, key=ENGINE_KEY)
    reply = await api.call("GET", "/sessions/test-session/credentials")
    qr = await api.call("GET", "/sessions/test-session/qr")

    assert (stored.status, stored.data["device_jid"]) == (200, JID)
    assert reply.data == {"session_id": identifier, "device_jid": JID, "paired_at": stored.data["paired_at"]}
    assert reply.headers["Cache-Control"] == "no-store"
    assert qr.status == 404
    assert (await api.call("GET", "/sessions/test-session/info")).data["session"]["device_jid"] == JID


async def test_credentials_answer_404_when_removed(api: Api) -> None:
    """A forgotten device is gone, and forgetting twice is no error."""
    await api.create()
    await api.call("PUT", "/sessions/test-session/credentials", {"device_jid": JID}, key=ENGINE_KEY)

    first = await api.call("DELETE", "/sessions/test-session/credentials", key=ENGINE_KEY)
    second = await api.call("DELETE", "/sessions/test-session/credentials", key=ENGINE_KEY)
    reply = await api.call("GET", "/sessions/test-session/credentials")

    assert (first.status, second.status) == (200, 200)
    assert (reply.status, reply.error) == (404, "CREDENTIAL_NOT_FOUND")


async def test_device_of_another_session_is_a_conflict(api: Api) -> None:
    """One device belongs to one session; the refusal does not tell which device."""
    await api.create("first")
    await api.create("second")
    await api.call("PUT", "/sessions/first/credentials", {"device_jid": JID}, key=ENGINE_KEY)

    reply = await api.call("PUT", "/sessions/second/credentials", {"device_jid": JID}, key=ENGINE_KEY)

    assert (reply.status, reply.error) == (409, "DEVICE_ALREADY_IN_USE")
    assert "5511" not in reply.body.decode()
