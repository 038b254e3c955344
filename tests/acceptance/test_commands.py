"""How engines get their commands over HTTP, and what becomes of those who wait."""

import asyncio
from collections.abc import Awaitable, Callable
from uuid import uuid4

import pytest

from tests.acceptance.api import ENGINE_KEY, Api, Reply, running_api, until
from zpmeow.events import RequestFinished, RequestStarted


async def poll(api: Api, query: str = "") -> Reply:
    """Ask for commands."""
    return await api.call("GET", f"/engine/commands{query}", key=ENGINE_KEY)


async def acknowledge(api: Api, command: str, **word: object) -> Reply:
    """Say an engine's word."""
    return await api.call("POST", f"/engine/commands/{command}/ack", word, key=ENGINE_KEY)


async def test_a_wish_reaches_an_engine_as_a_command(api: Api) -> None:
    """Connecting leaves a command with all that the contract names; an acknowledgement ends it."""
    session = (await api.create())["session_id"]
    await api.call("POST", "/sessions/test-session/connect")

    reply = await poll(api)
    (command,) = reply.data["commands"]
    word = await acknowledge(api, command["id"], ok=True)
    again = await acknowledge(api, command["id"], ok=False, error="too late")
    after = await poll(api, f"?cursor={reply.data['next_cursor']}")

    assert reply.status == 200
    assert set(command) == {"id", "session_id", "action", "phone", "created_at", "expires_at"}
    assert (command["session_id"], command["action"], command["phone"]) == (session, "connect", None)
    assert reply.headers["Cache-Control"] == "no-store"
    assert (word.status, word.data["session_id"], word.data["action"]) == (200, session, "acknowledge")
    assert (word.data["status"], word.data["id"]) == ("success", command["id"])
    assert again.status == 200
    assert after.data["commands"] == []


async def test_pairing_by_telephone_is_a_wish_to_connect(api: Api) -> None:
    """The command has the number; the session is connecting."""
    await api.create()

    wish = await api.call("POST", "/sessions/test-session/pair", {"phone": "5511999999999"})

    (command,) = (await poll(api)).data["commands"]
    assert (wish.status, wish.data["action"], wish.data["session_status"]) == (200, "pair", "connecting")
    assert (command["action"], command["phone"]) == ("pair", "5511999999999")


@pytest.mark.parametrize(
    "phone", ["", "123456789", "1234567890123456", "+5511999999999", "55 1199999999", 5511999999999]
)
async def test_what_is_no_telephone_number_is_refused(api: Api, phone: object) -> None:
    """10 to 15 digits, nothing else, and the refusal does not repeat them."""
    await api.create()

    reply = await api.call("POST", "/sessions/test-session/pair", {"phone": phone})

    assert (reply.status, reply.error) == (422, "VALIDATION_ERROR")
    assert "999" not in reply.body.decode()


async def test_pairing_a_connected_session_is_a_conflict(api: Api) -> None:
    """What is connected is paired."""
    await api.create()
    for status in ("connecting", "connected"):
        await api.call("PUT", "/sessions/test-session/status", {"status": status}, key=ENGINE_KEY)

    reply = await api.call("POST", "/sessions/test-session/pair", {"phone": "5511999999999"})

    assert (reply.status, reply.error) == (409, "ALREADY_CONNECTED")


async def test_deleting_a_session_leaves_a_command_that_outlives_it(api: Api) -> None:
    """The engine learns that there is nothing left to hold."""
    session = (await api.create())["session_id"]
    await api.call("DELETE", "/sessions/test-session/delete")

    (command,) = (await poll(api)).data["commands"]

    assert (command["session_id"], command["action"]) == (session, "delete")
    assert (await acknowledge(api, command["id"], ok=True)).status == 200


@pytest.mark.parametrize("identifier", ["00000000-0000-4000-8000-000000000000", "no-uuid"])
async def test_an_unknown_command_is_not_found(api: Api, identifier: str) -> None:
    """A word on nothing is a 404 of its own kind."""
    reply = await acknowledge(api, identifier, ok=True)

    assert (reply.status, reply.error) == (404, "COMMAND_NOT_FOUND")


@pytest.mark.parametrize("word", [{}, {"ok": 1}, {"ok": "true"}, {"ok": True, "error": 1}, {"ok": True, "more": 1}])
async def test_a_word_that_cannot_be_understood_is_refused(api: Api, word: dict[str, object]) -> None:
    """An acknowledgement says `ok` and nothing unknown."""
    reply = await acknowledge(api, str(uuid4()), **word)

    assert (reply.status, reply.error) == (422, "VALIDATION_ERROR")


@pytest.mark.parametrize(
    "query", ["?cursor=x", "?wait=-1", "?wait=61", "?wait=x", "?limit=0", "?limit=101", "?since=1"]
)
async def test_a_question_that_cannot_be_understood_is_refused(api: Api, query: str) -> None:
    """Cursor, wait and limit have their bounds; there is nothing else to ask with."""
    assert (await poll(api, query)).status == 422


async def test_engines_find_what_should_be_connected(api: Api) -> None:
    """The list is open to engines under their own path, with the wish as a filter."""
    await api.create("wanted")
    await api.create("unwanted")
    await api.call("POST", "/sessions/wanted/connect")

    reply = await api.call("GET", "/engine/sessions?desired_status=connected", key=ENGINE_KEY)

    assert [session["name"] for session in reply.data["sessions"]] == ["wanted"]
    assert (await api.call("GET", "/sessions/list", key=ENGINE_KEY)).status == 403


