"""The start and the stop of the server: nobody who behaves loses a request."""

import asyncio
import socket
from dataclasses import dataclass, field

import aiohttp
import pytest

from tests.acceptance.api import OPERATOR_KEY, Api, running_api
from zpmeow.api.server import ListenError, PortTakenError
from zpmeow.domain.ports import NewSession
from zpmeow.domain.records import Snapshot
from zpmeow.events import RequestFinished, RequestStarted

REQUEST = f"GET /sessions/test-session/info HTTP/1.1\r\nHost: localhost\r\nX-API-Key: {OPERATOR_KEY}\r\n\r\n".encode()


@dataclass(slots=True)
class Client:
    """Sends one request after the other on a kept connection, and makes a new one when it is told to.

    It ends when a new connection is refused: that is how a service that has stopped looks.
    """

    port: int
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
                while await self._send_one(reader, writer):
                    pass
            except (OSError, asyncio.IncompleteReadError) as error:
                self.failures.append(repr(error))
            finally:
                writer.close()

    async def _send_one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        writer.write(REQUEST)
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        length = int(head.partition(b"content-length: ")[2].partition(b"\r\n")[0])
        await reader.readexactly(length)
        if not head.startswith(b"http/1.1 200"):
            self.failures.append(head.decode())
        self.answered += 1
        await asyncio.sleep(0.002)
        return b"connection: close" not in head


async def test_stop_under_load_fails_no_request() -> None:
    """Clients on kept connections get every answer; only connections after the port closed are refused."""
    async with running_api() as api:
        await api.create()
        clients = [Client(api.server.port) for _ in range(50)]
        running = [asyncio.create_task(client.run()) for client in clients]
        await asyncio.sleep(0.3)

        await api.server.stop(drain_seconds=5)
        await asyncio.wait_for(asyncio.gather(*running), 10)

        assert [client.failures for client in clients] == [[]] * 50
        assert all(client.answered for client in clients)


async def test_stop_waits_for_a_running_request() -> None:
    """A write that runs when the stop begins is answered, and its connection closed."""
    async with running_api() as api:
        entered, leave = hold_creations(api)
        call = asyncio.create_task(api.call("POST", "/sessions/create", {"name": "test-session"}))
        await entered.wait()

        stop = asyncio.create_task(api.server.stop(drain_seconds=10))
        await asyncio.sleep(0.05)
        leave.set()
        reply = await call
        await stop

        assert reply.status == 201
        assert reply.headers["Connection"] == "close"


async def test_stop_cancels_what_outlasts_its_patience() -> None:
    """A request that never ends does not keep the service from ending; it still counts as finished."""
    async with running_api() as api:
        entered, _ = hold_creations(api)
        call = asyncio.create_task(api.call("POST", "/sessions/create", {"name": "test-session"}))
        await entered.wait()

        await api.server.stop(drain_seconds=0.1)

        with pytest.raises(aiohttp.ClientError):
            await call
        assert len(api.events.of(RequestStarted)) == len(api.events.of(RequestFinished)) == 1


async def test_second_stop_waits_for_the_first() -> None:
    """Stopping twice, at once or later, is stopping."""
    async with running_api() as api:
        await asyncio.gather(api.server.stop(0.1), api.server.stop(0.1))
        await api.server.stop(0.1)

        with pytest.raises(aiohttp.ClientConnectorError):
            await api.call("GET", "/health")


async def test_cancelled_stop_still_ends_the_server() -> None:
    """Whoever loses patience with the stop gets it at once, not halfway."""
    async with running_api() as api:
        entered, _ = hold_creations(api)
        call = asyncio.create_task(api.call("POST", "/sessions/create", {"name": "test-session"}))
        await entered.wait()
        stop = asyncio.create_task(api.server.stop(drain_seconds=60))
        await asyncio.sleep(0.05)

        stop.cancel()

        with pytest.raises(asyncio.CancelledError):
            await stop
        await api.server.stop()
        with pytest.raises(aiohttp.ClientError):
            await call


async def test_idle_connections_do_not_hold_up_the_stop() -> None:
    """Connections that nobody uses are closed after a moment."""
    async with running_api() as api:
        idle = [await asyncio.open_connection("127.0.0.1", api.server.port) for _ in range(5)]

        await asyncio.wait_for(api.server.stop(drain_seconds=60), 10)

        assert [await reader.read() for reader, _ in idle] == [b""] * 5
        for _, writer in idle:
            writer.close()


async def test_open_server_names_the_port_when_it_is_taken(api: Api) -> None:
    """The refusal of a start says which port, and that someone listens there."""
    with pytest.raises(PortTakenError, match=f"port {api.server.port} on 127.0.0.1 is taken"):
        async with running_api(port=api.server.port):
            pass


@pytest.mark.parametrize("host", ["203.0.113.1", "no-such-host.invalid"])
async def test_open_server_says_why_when_the_address_cannot_be_used(host: str) -> None:
    """An address of another machine, or of none, is told as such."""
    with pytest.raises(ListenError, match=f"cannot listen on {host}"):
        async with running_api(host=host):
            pass


async def test_port_is_free_again_after_the_stop() -> None:
    """A restart finds the port of the service that it follows."""
    async with running_api() as api:
        port = api.server.port
        await api.call("GET", "/health")
        await api.server.stop(0.1)

        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))


def hold_creations(api: Api) -> tuple[asyncio.Event, asyncio.Event]:
    """Make creations wait; return the events that tell of one and that let it go on."""
    entered, leave = asyncio.Event(), asyncio.Event()

    async def held(new: NewSession) -> Snapshot:
        entered.set()
        await leave.wait()
        return await create(new)

    create = api.repository.create
    api.repository.create = held  # type: ignore[method-assign]
    return entered, leave
