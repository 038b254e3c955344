"""Answers that are given again: the same as on the long way, for as long as what they were made of is the same."""

import asyncio
import math
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from uuid import UUID

import pytest

from tests.acceptance.api import ENGINE_KEY, OPERATOR_KEY, Api, Reply, running_api, until
from tests.acceptance.parts import SettableRecall
from zpmeow.domain.api_key import hash_api_key
from zpmeow.domain.errors import DatabaseUnavailable
from zpmeow.domain.ports import SessionChanges
from zpmeow.domain.records import ReadSource, SessionStatus
from zpmeow.domain.references import ByName
from zpmeow.domain.transitions import report
from zpmeow.events import RequestFinished, RequestStarted

KEY = "own-key-of-the-session-0123456789abcdef"
ROUTES = ["info", "status"]
CHUNKED = "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
VARYING = {"X-Request-ID", "Date"}


@asynccontextmanager
async def recalling_api(*, operator_key: str = OPERATOR_KEY) -> AsyncIterator[Api]:
    """Run an API whose sessions are all kept in this process' memory; it has one, `test-session`."""
    async with running_api(operator_key=operator_key) as api:
        await api.create(api_key=KEY)
        api.repository.source = ReadSource.LOCAL
        api.repository.recall = SettableRecall()
        yield api


@pytest.fixture
async def api() -> AsyncIterator[Api]:
    """An API that can recall."""
    async with recalling_api() as api:
        yield api


@pytest.fixture
async def lean(api: Api) -> Api:
    """An API that keeps no sessions in its memory, and can read what it has answered again."""
    api.repository.source = ReadSource.REDIS
    recall_of(api).holds = False
    return api


def recall_of(api: Api) -> SettableRecall:
    """Return what says whether a read is repeated from memory."""
    assert api.repository.recall is not None
    return api.repository.recall


async def read(api: Api, route: str = "info", *, key: str | None = KEY, **headers: str) -> Reply:
    """Read the session."""
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    return await api.call("GET", f"/sessions/test-session/{route}", key=key, headers=sent)


def lasting(reply: Reply) -> dict[str, str]:
    """Return the headers that are the same each time."""
    return {name.lower(): value for name, value in reply.headers.items() if name not in VARYING}


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize("key", [KEY, OPERATOR_KEY])
async def test_answer_is_the_same_when_it_is_recalled(api: Api, route: str, key: str) -> None:
    """Nothing is read again, and nothing but id and date differs."""
    first = await read(api, route, key=key)
    finds = api.repository.finds

    second = await read(api, route, key=key)

    assert api.repository.finds == finds
    assert (second.status, second.body, lasting(second)) == (200, first.body, lasting(first))
    assert second.headers["X-Request-ID"] != first.headers["X-Request-ID"]
    assert second.headers["Date"]


async def test_request_is_told_as_on_the_long_way_when_it_is_recalled(api: Api) -> None:
    """Metrics and log cannot tell the two apart."""
    await read(api)
    await read(api, X_Request_ID="my-own-id")

    first, second = [event for event in api.events.of(RequestFinished) if event.route.endswith("/info")]
    assert (second.method, second.route, second.status, second.cache_status) == (
        first.method,
        first.route,
        first.status,
        first.cache_status,
    )
    assert second.request_id == "my-own-id"
    assert len(api.events.of(RequestStarted)) == len(api.events.of(RequestFinished))


async def test_not_modified_is_recalled_when_the_caller_has_it_already(api: Api) -> None:
    """The same as on the long way, without a body."""
    etag = (await read(api)).headers["ETag"]
    finds = api.repository.finds

    recalled = await read(api, If_None_Match=etag)
    other = await read(api, If_None_Match='"another"')

    assert api.repository.finds == finds
    assert (recalled.status, recalled.body, recalled.headers["ETag"]) == (304, b"", etag)
    assert other.status == 200
    api.repository.recall = None
    long_way = await read(api, Authorization=KEY, If_None_Match=etag)
    assert lasting(long_way) == lasting(recalled)


