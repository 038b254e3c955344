"""Sessions over HTTP: made, read, changed, connected, removed."""

from datetime import datetime

import pytest

from tests.acceptance.api import ENGINE_KEY, Api
from zpmeow.domain.api_key import is_plausible_api_key
from zpmeow.domain.records import ReadSource

WEBHOOK = {"url": "https://example.org/hook", "events": ["message", "connection.update"]}
PROXY = "socks5://user:s3cret@proxy.example:1080"


async def test_create_answers_201_with_session_and_key(api: Api) -> None:
    """A new session is disconnected and its key is shown once."""
    reply = await api.call("POST", "/sessions/create", {"name": "test-session", "webhook": WEBHOOK})

    session = reply.data["session"]
    assert reply.status == 201
    assert reply.json["success"] is True
    assert reply.json["code"] == 201
    assert set(reply.data) == {"session_id", "action", "status", "timestamp", "session", "api_key"}
    assert reply.data["status"] == "success"
    assert reply.data["timestamp"].endswith("Z")
    assert set(session) == {
        "id",
        "name",
        "status",
        "desired_status",
        "device_jid",
        "proxy_url",
        "webhook",
        "created_at",
        "updated_at",
    }
    assert (session["name"], session["status"], session["device_jid"]) == ("test-session", "disconnected", None)
    assert session["webhook"] == WEBHOOK
    assert is_plausible_api_key(reply.data["api_key"])
    assert reply.headers["Cache-Control"] == "no-store"
    assert "ETag" not in reply.headers


async def test_create_keeps_the_callers_key_when_it_brings_one(api: Api) -> None:
    """A key that the caller chose opens its session."""
    key = "k" * 32

    created = await api.create(api_key=key)

    assert created["api_key"] == key
    assert (await api.call("GET", "/sessions/test-session/info", key=key)).status == 200


async def test_create_answers_409_when_name_or_key_is_taken(api: Api) -> None:
    """Names and keys are unique."""
    await api.create("first", api_key="k" * 32)

    name_taken = await api.call("POST", "/sessions/create", {"name": "first"})
    key_taken = await api.call("POST", "/sessions/create", {"name": "second", "api_key": "k" * 32})

    assert (name_taken.status, name_taken.error) == (409, "SESSION_NAME_TAKEN")
    assert (key_taken.status, key_taken.error) == (409, "API_KEY_TAKEN")
    assert "kkkk" not in key_taken.body.decode()


@pytest.mark.parametrize("by", ["id", "name"])
async def test_info_finds_the_session_by_id_and_by_name(api: Api, by: str) -> None:
    """`{sessionId}` is an id or a name; the answer always names the id."""
    session = (await api.create())["session"]

    reply = await api.call("GET", f"/sessions/{session[by]}/info")

    assert reply.status == 200
    assert set(reply.data) == {"session_id", "session"}
    assert reply.data["session_id"] == session["id"]
    assert reply.data["session"] == session


@pytest.mark.parametrize(
    "name", ["0e6bd8a4-1f0f-4a4a-9c39-0f7d1c1f9a11", "nobody", "ab", "%00%00%00", "a%ff%ff", "x" * 300, "%C3%A9%C3%A9"]
)
async def test_info_answers_404_when_there_is_no_such_session(api: Api, name: str) -> None:
    """Whatever stands in the path, what is unknown is not found."""
    reply = await api.call("GET", f"/sessions/{name}/info")

    assert (reply.status, reply.error) == (404, "SESSION_NOT_FOUND")
    assert reply.json["data"] is None


@pytest.mark.parametrize(
    ("source", "header"),
    [
        (ReadSource.LOCAL, "zpmeow-local; hit"),
        (ReadSource.REDIS, "zpmeow-redis; hit"),
        (ReadSource.MISS, "zpmeow; fwd=miss"),
        (ReadSource.BYPASS, "zpmeow; fwd=bypass"),
        (ReadSource.STALE, "zpmeow; hit; detail=stale"),
    ],
)
async def test_cache_status_tells_who_answered(api: Api, source: ReadSource, header: str) -> None:
    """Every cacheable read says where its answer came from, revalidated or not."""
    await api.create()
    api.repository.source = source

    first = await api.call("GET", "/sessions/test-session/status")
    again = await api.call("GET", "/sessions/test-session/status", headers={"If-None-Match": first.headers["ETag"]})

    assert first.headers["Cache-Status"] == header
    assert again.headers["Cache-Status"] == header


