"""What engines report over HTTP, and what callers then read."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from tests.acceptance.api import ENGINE_KEY, OPERATOR_KEY, Api, running_api, until
from zpmeow.domain.records import ReadSource
from zpmeow.domain.references import ByName
from zpmeow.events import RequestFinished

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


async def test_a_status_is_a_promise_when_it_says_for_how_long(api: Api) -> None:
    """From its end on status, info and list say `error`, `engine_silent`, and the ETag is another one."""
    await api.create()
    await api.call("POST", "/sessions/test-session/connect")
    report = {"status": "connected", "valid_for": 30}
    kept = await api.call("PUT", "/sessions/test-session/status", report, key=ENGINE_KEY)
    end = datetime.fromisoformat(kept.data["valid_until"])

    api.clock.time = end - timedelta(milliseconds=1)
    before = await api.call("GET", "/sessions/test-session/status")
    info = await api.call("GET", "/sessions/test-session/info")
    api.clock.time = end
    after = await api.call("GET", "/sessions/test-session/status", headers={"If-None-Match": before.headers["ETag"]})
    info_after = await api.call("GET", "/sessions/test-session/info", headers={"If-None-Match": info.headers["ETag"]})

    assert (before.data["session_status"], before.data["is_connected"]) == ("connected", True)
    assert (after.status, info_after.status) == (200, 200)
    assert (after.data["session_status"], after.data["reason"]) == ("error", "engine_silent")
    assert after.data["is_connected"] is False
    assert datetime.fromisoformat(after.data["changed_at"]) == end
    assert info_after.data["session"]["status"] == "error"
    assert info_after.data["session"]["desired_status"] == "connected"


async def test_steps_go_by_what_the_status_reads_as_when_a_promise_has_ended(api: Api) -> None:
    """A silent session can be connected anew, and its late engine must begin at `connecting`."""
    await api.create()
    await api.call("POST", "/sessions/test-session/connect")
    report = {"status": "connected", "valid_for": 1}
    await api.call("PUT", "/sessions/test-session/status", report, key=ENGINE_KEY)
    api.clock.time = datetime.now(UTC) + timedelta(seconds=2)

    late = await api.call("PUT", "/sessions/test-session/status", report, key=ENGINE_KEY)
    connect = await api.call("POST", "/sessions/test-session/connect")

    assert (late.status, late.error) == (409, "INVALID_TRANSITION")
    assert (connect.status, connect.data["session_status"]) == (200, "connecting")


@pytest.mark.parametrize("valid_for", [0, -1, 86_401, "30", 1.5, True])
async def test_a_promise_for_no_sane_time_is_refused(api: Api, valid_for: object) -> None:
    """A promise lasts a second to a day, in whole seconds."""
    await api.create()

    reply = await api.call(
        "PUT", "/sessions/test-session/status", {"status": "error", "valid_for": valid_for}, key=ENGINE_KEY
    )

    assert (reply.status, reply.error) == (422, "VALIDATION_ERROR")
    assert "valid_for" in reply.json["error"]["details"]


async def test_list_shows_what_is_wished_when_asked_for_it(api: Api) -> None:
    """The wish is on each session, and a filter."""
    await api.create("first")
    await api.create("second")
    await api.call("POST", "/sessions/second/connect")

    reply = await api.call("GET", "/sessions/list?desired_status=connected")

    assert [(one["name"], one["desired_status"]) for one in reply.data["sessions"]] == [("second", "connected")]


async def test_who_waits_for_a_qr_code_gets_it_when_it_comes(api: Api) -> None:
    """The wait ends with the code, for JSON as for pictures, for operators as for owners."""
    created = await api.create()
    path = "/sessions/test-session/qr?wait=30"
    waiting = [
        asyncio.create_task(api.call("GET", path)),
        asyncio.create_task(api.call("GET", path, key=created["api_key"])),
        asyncio.create_task(api.call("GET", path, headers={"Accept": "image/png"})),
    ]
    await until(lambda: len(api.arrivals) == 3)

    await api.call("PUT", "/sessions/test-session/qr", {"qr_code": CODE}, key=ENGINE_KEY)

    replies = await asyncio.wait_for(asyncio.gather(*waiting), 5)
    assert [reply.status for reply in replies] == [200, 200, 200]
    assert replies[0].data["qr_code"] == replies[1].data["qr_code"] == CODE
    assert replies[2].headers["Content-Type"] == "image/png"


async def test_who_waits_for_a_pairing_code_gets_it_when_it_comes(api: Api) -> None:
    """The code to enter is waited for like the one to scan, and never stored on the way."""
    identifier = (await api.create())["session_id"]
    none = await api.call("GET", "/sessions/test-session/pairing-code")
    waiting = asyncio.create_task(api.call("GET", "/sessions/test-session/pairing-code?wait=30"))
    await until(lambda: len(api.arrivals) == 1)

    stored = await api.call("PUT", "/sessions/test-session/pairing-code", {"code": "ABCD-EFGH"}, key=ENGINE_KEY)
    reply = await asyncio.wait_for(waiting, 5)

    assert (none.status, none.error) == (404, "PAIRING_CODE_NOT_FOUND")
    assert (stored.status, stored.data["action"]) == (200, "put_pairing_code")
    assert reply.data == {"session_id": identifier, "code": "ABCD-EFGH", "expires_at": stored.data["expires_at"]}
    assert reply.headers["Cache-Control"] == "no-store"
    assert "ETag" not in reply.headers


async def test_a_wait_for_a_code_ends_with_404_when_none_comes(api: Api) -> None:
    """After the wait there is still none."""
    await api.create()

    reply = await api.call("GET", "/sessions/test-session/qr?wait=1")

    assert (reply.status, reply.error) == (404, "QR_CODE_NOT_FOUND")
    assert len(api.arrivals) == 0


async def test_who_hangs_up_while_waiting_for_a_code_leaves_nothing_behind(api: Api) -> None:
    """Neither a place nor a handler stays."""
    await api.create()
    before = len(api.events.of(RequestFinished))
    request = f"GET /sessions/test-session/qr?wait=30 HTTP/1.1\r\nHost: localhost\r\nX-API-Key: {OPERATOR_KEY}\r\n\r\n"
    _, writer = await asyncio.open_connection("127.0.0.1", api.server.port)
    writer.write(request.encode())
    await until(lambda: len(api.arrivals) == 1)

    writer.close()
    await until(lambda: len(api.events.of(RequestFinished)) == before + 1)

    assert len(api.arrivals) == 0


async def test_who_waits_for_a_code_is_told_to_ask_again_when_the_service_stops() -> None:
    """A stop is no 404: the code may come, at another process."""
    async with running_api() as api:
        await api.create()
        waiting = asyncio.create_task(api.call("GET", "/sessions/test-session/qr?wait=60"))
        await until(lambda: len(api.arrivals) == 1)

        await asyncio.wait_for(api.server.stop(drain_seconds=30), 5)

        reply = await waiting
        assert (reply.status, reply.error) == (503, "STOPPING")
        assert (reply.headers["Retry-After"], reply.headers["Connection"]) == ("1", "close")


async def test_qr_is_text_for_a_terminal_when_the_caller_prefers_that(api: Api) -> None:
    """A code can be scanned from a terminal."""
    await api.create()
    await api.call("PUT", "/sessions/test-session/qr", {"qr_code": CODE}, key=ENGINE_KEY)

    reply = await api.call("GET", "/sessions/test-session/qr", headers={"Accept": "text/plain"})

    assert reply.headers["Content-Type"] == "text/plain; charset=utf-8"
    assert set(reply.body.decode()) <= set(" ▀▄█\n")


async def test_an_older_code_does_not_replace_a_newer_one(api: Api) -> None:
    """Engines rotate codes; one that was overtaken on its way is answered with what counts."""
    await api.create()
    path = "/sessions/test-session/qr"
    newer = {"qr_code": "newer", "issued_at": "2026-01-01T00:00:20Z"}
    older = {"qr_code": "older", "issued_at": "2026-01-01T01:00:00+01:00"}

    first = await api.call("PUT", path, newer, key=ENGINE_KEY)
    second = await api.call("PUT", path, older, key=ENGINE_KEY)

    assert (first.status, second.status) == (200, 200)
    assert second.data["expires_at"] == first.data["expires_at"]
    assert (await api.call("GET", path)).data["qr_code"] == "newer"


@pytest.mark.parametrize(
    "issued_at",
    ["2026-01-01T00:00:00", "yesterday", 1_767_225_600, ""],
)
async def test_a_time_that_is_none_is_refused(api: Api, issued_at: object) -> None:
    """A time is RFC 3339, with a zone."""
    await api.create()

    reply = await api.call(
        "PUT", "/sessions/test-session/qr", {"qr_code": CODE, "issued_at": issued_at}, key=ENGINE_KEY
    )

    assert (reply.status, reply.error) == (422, "VALIDATION_ERROR")
    assert "issued_at" in reply.json["error"]["details"]


@pytest.mark.parametrize("issued_at", ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00"])
async def test_a_time_of_another_age_is_taken_for_very_old_or_new(api: Api, issued_at: str) -> None:
    """An engine whose clock has lost its mind can still rotate codes."""
    await api.create()

    reply = await api.call(
        "PUT", "/sessions/test-session/qr", {"qr_code": CODE, "issued_at": issued_at}, key=ENGINE_KEY
    )

    assert reply.status == 200


async def test_a_change_of_the_session_shows_the_status_as_it_reads(api: Api) -> None:
    """An answer to PATCH says no more than any read: an ended promise is an error."""
    await api.create()
    await api.call("POST", "/sessions/test-session/connect")
    report = {"status": "connecting", "valid_for": 1}
    await api.call("PUT", "/sessions/test-session/status", report, key=ENGINE_KEY)
    api.clock.time = datetime.now(UTC) + timedelta(seconds=2)

    reply = await api.call("PATCH", "/sessions/test-session", {"name": "renamed"})

    assert reply.data["session"]["status"] == "error"
