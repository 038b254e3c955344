"""What strangers can do to a connection: be slow, be wrong, hang up, ask for too much."""

import asyncio
import gc
import re
import time
import tracemalloc
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from random import Random
from uuid import UUID

import orjson
import pytest

from tests.acceptance.api import OPERATOR_KEY, Api, running_api
from zpmeow.api.server import Timeouts
from zpmeow.domain.patience import patience_left
from zpmeow.domain.ports import NewSession
from zpmeow.domain.records import Entity, Snapshot, StatusRecord
from zpmeow.domain.references import SessionReference
from zpmeow.domain.transitions import StatusChange
from zpmeow.events import RequestCrashed, RequestFinished, RequestStarted


@dataclass(slots=True)
class Answer:
    """The first answer on a raw connection, and what came after it."""

    status: int
    headers: dict[str, str]
    body: bytes
    rest: bytes

    @property
    def error(self) -> str:
        """The error's code."""
        code: str = orjson.loads(self.body)["error"]["code"]
        return code


async def send(api: Api, data: bytes) -> Answer:
    """Send bytes and read until the server closes the connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", api.server.port)
    try:
        writer.write(data)
        return parse(await asyncio.wait_for(reader.read(), 10))
    finally:
        writer.close()


def parse(data: bytes) -> Answer:
    """Read the first answer."""
    head, _, rest = data.partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    headers = dict(line.lower().split(": ", 1) for line in lines)
    length = int(headers.get("content-length", 0))
    return Answer(int(first.split()[1]), headers, rest[:length], rest[length:])


@asynccontextmanager
async def impatient_api() -> AsyncIterator[Api]:
    """An API that waits a fifth of a second for heads and bodies, and longer for idle connections."""
    async with running_api(body_timeout_seconds=0.2, timeouts=Timeouts(head_seconds=0.2, idle_seconds=60)) as running:
        yield running


HEAD = f"POST /sessions/create HTTP/1.1\r\nHost: localhost\r\nX-API-Key: {OPERATOR_KEY}\r\n".encode()


@pytest.mark.parametrize(
    "data",
    [
        b"NOT HTTP AT ALL\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"GET /health HTTP/1.1\r\nHost: localhost\r\nX-API-Key secret-key\r\n\r\n",
        b"GET /health HTTP/1.1\r\nHost: localhost\r\nX-Secret: \x00secret-key\r\n\r\n",
        b"GET /health HTTP/1.1\r\nHost: localhost\r\nX-Long: " + b"secret-key" * 2000 + b"\r\n\r\n",
        b"GET /" + b"secret-key" * 2000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET /health HTTP/9.9\r\nHost: localhost\r\n\r\n",
        b"GET /health HTTP/1.1\r\nHost: localhost\r\n" + b"X: secret-key\r\n" * 500 + b"\r\n",
        HEAD + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        HEAD + b"Content-Length: x\r\n\r\n",
        HEAD + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nabcdef",
        b"GET /health HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
    ],
    ids=range(12),
)
async def test_connection_answers_400_in_json_when_what_came_is_not_http(
    api: Api, data: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    """Neither the answer nor the log repeats what could not be parsed; the connection ends."""
    answer = await send(api, data)

    assert (answer.status, answer.error) == (400, "BAD_REQUEST")
    assert answer.headers["connection"] == "close"
    assert answer.headers["server"] == "zpmeow"
    assert "x-request-id" in answer.headers
    assert b"secret-key" not in answer.body
    assert "secret-key" not in caplog.text
    assert len(api.events.of(RequestStarted)) == len(api.events.of(RequestFinished)) == 1
    assert not api.events.of(RequestCrashed)


async def test_what_was_refused_is_let_go_at_once(api: Api) -> None:
    """Not by the garbage collector, which comes seldom: large nonsense would take as much memory as it likes."""
    nonsense = b"GET /" + b"x" * 100_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n"
    await send(api, nonsense)
    gc.collect()
    gc.disable()
    tracemalloc.start()
    try:
        for _ in range(30):
            assert (await send(api, nonsense)).status == 400
        kept_bytes, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
        gc.enable()

    assert kept_bytes < 10 * len(nonsense)


@pytest.mark.parametrize("target", ["*", "/nothing", "localhost:80"])
@pytest.mark.parametrize("method", ["OPTIONS", "CONNECT", "GET"])
async def test_odd_request_target_is_refused_in_json(api: Api, method: str, target: str) -> None:
    """No form of a request target gets past the table of routes."""
    answer = await send(api, f"{method} {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())

    assert answer.status in (400, 404, 405)
    assert answer.error in ("BAD_REQUEST", "NOT_FOUND", "METHOD_NOT_ALLOWED")


@pytest.mark.parametrize("target", ["http://evil.example/health", "http://evil.example:8080/health"])
async def test_keyless_service_answers_403_when_the_target_names_another_host(keyless_api: Api, target: str) -> None:
    """An absolute target cannot smuggle a foreign host past the Host header."""
    request = f"GET {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"

    assert (await send(keyless_api, request.encode())).status == 403


@pytest.mark.parametrize(
    "request_head",
    [
        "GET http://localhost/health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
        "GET http://[::1]:80/health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
        "GET /health HTTP/1.0\r\n\r\n",
    ],
)
async def test_keyless_service_answers_when_the_target_is_local_or_there_is_no_host(
    keyless_api: Api, request_head: str
) -> None:
    """An absolute target to this machine is fine, and so is HTTP/1.0, which needs no Host."""
    assert (await send(keyless_api, request_head.encode())).status == 200


async def test_connection_is_closed_when_a_head_trickles_in() -> None:
    """However many headers come one by one, the head's time ends; nothing is answered."""
    async with impatient_api() as api:
        reader, writer = await asyncio.open_connection("127.0.0.1", api.server.port)
        writer.write(b"GET /health HTTP/1.1\r\n")
        reading = asyncio.create_task(reader.read())
        while not reading.done():
            writer.write(b"X-Slow: 1\r\n")
            await asyncio.wait({reading}, timeout=0.02)

        assert _settled(reading) == b""
        writer.close()