async def test_a_waiting_engine_is_answered_when_a_command_comes(api: Api) -> None:
    """The wait ends with the wish, not with its time."""
    await api.create()
    waiting = asyncio.create_task(poll(api, "?cursor=&wait=30"))
    await until(lambda: len(api.commands._line) == 1)

    await api.call("POST", "/sessions/test-session/connect")

    reply = await asyncio.wait_for(waiting, 5)
    assert [command["action"] for command in reply.data["commands"]] == ["connect"]


async def test_a_wait_ends_empty_when_nothing_comes(api: Api) -> None:
    """No command is no error."""
    reply = await poll(api, "?wait=1")

    assert (reply.status, reply.data["commands"]) == (200, [])


async def test_an_engine_that_hangs_up_leaves_nothing_behind(api: Api) -> None:
    """Its place in line, its handler and its request are gone at once."""
    hang_up = await hanging_poll(api)
    await until(lambda: len(api.commands._line) == 1)

    await hang_up()
    await until(lambda: len(api.events.of(RequestFinished)) == 1)

    assert len(api.commands._line) == 0
    assert len(api.events.of(RequestStarted)) == 1
    assert [event.status for event in api.events.of(RequestFinished)] == [499]


async def test_waiting_engines_are_answered_when_the_service_stops() -> None:
    """The stop does not wait for them, and tells them by the answer to come back on another connection."""
    async with running_api() as api:
        waiting = [asyncio.create_task(poll(api, "?wait=60")) for _ in range(20)]
        await until(lambda: len(api.commands._line) == 20)

        await asyncio.wait_for(api.server.stop(drain_seconds=30), 5)

        replies = await asyncio.gather(*waiting)
        assert {(reply.status, len(reply.data["commands"])) for reply in replies} == {(200, 0)}
        assert {reply.headers["Connection"] for reply in replies} == {"close"}


async def hanging_poll(api: Api) -> Callable[[], Awaitable[None]]:
    """Ask on a connection of its own; return how to hang up."""
    _, writer = await asyncio.open_connection("127.0.0.1", api.server.port)
    writer.write(
        f"GET /engine/commands?wait=30 HTTP/1.1\r\nHost: localhost\r\nX-API-Key: {ENGINE_KEY}\r\n\r\n".encode()
    )

    async def hang_up() -> None:
        writer.close()
        await writer.wait_closed()

    return hang_up


async def test_an_engine_without_the_session_is_told_so(api: Api) -> None:
    """A report with a cursor counts only from the engine that took the command; without one it counts as ever."""
    await api.create()
    await api.call("POST", "/sessions/test-session/connect")
    holder = (await poll(api)).data["next_cursor"]
    stranger = (await poll(api)).data["next_cursor"]
    replies = {}
    for name, cursor in {"holder": holder, "stranger": stranger, "nobody": "", "anybody": None}.items():
        body = {"status": "connecting", "cursor": cursor}
        replies[name] = await api.call("PUT", "/sessions/test-session/status", body, key=ENGINE_KEY)

    assert {name: reply.status for name, reply in replies.items()} == {
        "holder": 200,
        "stranger": 409,
        "nobody": 200,
        "anybody": 200,
    }
    assert replies["stranger"].error == "SESSION_NOT_HELD"


async def test_head_takes_no_commands(api: Api) -> None:
    """Who only wants the head of the answer would take commands along and leave them nowhere."""
    await api.create()
    await api.call("POST", "/sessions/test-session/connect")

    async with api.client.head(f"{api.url}/engine/commands", headers={"X-API-Key": ENGINE_KEY}) as reply:
        assert (reply.status, reply.headers["Allow"]) == (405, "GET")
    assert len((await poll(api)).data["commands"]) == 1


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("qr", {"qr_code": "code"}),
        ("pairing-code", {"code": "ABCD-EFGH"}),
        ("credentials", {"device_jid": "5511999999999:12@s.whatsapp.net"}),
    ],
)
async def test_what_an_engine_without_the_session_brings_is_refused(
    api: Api, path: str, body: dict[str, object]
) -> None:
    """With a cursor, codes and devices count like reports."""
    await api.create()
    await api.call("POST", "/sessions/test-session/connect")
    holder = (await poll(api)).data["next_cursor"]
    stranger = (await poll(api)).data["next_cursor"]
    url = f"/sessions/test-session/{path}"

    refused = await api.call("PUT", url, {**body, "cursor": stranger}, key=ENGINE_KEY)
    taken = await api.call("PUT", url, {**body, "cursor": holder}, key=ENGINE_KEY)

    assert (refused.status, refused.error) == (409, "SESSION_NOT_HELD")
    assert taken.status == 200


async def test_an_engine_ends_no_command_that_another_one_has(api: Api) -> None:
    """With a cursor, an acknowledgement counts only from the engine that has the command."""
    await api.create()
    await api.call("POST", "/sessions/test-session/connect")
    reply = await poll(api)
    stranger = (await poll(api)).data["next_cursor"]
    (command,) = reply.data["commands"]

    refused = await acknowledge(api, command["id"], ok=False, cursor=stranger)
    taken = await acknowledge(api, command["id"], ok=True, cursor=reply.data["next_cursor"])

    assert (refused.status, refused.error) == (409, "SESSION_NOT_HELD")
    assert taken.status == 200