async def test_answer_is_made_anew_when_it_is_not_current(api: Api) -> None:
    """What has changed is read, and recalled from then on."""
    await read(api)
    recall_of(api).holds = False
    await api.repository.change_status(ByName("test-session"), report(SessionStatus.CONNECTING, None))
    api.repository.recall = SettableRecall()

    changed = await read(api)
    finds = api.repository.finds
    again = await read(api)

    assert changed.data["session"]["status"] == again.data["session"]["status"] == "connecting"
    assert api.repository.finds == finds
    assert recall_of(api).repeated == 1


async def test_answer_is_made_anew_when_its_promise_has_ended(api: Api) -> None:
    """A status with an end is not recalled after it, whatever the cache says."""
    promised = await api.repository.change_status(ByName("test-session"), report(SessionStatus.CONNECTING, None, 30))
    end = promised.status.valid_until
    assert end is not None
    await read(api, "status")
    api.clock.time = end - timedelta(milliseconds=1)
    before = await read(api, "status")

    api.clock.time = end
    after = await read(api, "status")

    assert before.data["session_status"] == "connecting"
    assert (after.data["session_status"], after.data["reason"]) == ("error", "engine_silent")


async def test_blank_key_opens_nothing_when_another_header_has_let_its_sender_in(api: Api) -> None:
    """Blanks are no key, neither when an answer is kept nor when one is looked for."""
    target = "/sessions/test-session/info"
    with_bearer = f"GET {target} HTTP/1.1\r\nHost: x\r\nX-API-Key: \r\nAuthorization: Bearer {KEY}\r\n\r\n"
    for _ in range(2):
        assert await raw_status(api, with_bearer) == 200

    assert await raw_status(api, f"GET {target} HTTP/1.1\r\nHost: x\r\nX-API-Key: \r\n\r\n") == 401


async def test_first_answer_is_kept_when_it_is_not_modified(api: Api) -> None:
    """A caller who always brings its copy's tag is recalled from the second time on, and others get the body."""
    long_way = await read(api, Authorization=KEY)
    etag = long_way.headers["ETag"]
    await read(api, If_None_Match=etag)
    finds = api.repository.finds

    again, whole = await read(api, If_None_Match=etag), await read(api)

    assert api.repository.finds == finds
    assert (again.status, again.body) == (304, b"")
    assert (whole.status, whole.body, lasting(whole)) == (200, long_way.body, lasting(long_way))


async def test_answers_wait_when_their_caller_does_not_read(api: Api) -> None:
    """Who asks and does not listen is not answered into this process' memory, nor into megabytes of the kernel's."""
    await read(api)
    asked, loop = 3_000, asyncio.get_running_loop()  # 3.6 MB of answers: the kernel would take 4 for each connection.
    request = f"GET /sessions/test-session/info HTTP/1.1\r\nHost: x\r\nX-API-Key: {KEY}\r\n\r\n".encode()
    with socket.socket() as line:
        line.setblocking(False)  # noqa: FBT003  (the name of the call says what it means)
        line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        await loop.sock_connect(line, ("127.0.0.1", api.server.port))
        before = len(api.events.of(RequestFinished))
        sending = asyncio.create_task(loop.sock_sendall(line, request * asked))
        answered = -1
        while answered != (now := len(api.events.of(RequestFinished)) - before):
            answered = now
            await asyncio.sleep(0.3)

        received = 0
        async with asyncio.timeout(20):
            while len(api.events.of(RequestFinished)) - before < asked:
                received += len(await loop.sock_recv(line, 1 << 20))
        await sending

    assert 0 < answered < asked
    assert received


@pytest.mark.parametrize(
    ("key", "headers", "status"),
    [
        ("another-key-of-somebody-0123456789abcdef", {}, 401),
        (None, {}, 401),
        (None, {"Authorization": f"Bearer {KEY}"}, 200),
        (KEY, {"Authorization": "Bearer another-key-altogether"}, 401),
        (KEY, {"Connection": "close"}, 200),
        (KEY, {"Expect": "100-continue"}, 200),
        (KEY, {"Upgrade": "websocket"}, 200),
        (ENGINE_KEY, {}, 200),
    ],
    ids=["another-key", "no-key", "bearer", "two-keys", "closing", "expecting", "upgrading", "engine"],
)
async def test_request_goes_the_long_way_when_it_is_not_the_same(
    api: Api, key: str | None, headers: dict[str, str], status: int
) -> None:
    """Another key, another way to present it, another way to use the connection."""
    await read(api)
    finds = api.repository.finds

    reply = await api.call("GET", "/sessions/test-session/info", key=key, headers=headers)

    assert reply.status == status
    # Nobody has to be read for who presents no key, or two.
    asks_nothing = (key is None and not headers) or headers.get("Authorization", "").endswith("altogether")
    assert (api.repository.finds > finds) is not asks_nothing