async def test_connection_serves_when_a_head_comes_in_two_pieces() -> None:
    """A head that arrives within its time is a request like any other, and so is the next."""
    async with impatient_api() as api:
        reader, writer = await asyncio.open_connection("127.0.0.1", api.server.port)
        for _ in range(3):
            writer.write(b"GET /health HTTP/1.1\r\nHo")
            await asyncio.sleep(0.03)
            writer.write(b"st: localhost\r\n\r\n")
            assert (await reader.readuntil(b"}}}")).startswith(b"HTTP/1.1 200")
        # Longer than a head may take: an idle connection is no slow head.
        await asyncio.sleep(0.3)
        writer.write(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert (await reader.readuntil(b"}}}")).startswith(b"HTTP/1.1 200")
        writer.close()


@pytest.mark.parametrize("framing", [b"Content-Length: 100\r\n", b"Transfer-Encoding: chunked\r\n"])
async def test_request_answers_408_when_its_body_is_slow(framing: bytes) -> None:
    """A body that does not arrive in time ends the request and the connection."""
    async with impatient_api() as api:
        answer = await send(api, HEAD + b"Content-Type: application/json\r\n" + framing + b"\r\n")

        assert (answer.status, answer.error) == (408, "REQUEST_TIMEOUT")
        assert answer.headers["connection"] == "close"


async def test_others_are_served_while_many_connections_are_slow() -> None:
    """Slow heads and slow bodies hold up nobody else."""
    async with impatient_api() as api:
        slow = [await asyncio.open_connection("127.0.0.1", api.server.port) for _ in range(100)]
        for number, (_, writer) in enumerate(slow):
            body = b"Content-Type: application/json\r\nContent-Length: 9\r\n\r\n{"
            writer.write(HEAD + (body if number % 2 else b"X-Slow: "))

        statuses = [(await api.call("GET", "/sessions/list")).status for _ in range(20)]
        endings = [parse_or_nothing(await asyncio.wait_for(reader.read(), 10)) for reader, _ in slow]
        for _, writer in slow:
            writer.close()

        assert statuses == [200] * 20
        assert endings == [None, 408] * 50


def parse_or_nothing(data: bytes) -> int | None:
    """Return the status of an answer, None if nothing came."""
    return parse(data).status if data else None


async def test_body_is_invited_only_when_nothing_else_refuses_the_request(api: Api) -> None:
    """`Expect: 100-continue` saves a body that would be refused."""
    expecting = b"Content-Type: application/json\r\nContent-Length: 23\r\nExpect: 100-continue\r\n\r\n"
    reader, writer = await asyncio.open_connection("127.0.0.1", api.server.port)
    writer.write(HEAD + expecting)
    invitation = await reader.readuntil(b"\r\n\r\n")
    writer.write(b'{"name":"test-session"}')
    status = await reader.readline()
    writer.close()
    stranger_reader, stranger = await asyncio.open_connection("127.0.0.1", api.server.port)
    stranger.write(HEAD.replace(OPERATOR_KEY.encode(), b"junk") + expecting)
    refusal = await stranger_reader.readline()
    stranger.close()

    assert invitation == b"HTTP/1.1 100 Continue\r\n\r\n"
    assert status.startswith(b"HTTP/1.1 201")
    assert refusal.startswith(b"HTTP/1.1 401")


async def test_unknown_expectation_is_ignored(api: Api) -> None:
    """RFC 9110 lets a server serve what it does not understand to be expected."""
    reply = await api.call("GET", "/health", headers={"Expect": "the-unexpected"})
    unknown = await api.call("GET", "/nothing", headers={"Expect": "the-unexpected"})

    assert (reply.status, unknown.status) == (200, 404)


@pytest.mark.parametrize("chunk", [b"zz\r\n", b"-1\r\n", b"5\r\nabc", b"FFFFFFFFFFFFFFFFFF\r\n"])
async def test_request_answers_400_when_its_chunks_are_wrong(api: Api, chunk: bytes) -> None:
    """Wrong framing in the middle of a body is the caller's mistake, not a crash."""
    data = HEAD + b"Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n" + chunk + b"\r\nx\r\n\r\n"

    answer = await send(api, data)

    assert (answer.status, answer.error) == (400, "BAD_REQUEST")
    assert not api.events.of(RequestCrashed)


async def test_write_is_carried_through_when_the_client_hangs_up(api: Api) -> None:
    """A caller that goes away before the answer does not undo or halve its write."""
    entered, leave = asyncio.Event(), asyncio.Event()
    create = api.repository.create

    async def slow_create(new: NewSession) -> Snapshot:
        entered.set()
        await leave.wait()
        return await create(new)

    api.repository.create = slow_create  # type: ignore[method-assign]
    _, writer = await asyncio.open_connection("127.0.0.1", api.server.port)
    body = b'{"name":"test-session"}'
    writer.write(HEAD + b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
    await entered.wait()
    writer.transport.abort()
    await _until(lambda: True)
    leave.set()
    await _until(lambda: bool(api.events.of(RequestFinished)))

    assert (await api.call("GET", "/sessions/test-session/info")).status == 200


async def test_write_has_what_its_admission_left_of_the_time_for_the_database(api: Api) -> None:
    """Who waited for his key to be looked up does not wait as long again."""
    key = str((await api.call("POST", "/sessions/create", {"name": "test-session"})).data["api_key"])
    left: list[float] = []
    find, change_status = api.repository.find, api.repository.change_status

    async def slow_find(reference: SessionReference, entities: frozenset[Entity], **options: bool) -> Snapshot | None:
        left.append(patience_left(time.monotonic()))
        await asyncio.sleep(0.2)
        return await find(reference, entities, **options)

    async def watched_change(
        reference: SessionReference, decide: Callable[[StatusRecord], StatusChange], *, holder: UUID | None = None
    ) -> Snapshot:
        left.append(patience_left(time.monotonic()))
        return await change_status(reference, decide, holder=holder)

    api.repository.find = slow_find  # type: ignore[method-assign]
    api.repository.change_status = watched_change  # type: ignore[method-assign]
    ended = await api.call("POST", "/sessions/test-session/disconnect", key=key)

    assert ended.status == 200
    assert 4 < left[0] <= 5
    # Less what the loop may come early by: its clock counts whole milliseconds.
    assert left[-1] < left[0] - 0.19


async def test_client_that_hangs_up_in_its_body_crashes_nothing(api: Api) -> None:
    """Half a body is nobody's error but the caller's."""
    _, writer = await asyncio.open_connection("127.0.0.1", api.server.port)
    writer.write(HEAD + b"Content-Type: application/json\r\nContent-Length: 100\r\n\r\n{")
    await _until(lambda: bool(api.events.of(RequestStarted)))
    writer.transport.abort()
    await _until(lambda: bool(api.events.of(RequestFinished)))

    assert not api.events.of(RequestCrashed)


async def test_keys_of_any_bytes_are_refused_without_a_crash(api: Api) -> None:
    """Header bytes that are no text are a wrong key like any other."""
    keys = [b"\xff\xfe", b"\xed\xa0\x80" * 20, "ключ".encode() * 10, b"zpm_" + b"\xff" * 38, b"\x80" * 64, b"\t x \t"]
    for key in keys:
        for header in (b"X-API-Key: ", b"Authorization: ", b"Authorization: Bearer "):
            data = b"GET /sessions/x/info HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n" + header + key
            answer = await send(api, data + b"\r\n\r\n")

            assert (answer.status, answer.error) == (401, "UNAUTHORIZED")
    assert not api.events.of(RequestCrashed)


async def test_pipelined_requests_are_answered_in_order(api: Api) -> None:
    """Two requests at once get two answers; the second names its own id."""
    one = b"GET /health/live HTTP/1.1\r\nHost: localhost\r\nX-Request-ID: one\r\n\r\n"
    two = b"GET /health/live HTTP/1.1\r\nHost: localhost\r\nX-Request-ID: two\r\nConnection: close\r\n\r\n"

    first = await send(api, one + two)
    second = parse(first.rest)

    assert (first.headers["x-request-id"], second.headers["x-request-id"]) == ("one", "two")


async def test_random_bytes_crash_nothing(api: Api) -> None:
    """Whatever bytes come in, in whatever mixture with real requests, the service answers or hangs up, and lives."""
    random = Random(20261124)
    pieces = [
        b"GET ", b"POST ", b"/sessions/create", b"/sessions/x/info", b" HTTP/1.1\r\n", b"Host: localhost\r\n",
        b"Content-Length: 5\r\n", b"Transfer-Encoding: chunked\r\n", b"Connection: upgrade\r\nUpgrade: x\r\n",
        b"Expect: 100-continue\r\n", b"Accept: ;q=,\r\n", b"If-None-Match: W/\r\n", b"X-API-Key: \xff\r\n",
        b"Content-Type: application/json\r\n", b"Range: bytes=0-\r\n", b"\r\n", b"\r\n\r\n", b"5\r\nabcde\r\n0\r\n\r\n",
        f"X-API-Key: {OPERATOR_KEY}\r\n".encode(),
    ]  # fmt: skip
    for _ in range(300):
        data = b"".join(
            random.choice(pieces) if random.random() < 0.9 else random.randbytes(random.randrange(20))
            for _ in range(random.randrange(1, 15))
        )
        reader, writer = await asyncio.open_connection("127.0.0.1", api.server.port)
        writer.write(data)
        writer.write_eof()
        answered = await asyncio.wait_for(reader.read(), 10)
        writer.close()

        assert answered == b"" or answered.startswith(b"HTTP/1.")
        assert not re.search(rb"^HTTP/1.. 5", answered, re.MULTILINE)

    assert not api.events.of(RequestCrashed)
    assert (await api.call("GET", "/sessions/list")).status == 200


async def _until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110  (the condition is another task's list)
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.01)


def _settled(reading: "asyncio.Task[bytes]") -> bytes:
    try:
        return reading.result()
    except ConnectionResetError:
        return b""
