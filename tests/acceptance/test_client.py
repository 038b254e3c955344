"""The client for engine authors, against the API, and against services that are away for a moment."""

import asyncio
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from uuid import uuid4

import pytest
from aiohttp import web

from tests.acceptance.api import ENGINE_KEY, OPERATOR_KEY, Api, running_api, until
from zpmeow.client import (
    Client,
    Command,
    CommandAction,
    CommandFailed,
    Refused,
    ServiceAway,
    SessionStatus,
    work,
)

JID = "5511999999999:12@s.whatsapp.net"


@pytest.fixture
async def owner(api: Api) -> AsyncIterator[Client]:
    """A client with the operator's key."""
    async with Client(api.url, api_key=OPERATOR_KEY, patience_seconds=5) as client:
        yield client


@pytest.fixture
async def engine(api: Api) -> AsyncIterator[Client]:
    """A client with the engines' key."""
    async with Client(api.url, api_key=ENGINE_KEY, patience_seconds=5) as client:
        yield client


async def test_a_session_lives_its_life_through_the_client(owner: Client, engine: Client) -> None:
    """Made, wished connected, shown a code, paired, connected, disconnected, removed: all of it, typed."""
    made = await owner.create_session("test-session", proxy_url="socks5://user:secret@proxy:1080")
    await owner.connect("test-session")
    command = await anext(aiter(engine.commands()))
    await engine.report(command.session_id, SessionStatus.CONNECTING, valid_for_seconds=30)
    no_code = await owner.qr_code("test-session")
    waiting = asyncio.create_task(owner.qr_code(made.session.id, wait_seconds=20))
    await engine.put_qr_code(command.session_id, "2@code", expires_in_seconds=30, issued_at=datetime.now(UTC))
    code = await asyncio.wait_for(waiting, 5)
    await engine.put_pairing_code(command.session_id, "ABCD-EFGH")
    pairing = await owner.pairing_code("test-session")
    no_device = await engine.device(command.session_id)
    await engine.put_device(command.session_id, JID)
    await engine.report(command.session_id, SessionStatus.CONNECTED, valid_for_seconds=30)
    await engine.acknowledge(command)
    status = await owner.status("test-session")
    seen = await engine.session("test-session")
    found = [session.name async for session in engine.sessions(desired_status=SessionStatus.CONNECTED)]
    await engine.remove_device("test-session")
    await owner.disconnect("test-session")
    await owner.delete_session("test-session")
    await owner.delete_session("test-session")

    assert made.api_key.startswith("zpm_")
    assert made.api_key not in repr(made)
    assert (command.action, command.session_id, command.phone) == (CommandAction.CONNECT, made.session.id, None)
    assert no_code is None
    assert code is not None
    assert code.qr_code == "2@code"
    assert pairing is not None
    assert pairing.code == "ABCD-EFGH"
    assert no_device is None
    assert (status.session_status, status.is_connected, status.device_jid) == ("connected", True, JID)
    assert (seen.status, seen.desired_status) == ("connected", "connected")
    assert seen.proxy_url is not None
    assert "secret" in seen.proxy_url
    assert found == ["test-session"]
    with pytest.raises(Refused) as refusal:
        await owner.session("test-session")
    assert (refusal.value.status, refusal.value.code) == (404, "SESSION_NOT_FOUND")


async def test_all_pages_of_the_list_are_read(api: Api, engine: Client) -> None:
    """A list of several pages is one stream of sessions."""
    for number in range(105):
        await api.create(f"session-{number:03}")

    names = [session.name async for session in engine.sessions()]

    assert names == [f"session-{number:03}" for number in range(105)]