@pytest.mark.parametrize("target", ["/sessions/test-session/info?x=1", "/sessions/test%2Dsession/info"])
async def test_request_goes_the_long_way_when_its_target_is_written_in_another_way(api: Api, target: str) -> None:
    """Only the very same text is taken for the same."""
    await read(api)
    finds = api.repository.finds

    status = await raw_status(api, f"GET {target} HTTP/1.1\r\nHost: x\r\nX-API-Key: {KEY}\r\n\r\n")

    assert status == 200
    assert api.repository.finds > finds


@pytest.mark.parametrize(
    "request_text",
    [
        "HEAD /sessions/test-session/info HTTP/1.1\r\nHost: x\r\nX-API-Key: {key}\r\n\r\n",
        "GET /sessions/test-session/info HTTP/1.0\r\nHost: x\r\nX-API-Key: {key}\r\n\r\n",
        "GET /sessions/test-session/info HTTP/1.1\r\nHost: x\r\nX-API-Key: {key}\r\nContent-Length: 2\r\n\r\n{{}}",
        "GET /sessions/test-session/info HTTP/1.1\r\nHost: x\r\nX-API-Key: {key}\r\n" + CHUNKED,
    ],
    ids=["head", "http-1.0", "with-a-body", "in-chunks"],
)
async def test_request_goes_the_long_way_when_it_is_an_unusual_one(api: Api, request_text: str) -> None:
    """Whatever is not a plain GET on a connection that is kept."""
    await read(api)
    finds = api.repository.finds

    status = await raw_status(api, request_text.format(key=KEY))

    assert status == 200
    assert api.repository.finds > finds


async def test_nothing_is_recalled_when_no_key_protects_the_service() -> None:
    """Each request has to show that it comes from this machine."""
    async with recalling_api(operator_key="") as api:
        await read(api, key=KEY)

        foreign = await read(api, key=KEY, Origin="https://evil.test")

    assert foreign.status == 403


