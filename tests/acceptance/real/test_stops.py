"""The service's end, in order and by force, and what comes after it."""

import asyncio
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.acceptance.real.caller import OPERATOR_KEY
from tests.acceptance.real.conftest import MakeCaller, MakeService
from tests.servers.redis_server import RedisServer
from tests.servers.service import Service

CLIENTS = 20


@dataclass(slots=True)
class KeepAliveClient:
    """Sends one request after the other on a kept connection, and makes a new one when an answer says so.

    It never sends anything twice, unlike a client library, so each request that got no answer shows. It ends when a
    new connection is refused: that is how a service that has stopped looks.
    """

    port: int
    session: str
    answered: int = 0
    failures: list[str] = field(default_factory=list)

    async def run(self) -> None:
        """Send until the port is closed."""
        while True:
            try:
                reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
            except ConnectionRefusedError:
                return
            try:
                while await self._send_one(reader, writer):  # noqa: ASYNC110  (a pause between requests)
                    await asyncio.sleep(0.01)
            except (OSError, asyncio.IncompleteReadError) as error:
                self.failures.append(repr(error))
            finally:
                writer.close()

    async def _send_one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        writes = self.answered % 5 == 4
        body = (
            b'{"webhook": {"url": "https://hooks.test/%d", "events": ["message"]}}' % self.answered if writes else b""
        )
        method, suffix = ("PATCH", "") if writes else ("GET", "/info")
        head = f"{method} /sessions/{self.session}{suffix} HTTP/1.1\r\nHost: localhost\r\nX-API-Key: {OPERATOR_KEY}\r\n"
        if writes:
            head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
        writer.write(head.encode() + b"\r\n" + body)
        answer = (await reader.readuntil(b"\r\n\r\n")).lower()
        await reader.readexactly(int(answer.partition(b"content-length: ")[2].partition(b"\r\n")[0]))
        if not answer.startswith(b"http/1.1 200"):
            self.failures.append(answer.decode())
        self.answered += 1
        return b"connection: close" not in answer


async def test_sigterm_under_load_fails_no_request(
    redis_server: RedisServer, database_url: str, new_service: MakeService, new_caller: MakeCaller
) -> None:
    """Every request that was sent is answered with 200, and the process ends with 0."""
    service = new_service(DATABASE_URL=database_url, REDIS_URL=redis_server.url).start()
    sessions = await new_caller(service).create_many(CLIENTS)
    clients = [KeepAliveClient(service.port, session.id) for session in sessions]
    running = [asyncio.create_task(client.run()) for client in clients]
    await asyncio.sleep(0.7)

    service.terminate()
    code = await asyncio.to_thread(service.wait_ended)
    await asyncio.wait_for(asyncio.gather(*running), 10)
    said = service.messages()
    last_lines = service.lines[next(n for n, text in enumerate(said) if text.startswith("Stopping")) :]

    assert code == 0
    assert [line for line in last_lines if line["level"] != "info"] == []
    assert [client.failures for client in clients] == [[]] * CLIENTS
    assert min(client.answered for client in clients) > 1
    assert service.errors == ""
    assert service.messages("service")[-1] == "Stopped"


async def test_sigterm_during_the_wait_for_the_database_ends_in_order(
    redis_server: RedisServer, new_service: MakeService
) -> None:
    """A service that never became ready can be stopped like any other."""
    service = new_service(DATABASE_URL="postgresql://nobody@127.0.0.1:1/none", REDIS_URL=redis_server.url)
    service.spawn()
    service.wait_until(lambda: service.get_status("/health/live") == 200, "alive")

    assert await asyncio.to_thread(service.stop) == 0


@pytest.mark.parametrize("redis_is_back", ["before the stop", "after the stop"])
async def test_next_service_finds_nothing_old_when_redis_missed_a_change(
    redis_is_back: str, own_redis: RedisServer, database_url: str, new_service: MakeService, new_caller: MakeCaller
) -> None:
    """A change that Redis missed reaches it at the stop, or else all of its entries are void from then on."""
    settings = {"DATABASE_URL": database_url, "REDIS_URL": own_redis.url}
    # So long that the service has not yet tried Redis again when it is stopped; so it must succeed when it tries first.
    service = new_service(BREAKER_PROBE_INTERVAL="5m", CACHE_TIMEOUT="250ms", **settings).start()
    caller = new_caller(service)
    await caller.create("test-session")
    await caller.until_hits("/sessions/test-session/info")

    own_redis.pause()
    for _ in range(6):
        assert (await caller.get("/sessions/test-session/info")).status == 200
    proxy = {"proxy_url": "http://new.test:1080"}
    assert (await caller.call("PATCH", "/sessions/test-session", proxy)).status == 200
    assert service.metrics().total("zpmeow_breaker_state", state="open") == 1
    if redis_is_back == "before the stop":
        own_redis.resume()
    code = await asyncio.to_thread(service.stop)
    if redis_is_back == "after the stop":
        own_redis.resume()
    next_service = new_service(**settings).start()
    next_caller = new_caller(next_service)
    await next_caller.until("trusted", next_caller.is_trusted)
    found = await next_caller.get("/sessions/test-session/info")

    assert code == 0
    assert found.data["session"]["proxy_url"] == "http://new.test:1080"


@pytest.fixture
def data_folder() -> Iterator[Path]:
    """A folder that the account of embedded servers can enter (pytest's own is closed to all but its user)."""
    folder = Path(tempfile.mkdtemp(prefix="zpmeow-data-"))
    folder.chmod(0o755)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def check_is_one_line(service: Service, *words: str) -> None:
    """Fail unless the service said why it did not start, in one line."""
    assert len(service.errors.splitlines()) == 1, service.errors
    for word in words:
        assert word in service.errors
    assert "Traceback" not in service.output


async def test_embedded_servers_outlive_a_killed_service_and_refuse_a_second_one(
    data_folder: Path, database_url: str, redis_server: RedisServer, new_service: MakeService, new_caller: MakeCaller
) -> None:
    """A second start says what is taken; after kill -9 the next start has all data; a stop leaves nothing behind."""
    settings = {"ZPMEOW_DATA_DIR": str(data_folder)}
    service = new_service(**settings).start()
    session = await new_caller(service).create("test-session")
    same_folder = new_service(**settings)
    same_port = new_service(DATABASE_URL=database_url, REDIS_URL=redis_server.url, SERVER_PORT=str(service.port))

    codes = [await asyncio.to_thread(other.run, "serve") for other in (same_folder, same_port)]
    service.kill()
    await asyncio.to_thread(service.start)
    found = await new_caller(service).get("/sessions/test-session/info", key=session.key)
    end = await asyncio.to_thread(service.stop)

    assert codes == [1, 1]
    check_is_one_line(same_folder, str(data_folder), "in use")
    check_is_one_line(same_port, f"port {service.port}", "taken")
    assert (found.status, found.data["session"]["id"]) == (200, session.id)
    assert end == 0
    assert service.errors == ""
    assert processes_of(data_folder) == []


def processes_of(folder: Path) -> list[str]:
    """List the command lines of running processes that name this folder."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            except OSError:
                continue  # It ended while the list was read.
            if str(folder) in line:
                found.append(line)
    return found
