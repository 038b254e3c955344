"""The proxy: what goes through, what is held, what is refused."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from typing import TypeAlias

import pytest

from tests.coherence.tcp_proxy import TcpProxy, Way

Streams: TypeAlias = tuple[asyncio.StreamReader, asyncio.StreamWriter]
Connect: TypeAlias = Callable[[], Awaitable[Streams]]
PATIENCE_SECONDS = 5.0


class EchoServer:
    """Answers every line with its name and the line; remembers the lines."""

    def __init__(self, name: str) -> None:
        """Prepare."""
        self._name = name.encode()
        self.lines: list[bytes] = []
        self.port = 0
        self._server: asyncio.Server | None = None

    async def open(self) -> None:
        """Listen."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    def close(self) -> None:
        """Stop to listen."""
        assert self._server is not None
        self._server.close()

    async def until_line(self, line: bytes) -> None:
        """Wait for a line."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while line not in self.lines:  # noqa: ASYNC110  (the server of a test, a few turns of the loop away)
                await asyncio.sleep(0)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while line := await reader.readline():
                self.lines.append(line)
                writer.write(self._name + b" " + line)
        except ConnectionError:
            pass
        finally:
            writer.close()


@pytest.fixture
async def server() -> AsyncIterator[EchoServer]:
    """A server behind the proxy."""
    server = EchoServer("first")
    await server.open()
    yield server
    server.close()


@pytest.fixture
async def proxy(server: EchoServer) -> AsyncIterator[TcpProxy]:
    """A proxy that leads to the server."""
    proxy = TcpProxy(target_port=server.port)
    await proxy.open()
    yield proxy
    proxy.close()


@pytest.fixture
async def connect(proxy: TcpProxy) -> AsyncIterator[Connect]:
    """Connect to the proxy, as often as wanted."""
    made: list[Streams] = []

    async def connect_once() -> Streams:
        made.append(await asyncio.open_connection("127.0.0.1", proxy.port))
        return made[-1]

    yield connect_once
    for _, writer in made:
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()


async def ask(streams: Streams, line: bytes) -> bytes:
    """Send a line; return the answer, empty if the connection ended."""
    reader, writer = streams
    writer.write(line)
    async with asyncio.timeout(PATIENCE_SECONDS):
        try:
            return await reader.readline()
        except ConnectionError:
            return b""


@pytest.mark.parametrize("way", [Way.PASS, Way.SLOW])
async def test_lines_arrive_in_order_when_the_way_is_open(proxy: TcpProxy, connect: Connect, way: Way) -> None:
    """An open way changes nothing but the time."""
    await proxy.set_way(way)
    streams = await connect()

    answers = [await ask(streams, line) for line in (b"one\n", b"two\n")]

    assert answers == [b"first one\n", b"first two\n"]


async def test_line_arrives_late_when_it_was_held_and_its_sender_has_gone(
    proxy: TcpProxy, connect: Connect, server: EchoServer
) -> None:
    """A command that timed out is run when the way is free again."""
    streams = await connect()
    assert await ask(streams, b"before\n") == b"first before\n"
    await proxy.set_way(Way.HOLD)
    streams[1].write(b"held\n")
    streams[1].close()
    await streams[1].wait_closed()
    assert server.lines == [b"before\n"]

    await proxy.set_way(Way.PASS)

    await server.until_line(b"held\n")


async def test_connection_made_while_held_works_when_the_way_is_free_again(proxy: TcpProxy, connect: Connect) -> None:
    """Nobody is told that the way is held, not even who connects."""
    await proxy.set_way(Way.HOLD)
    streams = await connect()
    asking = asyncio.create_task(ask(streams, b"held\n"))

    await proxy.set_way(Way.PASS)

    assert await asking == b"first held\n"


async def test_connections_are_refused_and_cut_when_the_way_is_closed_and_work_when_it_is_open(
    proxy: TcpProxy,
    connect: Connect,
) -> None:
    """The port stays the proxy's own in between."""
    streams = await connect()
    assert await ask(streams, b"before\n") == b"first before\n"

    await proxy.set_way(Way.REFUSE)

    assert await ask(streams, b"cut\n") == b""
    with pytest.raises(ConnectionRefusedError):
        await connect()
    await proxy.set_way(Way.PASS)
    assert await ask(await connect(), b"after\n") == b"first after\n"


async def test_new_connections_lead_to_another_server_when_retargeted(proxy: TcpProxy, connect: Connect) -> None:
    """Another server takes the place at the same address, and old connections are cut."""
    other = EchoServer("second")
    await other.open()
    streams = await connect()
    assert await ask(streams, b"before\n") == b"first before\n"

    proxy.retarget(other.port)

    assert await ask(streams, b"cut\n") == b""
    assert await ask(await connect(), b"after\n") == b"second after\n"
    other.close()