async def test_nothing_is_recalled_when_the_stop_has_begun(api: Api) -> None:
    """Each answer of a stop says that its connection closes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", api.server.port)
    request = f"GET /sessions/test-session/info HTTP/1.1\r\nHost: x\r\nX-API-Key: {KEY}\r\n\r\n".encode()
    heads = []
    for number in range(3):
        if number == 2:
            stopping = asyncio.create_task(api.server.stop())
            await asyncio.sleep(0)
            await asyncio.sleep(0)
        writer.write(request)
        heads.append((await reader.readuntil(b"\r\n\r\n")).decode())
        await reader.readexactly(int(heads[-1].lower().partition("content-length: ")[2].split()[0]))
    writer.close()
    await stopping

    assert ["connection: close" in head.lower() for head in heads] == [False, False, True]


async def test_answer_is_repeated_from_memory_again_when_the_record_is_back_in_it(api: Api) -> None:
    """An entry of this process lives for seconds: the next read brings the answer back, too."""
    first = await read(api)
    recall_of(api).holds = False
    api.repository.recall = SettableRecall()
    await read(api)
    finds = api.repository.finds

    again = await read(api)

    assert api.repository.finds == finds
    assert again.body == first.body
    assert recall_of(api).repeated == 1


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize("key", [KEY, OPERATOR_KEY, ENGINE_KEY])
async def test_answer_is_the_same_when_its_records_are_read_again(lean: Api, route: str, key: str) -> None:
    """One look for the records, and the same answer, as the long way would give it."""
    first = await read(lean, route, key=key)
    finds = lean.repository.finds

    again = await read(lean, route, key=key)
    known = await read(lean, route, key=key, If_None_Match=first.headers["ETag"])

    assert lean.repository.finds == finds + 2
    assert (again.status, again.body, lasting(again)) == (200, first.body, lasting(first))
    assert (known.status, known.body) == (304, b"")
    long_way = await read(lean, route, key=None, Authorization=key, If_None_Match=first.headers["ETag"])
    assert lasting(known) == lasting(long_way)


@pytest.mark.parametrize("source", list(ReadSource))
async def test_answer_says_who_has_answered_when_its_records_are_read_again(lean: Api, source: ReadSource) -> None:
    """It may be another one each time: what is told, counted and logged is who it was now."""
    for _ in range(2):
        await read(lean)
    lean.repository.source = source
    await asyncio.sleep(0.05)  # What is told of the first one has been told.
    before = len(lean.events.of(RequestFinished))

    again = await read(lean)

    long_way = await read(lean, key=None, Authorization=KEY)
    assert again.headers["Cache-Status"] == long_way.headers["Cache-Status"]
    await until(lambda: len(lean.events.of(RequestFinished)) >= before + 2)
    told = [event.cache_status for event in lean.events.of(RequestFinished)][before:]
    assert told == [again.headers["Cache-Status"]] * 2


async def test_new_answer_takes_one_read_when_the_status_has_changed(lean: Api) -> None:
    """Who may read it is no new question: the session's own record is the same."""
    await read(lean)
    await lean.repository.change_status(ByName("test-session"), report(SessionStatus.CONNECTING, None))
    finds = lean.repository.finds

    changed = await read(lean)
    again = await read(lean)

    assert changed.data["session"]["status"] == again.data["session"]["status"] == "connecting"
    assert lean.repository.finds == finds + 2


async def rotate_key(api: Api) -> None:
    """Take the key from its owner."""
    await api.repository.update(ByName("test-session"), SessionChanges(key_hash=hash_api_key("k" * 40)))


async def rename(api: Api) -> None:
    """Give the session another name."""
    await api.repository.update(ByName("test-session"), SessionChanges(name="renamed"))


async def delete(api: Api) -> None:
    """Remove the session."""
    await api.repository.delete(ByName("test-session"))


@pytest.mark.parametrize(
    ("happen", "key", "status"),
    [
        (rotate_key, KEY, 401),
        (rotate_key, OPERATOR_KEY, 200),
        (rename, KEY, 403),
        (rename, OPERATOR_KEY, 404),
        (delete, KEY, 401),
        (delete, OPERATOR_KEY, 404),
    ],
)
async def test_nobody_is_let_in_again_by_what_was_true_before(
    lean: Api, happen: Callable[[Api], Awaitable[None]], key: str, status: int
) -> None:
    """A lost key opens nothing, and a name that was given up names nothing, however often they were answered."""
    for _ in range(2):
        assert (await read(lean, key=key)).status == 200

    await happen(lean)

    assert (await read(lean, key=key)).status == status
    # And what does not hold any more costs nobody a second look.
    finds = lean.repository.finds
    assert (await read(lean, key=key)).status == status
    assert lean.repository.finds == finds + 1


async def test_answer_is_made_anew_when_the_same_versions_may_mean_something_else(lean: Api) -> None:
    """In another epoch nothing is the same, and callers' copies are none any more."""
    etag = (await read(lean)).headers["ETag"]
    lean.repository.epoch_tag = "1"

    again = await read(lean, If_None_Match=etag)

    assert again.status == 200
    assert again.headers["ETag"] != etag


async def test_answer_is_made_anew_when_another_record_has_the_same_version(lean: Api) -> None:
    """A backup was restored: records are compared by all they say."""
    await read(lean)
    lean.repository.restore("test-session", proxy_url="http://restored.test:80")

    again = await read(lean)

    assert again.data["session"]["proxy_url"] == "http://restored.test:80"