@pytest.mark.parametrize("what", ["info", "status"])
@pytest.mark.parametrize("form", ["{}", "W/{}", '"other", {}', "*"])
async def test_cacheable_read_answers_304_when_the_copy_still_holds(api: Api, what: str, form: str) -> None:
    """A caller that shows the tag of what it has is spared the body."""
    await api.create()
    first = await api.call("GET", f"/sessions/test-session/{what}")

    again = await api.call(
        "GET", f"/sessions/test-session/{what}", headers={"If-None-Match": form.format(first.headers["ETag"])}
    )

    assert (again.status, again.body) == (304, b"")
    for name in ("ETag", "Cache-Control", "Vary", "Cache-Status"):
        assert again.headers[name] == first.headers[name]
    assert first.headers["Cache-Control"] == "private, no-cache"
    assert first.headers["Vary"] == "Accept, Authorization, X-API-Key"


@pytest.mark.parametrize("change", ["rename", "status", "device"])
async def test_etag_changes_with_every_entry_it_is_made_of(api: Api, change: str) -> None:
    """No tag outlives a change of the session, its status or its device."""
    identifier = (await api.create())["session_id"]
    before = await api.call("GET", f"/sessions/{identifier}/info")

    match change:
        case "rename":
            await api.call("PATCH", f"/sessions/{identifier}", {"name": "other"})
        case "status":
            await api.call("PUT", f"/sessions/{identifier}/status", {"status": "connecting"})
        case _:
            await api.call("PUT", f"/sessions/{identifier}/credentials", {"device_jid": "1@s.whatsapp.net"})
    after = await api.call("GET", f"/sessions/{identifier}/info", headers={"If-None-Match": before.headers["ETag"]})

    assert after.status == 200
    assert after.headers["ETag"] != before.headers["ETag"]


async def test_proxy_password_is_shown_to_engines_only(api: Api) -> None:
    """Everybody else sees that there is a password; no tag fits both views."""
    created = await api.create(proxy_url=PROXY)

    owner = await api.call("GET", "/sessions/test-session/info", key=created["api_key"])
    operator = await api.call("GET", "/sessions/test-session/info")
    engine = await api.call("GET", "/sessions/test-session/info", key=ENGINE_KEY)
    crossed = await api.call(
        "GET", "/sessions/test-session/info", key=ENGINE_KEY, headers={"If-None-Match": owner.headers["ETag"]}
    )

    masked = "socks5://user:***@proxy.example:1080"
    assert created["session"]["proxy_url"] == masked
    assert owner.data["session"]["proxy_url"] == masked
    assert operator.data["session"]["proxy_url"] == masked
    assert engine.data["session"]["proxy_url"] == PROXY
    assert crossed.status == 200


async def test_update_changes_what_is_given_and_removes_what_is_null(api: Api) -> None:
    """PATCH leaves alone what it does not name."""
    identifier = (await api.create(proxy_url=PROXY, webhook=WEBHOOK))["session_id"]

    renamed = await api.call("PATCH", f"/sessions/{identifier}", {"name": "other-name"})
    removed = await api.call("PATCH", f"/sessions/{identifier}", {"proxy_url": None, "webhook": None})

    assert renamed.status == 200
    assert renamed.data["session"]["name"] == "other-name"
    assert renamed.data["session"]["webhook"] == WEBHOOK
    assert renamed.data["session"]["proxy_url"] is not None
    assert removed.data["session"]["name"] == "other-name"
    assert removed.data["session"]["proxy_url"] is None
    assert removed.data["session"]["webhook"] is None


async def test_rotated_key_replaces_the_old_one(api: Api) -> None:
    """An owner can give itself a new key; the old one opens nothing from then on."""
    old = (await api.create())["api_key"]

    reply = await api.call("POST", "/sessions/test-session/rotate-key", key=old)

    assert reply.status == 200
    assert reply.headers["Cache-Control"] == "no-store"
    assert (await api.call("GET", "/sessions/test-session/info", key=old)).status == 401
    assert (await api.call("GET", "/sessions/test-session/info", key=reply.data["api_key"])).status == 200