async def test_an_engine_is_refused_when_it_has_lost_the_session(api: Api, engine: Client) -> None:
    """The client speaks as the engine that took the command, unless it is told to speak as anybody."""
    await api.create()
    await api.call("POST", "/sessions/test-session/connect")
    command = await anext(aiter(engine.commands()))
    await api.call("POST", "/sessions/test-session/disconnect")

    with pytest.raises(Refused) as refusal:
        await engine.report(command.session_id, SessionStatus.CONNECTING)
    await engine.report(command.session_id, SessionStatus.ERROR, as_holder=False)

    assert refusal.value.code == "SESSION_NOT_HELD"


class Moody:
    """A service that answers what a test lays down, one answer a request, the last one for ever."""

    def __init__(self, *answers: web.Response | None) -> None:
        """Answer so; None breaks the connection off."""
        self.answers = list(answers)
        self.requests: list[tuple[str, str]] = []

    async def answer(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer the next request."""
        self.requests.append((request.method, request.path_qs))
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if answer is None:
            assert request.transport is not None
            request.transport.close()
            return web.Response()
        return web.Response(status=answer.status, body=answer.body, headers=answer.headers)


def answer(status: int, code: str | None = None, *, retry_after: str | None = None, **data: object) -> web.Response:
    """Make an answer as the service does."""
    error = None if code is None else {"code": code, "message": "", "details": ""}
    headers = {} if retry_after is None else {"Retry-After": retry_after}
    body = {"success": error is None, "code": status, "data": data or None, "error": error}
    return web.json_response(body, status=status, headers=headers)


def created() -> web.Response:
    """Answer as to a created session."""
    session = {
        "id": "00000000-0000-4000-8000-000000000000",
        "name": "made",
        "status": "disconnected",
        "desired_status": "disconnected",
        "device_jid": None,
        "proxy_url": None,
        "created_at": "2026-01-01T00:00:00Z",
        "updated_at": "2026-01-01T00:00:00Z",
    }
    return answer(201, session=session, api_key="zpm_key")


async def ask(moody: Moody, *, patience_seconds: float = 5) -> tuple[Client, web.ServerRunner]:
    """Run the moody service; return a client for it and what ends it."""
    runner = web.ServerRunner(web.Server(moody.answer))
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    return Client(f"http://{host}:{port}", patience_seconds=patience_seconds), runner


@pytest.mark.parametrize(
    "trouble",
    [
        answer(503, "DATABASE_UNAVAILABLE"),
        answer(503, "OVERLOADED"),
        answer(503, "STOPPING"),
        answer(500, "INTERNAL_ERROR"),
        web.Response(status=404, text="no service behind this proxy"),
        web.json_response({"error": {"message": "slow down"}}, status=429),
        web.json_response({"error": "bad gateway"}, status=502),
        web.Response(status=200, text="<html>Maintenance</html>"),
        web.Response(status=502, text="<html>Bad gateway</html>"),
        web.Response(status=504),
        web.Response(status=503, text="no JSON"),
        None,
    ],
)
async def test_what_can_be_done_twice_is_tried_again_when_the_service_is_away(trouble: web.Response | None) -> None:
    """Two failures and then an answer are an answer."""
    moody = Moody(trouble, trouble, answer(200, session_id="x"))
    client, runner = await ask(moody)

    async with client:
        await client.connect("test-session")

    assert moody.requests == [("POST", "/sessions/test-session/connect")] * 3
    await runner.cleanup()


async def test_the_service_is_given_the_time_that_it_asks_for() -> None:
    """Retry-After is a pause of at least that long."""
    client, runner = await ask(Moody(answer(503, "OVERLOADED", retry_after="1"), answer(200, session_id="x")))

    async with client:
        began = time.monotonic()
        await client.connect("test-session")

    # Less what the loop may come early by: its clock counts whole milliseconds.
    assert time.monotonic() - began >= 0.99
    await runner.cleanup()


async def test_patience_has_an_end() -> None:
    """A service that stays away is told as such, with its last word."""
    client, runner = await ask(Moody(answer(503, "DATABASE_UNAVAILABLE")), patience_seconds=0.3)

    async with client:
        with pytest.raises(ServiceAway, match="DATABASE_UNAVAILABLE"):
            await client.connect("test-session")

    await runner.cleanup()


@pytest.mark.parametrize("trouble", [answer(503, "OVERLOADED"), answer(503, "STOPPING")])
async def test_a_session_is_made_by_another_try_when_nothing_was_done(trouble: web.Response) -> None:
    """What was refused before it began may be tried again, whatever it is."""
    client, runner = await ask(Moody(trouble, created()))

    async with client:
        assert (await client.create_session("made")).api_key == "zpm_key"

    await runner.cleanup()


@pytest.mark.parametrize("trouble", [answer(503, "DATABASE_UNAVAILABLE"), None])
async def test_a_session_is_not_made_twice_when_it_may_have_been_made(trouble: web.Response | None) -> None:
    """Where nobody knows, the caller decides."""
    moody = Moody(trouble, created())
    client, runner = await ask(moody)

    async with client:
        with pytest.raises(ServiceAway):
            await client.create_session("made")

    assert len(moody.requests) == 1
    await runner.cleanup()


async def test_a_refusal_is_final() -> None:
    """What the service says no to is asked once."""
    moody = Moody(answer(409, "ALREADY_CONNECTED"))
    client, runner = await ask(moody)

    async with client:
        with pytest.raises(Refused) as refusal:
            await client.connect("test-session")

    assert (refusal.value.status, refusal.value.code) == (409, "ALREADY_CONNECTED")
    assert len(moody.requests) == 1
    await runner.cleanup()


async def test_a_redirect_is_not_followed() -> None:
    """The key goes to the service alone; what sends it elsewhere is no service of ours."""
    elsewhere = Moody(answer(200, session_id="x"))
    client, runner = await ask(elsewhere)
    host, port = runner.addresses[0][:2]
    away, redirecting = await ask(Moody(web.Response(status=307, headers={"Location": f"http://{host}:{port}/"})))

    async with client, away:
        with pytest.raises(Refused) as refusal:
            await away.connect("test-session")

    assert (refusal.value.status, refusal.value.code) == (307, "NO_ANSWER_OF_ZPMEOW")
    assert elsewhere.requests == []
    await runner.cleanup()
    await redirecting.cleanup()


async def test_nobody_there_is_tried_again_until_somebody_is() -> None:
    """A refused connection is no answer: a service that starts meanwhile is reached."""
    async with running_api() as first:
        port = first.server.port
    async with Client(f"http://127.0.0.1:{port}", api_key=OPERATOR_KEY, patience_seconds=10) as client:
        asked = asyncio.create_task(client.create_session("late"))
        await asyncio.sleep(0.3)
        async with running_api(port=port):
            assert (await asked).session.name == "late"


async def test_the_stream_goes_on_whatever_happens_to_the_service() -> None:
    """Broken connections, restarts and refusals to wait are no end of the stream, and its cursor is kept."""
    command = {
        "id": "00000000-0000-4000-8000-000000000001",
        "session_id": "00000000-0000-4000-8000-000000000002",
        "action": "connect",
        "phone": None,
        "created_at": "2026-01-01T00:00:00Z",
        "expires_at": "2026-01-01T00:10:00Z",
    }
    moody = Moody(
        None,
        answer(200, commands=[], next_cursor="c-1"),
        answer(503, "STOPPING"),
        None,
        answer(200, commands=[command], next_cursor="c-2"),
        answer(200, commands=[command, command], next_cursor="c-3"),
    )
    client, runner = await ask(moody, patience_seconds=0.01)

    async with client:
        stream = client.commands(wait_seconds=5)
        found = [await anext(stream) for _ in range(3)]
        await stream.aclose()  # type: ignore[attr-defined]  # It is a generator.

    assert [one.action for one in found] == ["connect"] * 3
    assert [path.partition("cursor=")[2].partition("&")[0] for _, path in moody.requests] == [
        "",
        "",
        "c-1",
        "c-1",
        "c-1",
        "c-2",
    ]
    await runner.cleanup()


async def test_work_does_commands_of_one_session_in_order_and_of_others_side_by_side(
    api: Api, owner: Client, engine: Client
) -> None:
    """A slow session holds up itself alone; each command is acknowledged when it is done."""
    for name in ("slow", "quick"):
        await owner.create_session(name)
        await owner.connect(name)
        await owner.pair(name, "5511999999999")
    slow = (await owner.session("slow")).id
    may_go, done = asyncio.Event(), list[tuple[str, str]]()

    async def handle(command: Command) -> None:
        if command.session_id == slow:
            await may_go.wait()
        done.append(("slow" if command.session_id == slow else "quick", command.action))

    working = asyncio.create_task(work(engine, handle))
    await until(lambda: len(done) == 2)
    before = list(done)
    may_go.set()
    await until(lambda: len(done) == 4)
    await until(lambda: all(row.outcome for row in api.queue._rows))
    working.cancel()

    assert before == [("quick", "connect"), ("quick", "pair")]
    assert done[2:] == [("slow", "connect"), ("slow", "pair")]
    assert {row.outcome for row in api.queue._rows} == {"done"}
    with pytest.raises(asyncio.CancelledError):
        await working


@pytest.mark.parametrize("error", [CommandFailed("no such device"), ValueError("secret")])
async def test_work_goes_on_when_a_command_fails(
    api: Api, owner: Client, engine: Client, error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    """A failed command is acknowledged as failed, with a reason that tells no more than it should."""
    for name in ("first", "second"):
        await owner.create_session(name)
    seen: list[str] = []

    async def handle(command: Command) -> None:
        seen.append(command.action)
        if len(seen) == 1:
            raise error

    working = asyncio.create_task(work(engine, handle))
    await owner.connect("first")
    await until(lambda: len(seen) == 1)
    await owner.connect("second")
    await until(lambda: len(api.queue._rows) == 2 and all(row.outcome for row in api.queue._rows))
    working.cancel()

    assert [row.outcome for row in api.queue._rows] == ["failed", "done"]


async def test_work_does_a_command_once_that_comes_again_while_it_is_done(engine: Client) -> None:
    """One that takes longer than its lease is delivered again, and is under way already."""
    now = datetime.now(UTC)
    command = Command(
        id=(identifier := uuid4()),
        session_id=identifier,
        action=CommandAction.CONNECT,
        phone=None,
        created_at=now,
        expires_at=now,
    )
    done: list[str] = []

    async def handle(command: Command) -> None:
        await asyncio.sleep(0.01)
        done.append(command.action)

    async def stream() -> AsyncIterator[Command]:
        yield command
        yield command
        await asyncio.sleep(0.05)

    await work(engine, handle, commands=stream())

    assert done == ["connect"]


async def test_work_ends_with_what_the_stream_was_refused_for(api: Api) -> None:
    """A wrong key is told as what it is."""

    async def handle(_command: Command) -> None:
        message = "nothing can come"
        raise AssertionError(message)

    async with Client(api.url, api_key="wrong" * 10) as stranger:
        with pytest.raises(Refused) as refusal:
            await work(stranger, handle)

    assert refusal.value.status == 401


async def test_a_command_is_left_when_the_service_is_away(api: Api, owner: Client, engine: Client) -> None:
    """What could not be done because nobody answered is not failed: it comes again."""
    await owner.create_session("test-session")
    await owner.connect("test-session")
    seen: list[str] = []

    async def handle(command: Command) -> None:
        seen.append(command.action)
        message = "no answer"
        raise ServiceAway(message)

    working = asyncio.create_task(work(engine, handle))
    await until(lambda: len(seen) == 1)
    await asyncio.sleep(0.05)
    working.cancel()

    (row,) = api.queue._rows
    assert row.outcome is None
    assert row.leased_until is not None