async def test_answer_is_made_anew_when_its_promise_has_ended_and_its_records_are_the_same(lean: Api) -> None:
    """That the engine is silent is written nowhere yet."""
    promised = await lean.repository.change_status(ByName("test-session"), report(SessionStatus.CONNECTING, None, 30))
    end = promised.status.valid_until
    assert end is not None
    lean.clock.time = end - timedelta(milliseconds=1)
    before = [await read(lean, "status") for _ in range(2)]

    lean.clock.time = end
    after = [await read(lean, "status") for _ in range(2)]

    assert [reply.data["session_status"] for reply in before + after] == ["connecting"] * 2 + ["error"] * 2


async def test_reading_again_is_refused_as_the_long_way_is_when_the_database_is_away(lean: Api) -> None:
    """And answered when it is back."""
    await read(lean)
    lean.repository.failure = DatabaseUnavailable("away")
    refused = await read(lean)
    lean.repository.failure = None

    assert (refused.status, refused.headers["Retry-After"]) == (503, "1")
    assert (await read(lean)).status == 200


async def test_name_leads_to_its_new_owner_when_the_records_cannot_be_read_again(lean: Api) -> None:
    """The session is gone, and another one has its name and its key: the cache knows, the database cannot say."""
    await read(lean)
    gone = (await read(lean)).data["session"]["id"]
    await lean.repository.delete(ByName("test-session"))
    await lean.create(api_key=KEY)
    lean.repository.lost.add(UUID(gone))

    again = await read(lean)

    assert again.status == 200
    assert again.data["session"]["id"] != gone


async def test_reading_again_is_as_patient_as_the_long_way(lean: Api) -> None:
    """A request waits for the database as long as any."""
    await read(lean)
    lean.repository.patience = math.inf

    await read(lean)

    assert 0 < lean.repository.patience <= 5.0


async def test_answer_is_not_kept_when_a_query_was_sent(lean: Api) -> None:
    """It means nothing, and who makes up ever other ones would crowd out what others ask for."""
    target = "/sessions/test-session/info?x=1"
    statuses = [
        await raw_status(lean, f"GET {target} HTTP/1.1\r\nHost: x\r\nX-API-Key: {KEY}\r\n\r\n") for _ in range(2)
    ]
    recall_of(lean).holds = True
    finds = lean.repository.finds

    await raw_status(lean, f"GET {target} HTTP/1.1\r\nHost: x\r\nX-API-Key: {KEY}\r\n\r\n")

    assert statuses == [200, 200]
    assert recall_of(lean).repeated == 0
    assert lean.repository.finds == finds + 1


async def test_connection_is_closed_when_the_stop_begins_while_the_records_are_read_again(lean: Api) -> None:
    """Each answer of a stop says so, also one that was on its way."""
    await read(lean)
    lean.repository.gate.clear()
    reading = asyncio.create_task(read(lean))
    finds = lean.repository.finds
    await until(lambda: lean.repository.finds > finds)
    stopping = asyncio.create_task(lean.server.stop())
    await asyncio.sleep(0.05)

    lean.repository.gate.set()

    assert (await reading).headers["Connection"] == "close"
    await stopping


async def test_engine_is_told_the_password_and_the_owner_is_not_however_often_they_ask(lean: Api) -> None:
    """What is shown to one caller is never another one's answer, and a password is never kept."""
    await lean.repository.update(
        ByName("test-session"), SessionChanges(proxy_url="http://user@proxy.test:80", proxy_password="secret")
    )

    urls = [
        [(await read(lean, key=key)).data["session"]["proxy_url"] for _ in range(3)]
        for key in (KEY, ENGINE_KEY, OPERATOR_KEY)
    ]

    assert urls == [
        ["http://user:***@proxy.test:80"] * 3,
        ["http://user:secret@proxy.test:80"] * 3,
        ["http://user:***@proxy.test:80"] * 3,
    ]


async def test_records_of_both_routes_are_kept_apart(api: Api) -> None:
    """What one route has answered is not the other one's answer."""
    info, status = await read(api, "info"), await read(api, "status")

    assert (await read(api, "info")).body == info.body
    assert (await read(api, "status")).body == status.body


async def raw_status(api: Api, text: str) -> int:
    """Send bytes as they are; return the status of the answer."""
    reader, writer = await asyncio.open_connection("127.0.0.1", api.server.port)
    writer.write(text.encode())
    line = await reader.readline()
    writer.close()
    return int(line.split()[1])