async def test_deleted_session_is_gone_with_its_key(api: Api) -> None:
    """Nothing of a deleted session answers any more."""
    created = await api.create()

    reply = await api.call("DELETE", "/sessions/test-session/delete")

    assert reply.status == 200
    assert reply.data["session_id"] == created["session_id"]
    assert (await api.call("GET", "/sessions/test-session/info")).status == 404
    assert (await api.call("GET", "/sessions/test-session/info", key=created["api_key"])).status == 401


async def test_connection_follows_the_state_machine(api: Api) -> None:
    """Wishes and reports move the status; steps that do not exist are conflicts."""
    key = (await api.create())["api_key"]

    too_early = await api.call("PUT", "/sessions/test-session/status", {"status": "connected"}, key=ENGINE_KEY)
    wished = await api.call("POST", "/sessions/test-session/connect", key=key)
    reported = await api.call("PUT", "/sessions/test-session/status", {"status": "connected"}, key=ENGINE_KEY)
    status = await api.call("GET", "/sessions/test-session/status", key=key)
    again = await api.call("POST", "/sessions/test-session/connect", key=key)
    ended = await api.call("POST", "/sessions/test-session/disconnect", key=key)

    assert (too_early.status, too_early.error) == (409, "INVALID_TRANSITION")
    assert (wished.status, wished.data["session_status"], wished.data["action"]) == (200, "connecting", "connect")
    assert reported.data["session_status"] == "connected"
    assert status.data["is_connected"] is True
    assert set(status.data) == {
        "session_id",
        "name",
        "session_status",
        "is_connected",
        "device_jid",
        "reason",
        "changed_at",
    }
    assert (again.status, again.error) == (409, "ALREADY_CONNECTED")
    assert (ended.status, ended.data["session_status"]) == (200, "disconnected")


async def test_reported_reason_is_shown(api: Api) -> None:
    """What an engine says of an error reaches the status."""
    await api.create()

    await api.call("PUT", "/sessions/test-session/status", {"status": "error", "reason": "banned"}, key=ENGINE_KEY)

    assert (await api.call("GET", "/sessions/test-session/status")).data["reason"] == "banned"


async def test_webhook_is_replaced(api: Api) -> None:
    """An owner sets where its events go."""
    key = (await api.create())["api_key"]

    reply = await api.call("PUT", "/sessions/test-session/webhook", WEBHOOK, key=key)

    assert (reply.status, reply.data["webhook"]) == (200, WEBHOOK)
    assert (await api.call("GET", "/sessions/test-session/info")).data["session"]["webhook"] == WEBHOOK


async def test_list_goes_through_all_pages(api: Api) -> None:
    """Each session stands on exactly one page, oldest first; the last page says so."""
    names = [f"session-{number}" for number in range(5)]
    for name in names:
        await api.create(name)

    found: list[str] = []
    cursor: str | None = ""
    pages = 0
    while cursor is not None:
        reply = await api.call("GET", f"/sessions/list?limit=2{cursor and f'&cursor={cursor}'}")
        found += [session["name"] for session in reply.data["sessions"]]
        cursor, pages = reply.data["next_cursor"], pages + 1

    assert found == names
    assert pages == 3


async def test_list_filters_by_status(api: Api) -> None:
    """Only sessions in the asked-for status are listed."""
    await api.create("first")
    await api.create("second")
    await api.call("POST", "/sessions/second/connect")

    reply = await api.call("GET", "/sessions/list?status=connecting")

    assert [session["name"] for session in reply.data["sessions"]] == ["second"]
    assert reply.data["next_cursor"] is None


async def test_times_are_rfc_3339_in_utc(api: Api) -> None:
    """Every time can be read by RFC 3339 and ends in Z."""
    session = (await api.create())["session"]

    for name in ("created_at", "updated_at"):
        assert session[name].endswith("Z")
        assert datetime.fromisoformat(session[name]).tzinfo is not None
