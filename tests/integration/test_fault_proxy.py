"""The fault proxy: what it does to bytes, to connections, and to new ones."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from typing import TypeAlias, cast

import pytest

from tests.servers.fault_proxy import HELD, Admission, Effect, FaultProxy, Impairment

Streams: TypeAlias = tuple[asyncio.StreamReader, asyncio.StreamWriter]
Connect: TypeAlias = Callable[[], Awaitable[Streams]]
PATIENCE_SECONDS = 5.0
LINE_BYTES = 50


class ChunkWatcher(asyncio.Protocol):
    """One end of a connection, which remembers the chunks that come; `answer` is sent after a whole line."""

    def __init__(self, *, answer: bytes = b"") -> None:
        """Prepare."""
        self._answer = answer
        self._transport: asyncio.Transport | None = None
        self.chunks: list[bytes] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        # uvloop's transports are no subclasses of asyncio's.
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Remember, and answer."""
        assert self._transport is not None
        self.chunks.append(data)
        if data.endswith(b"\n") and self._answer:
            self._transport.write(self._answer)

    async def until_line(self) -> bytes:
        """Wait for the end of a line; return all that came."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not (got := b"".join(self.chunks)).endswith(b"\n"):  # noqa: ASYNC110  (the proxy is a few turns away)
                await asyncio.sleep(0)
        return got


class EchoServer:
    """Answers every line with its name and the line; remembers the lines."""

    def __init__(self, name: str) -> None:
        """Prepare."""
        self._name = name.encode()
        self.lines: list[bytes] = []
        self.has_ended = False
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
            self.has_ended = True
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
async def proxy(server: EchoServer) -> AsyncIterator[FaultProxy]:
    """A proxy that leads to the server."""
    proxy = FaultProxy(target_port=server.port)
    await proxy.open()
    yield proxy
    proxy.close()


@pytest.fixture
async def connect(proxy: FaultProxy) -> AsyncIterator[Connect]:
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


@pytest.mark.parametrize(
    "impairment",
    [
        Impairment(),
        Impairment(latency_seconds=0.005, jitter_seconds=0.005),
        Impairment(stuck_ratio=0.5, stuck_seconds=(0.0, 0.01)),
        Impairment(slice_bytes=1),
        Impairment(bytes_per_second=5000.0),
    ],
    ids=["none", "latency", "stuck", "slices", "bandwidth"],
)
@pytest.mark.parametrize("direction", ["up", "down"])
async def test_lines_arrive_whole_and_in_order_when_the_way_is_only_slow(
    proxy: FaultProxy, connect: Connect, impairment: Impairment, direction: str
) -> None:
    """Whatever takes time changes nothing but the time."""
    proxy.impair(**{direction: impairment})
    reader, writer = await connect()
    lines = [b"line %d of some length\n" % number for number in range(20)]

    writer.write(b"".join(lines[:10]))
    for line in lines[10:]:
        writer.write(line)
        await asyncio.sleep(0)

    async with asyncio.timeout(PATIENCE_SECONDS):
        assert [await reader.readline() for _ in lines] == [b"first " + line for line in lines]
    assert {effect for effect, many in proxy.effects.items() if many} == impairment.effects


@pytest.mark.parametrize("direction", ["up", "down"])
@pytest.mark.parametrize(
    ("impairment", "largest_bytes"),
    [
        (Impairment(), LINE_BYTES),
        (Impairment(slice_bytes=1, sliced_ratio=0.0), LINE_BYTES),
        (Impairment(slice_bytes=1), 1),
        (Impairment(slice_bytes=7), 7),
    ],
    ids=["none", "ratio of none", "one byte", "seven bytes"],
)
async def test_peer_gets_slices_when_the_way_slices(impairment: Impairment, largest_bytes: int, direction: str) -> None:
    """What was one chunk comes in chunks of the size that was asked for; the other direction's stays one."""
    line = b"x" * (LINE_BYTES - 1) + b"\n"
    server, client = ChunkWatcher(answer=line), ChunkWatcher()
    loop = asyncio.get_running_loop()
    listener = await loop.create_server(lambda: server, "127.0.0.1", 0)
    proxy = FaultProxy(target_port=listener.sockets[0].getsockname()[1])
    await proxy.open()
    proxy.impair(**{direction: impairment})
    transport, _ = await loop.create_connection(lambda: client, "127.0.0.1", proxy.port)

    transport.write(line)
    got = await client.until_line()

    transport.close()
    proxy.close()
    listener.close()
    impaired, other = (server, client) if direction == "up" else (client, server)
    assert (got, b"".join(server.chunks), other.chunks) == (line, line, [line])
    assert [len(chunk) for chunk in impaired.chunks[:-1]] == [largest_bytes] * ((LINE_BYTES - 1) // largest_bytes)
    assert proxy.effects[Effect.SLICED] == (largest_bytes < LINE_BYTES)


async def test_answer_comes_late_when_the_way_has_a_latency(proxy: FaultProxy, connect: Connect) -> None:
    """A latency is the least that a chunk takes; each direction has its own."""
    proxy.impair(up=Impairment(latency_seconds=0.1), down=Impairment(latency_seconds=0.1))
    streams = await connect()
    began = asyncio.get_running_loop().time()

    assert await ask(streams, b"one\n") == b"first one\n"

    # Less what the loop may come early by: its clock counts whole milliseconds.
    assert asyncio.get_running_loop().time() - began >= 0.19


async def test_answer_takes_its_time_when_the_bandwidth_is_small(proxy: FaultProxy, connect: Connect) -> None:
    """So many bytes a second, no more."""
    proxy.impair(down=Impairment(bytes_per_second=500.0))
    streams = await connect()
    began = asyncio.get_running_loop().time()

    assert len(await ask(streams, b"%s\n" % (b"x" * 93))) == 100

    # The last portion of 10 bytes is sent when the time of those before it is over.
    assert asyncio.get_running_loop().time() - began >= 0.17


async def test_one_bit_differs_when_the_way_corrupts(proxy: FaultProxy, connect: Connect, server: EchoServer) -> None:
    """A corrupted chunk has its length, and one bit that is another one."""
    proxy.impair(down=Impairment(corrupted_ratio=1.0))
    reader, writer = await connect()
    wanted = b"first some words\n"

    writer.write(b"some words\n")

    async with asyncio.timeout(PATIENCE_SECONDS):
        got = await reader.readexactly(len(wanted))
    assert sum((one ^ other).bit_count() for one, other in zip(got, wanted, strict=True)) == 1
    assert server.lines == [b"some words\n"]
    assert proxy.effects[Effect.CORRUPTED] == 1


async def test_connection_is_reset_in_the_middle_when_an_answer_is_torn(proxy: FaultProxy, connect: Connect) -> None:
    """Half of the answer arrives, then both connections are gone; the next one works when the way is whole again."""
    proxy.impair(down=Impairment(torn_ratio=1.0))
    reader, writer = await connect()

    writer.write(b"four words are here\n")

    with pytest.raises(ConnectionResetError):
        async with asyncio.timeout(PATIENCE_SECONDS):
            await reader.readexactly(1000)
    assert not proxy.pairs
    assert proxy.effects[Effect.TORN] == 1
    proxy.impair()
    assert await ask(await connect(), b"after\n") == b"first after\n"


async def test_nothing_comes_after_the_tear_when_the_way_is_slow_besides(proxy: FaultProxy, connect: Connect) -> None:
    """What is sent while half of a torn answer is still under way is no part of what arrives."""
    proxy.impair(down=Impairment(torn_ratio=1.0, latency_seconds=0.05))
    reader, writer = await connect()

    writer.write(b"four words are here\n")
    await asyncio.sleep(0.01)
    writer.write(b"and some more\n")

    got = b""
    with suppress(ConnectionResetError):
        async with asyncio.timeout(PATIENCE_SECONDS):
            while byte := await reader.read(1):
                got += byte
    assert got == b"first four words are here\n"[:13]


async def test_client_may_go_on_sending_when_the_way_down_is_closed(
    proxy: FaultProxy, connect: Connect, server: EchoServer
) -> None:
    """The client is told the end; what it sends still arrives."""
    streams = await connect()
    assert await ask(streams, b"before\n") == b"first before\n"

    proxy.half_close(down=True)

    assert await ask(streams, b"after the end\n") == b""
    await server.until_line(b"after the end\n")
    assert not server.has_ended
    proxy.half_close(down=True)
    assert await ask(streams, b"once more\n") == b""
    assert proxy.effects[Effect.CLOSED_DOWN] == 1


async def test_server_may_go_on_sending_when_the_way_up_is_closed(
    proxy: FaultProxy, connect: Connect, server: EchoServer
) -> None:
    """The server is told the end and nothing more; what it has still to say arrives, and then its own end does."""
    proxy.impair(down=Impairment(latency_seconds=0.1))
    reader, writer = await connect()
    writer.write(b"before\n")
    await server.until_line(b"before\n")

    proxy.half_close(up=True)
    writer.write(b"after the end\n")

    async with asyncio.timeout(PATIENCE_SECONDS):
        assert await reader.read() == b"first before\n"
    assert server.has_ended
    assert server.lines == [b"before\n"]
    assert proxy.effects[Effect.CLOSED_UP] == 1


async def test_new_connection_leads_nowhere_and_old_ones_work_when_new_ones_are_held(
    proxy: FaultProxy, connect: Connect, server: EchoServer
) -> None:
    """A blackhole for new connections alone; what they sent arrives when it ends."""
    old = await connect()
    assert await ask(old, b"before\n") == b"first before\n"
    await proxy.admit(Admission.HOLD)

    asking = asyncio.create_task(ask(await connect(), b"new\n"))

    assert await ask(old, b"old\n") == b"first old\n"
    assert b"new\n" not in server.lines
    await proxy.admit(Admission.PASS)
    assert await asking == b"first new\n"
    assert proxy.effects[Effect.UNANSWERED] == 1


async def test_line_arrives_late_when_it_was_held_and_its_sender_has_gone(
    proxy: FaultProxy, connect: Connect, server: EchoServer
) -> None:
    """A command that timed out is run when the way is free again."""
    streams = await connect()
    assert await ask(streams, b"before\n") == b"first before\n"
    proxy.impair(up=HELD, down=HELD)
    streams[1].write(b"held\n")
    streams[1].close()
    await streams[1].wait_closed()
    assert server.lines == [b"before\n"]

    proxy.impair()

    await server.until_line(b"held\n")
    assert proxy.effects[Effect.HELD] == 1


async def test_connection_made_while_held_works_when_the_way_is_free_again(proxy: FaultProxy, connect: Connect) -> None:
    """Nobody is told that the way is held, not even who connects."""
    proxy.impair(up=HELD, down=HELD)
    streams = await connect()
    asking = asyncio.create_task(ask(streams, b"held\n"))

    proxy.impair()

    assert await asking == b"first held\n"


async def test_connections_are_refused_and_cut_when_the_way_is_closed_and_work_when_it_is_open(
    proxy: FaultProxy,
    connect: Connect,
) -> None:
    """The port stays the proxy's own in between."""
    streams = await connect()
    assert await ask(streams, b"before\n") == b"first before\n"

    await proxy.admit(Admission.REFUSE)
    proxy.cut()

    assert await ask(streams, b"cut\n") == b""
    assert proxy.effects[Effect.CUT] == 1
    with pytest.raises(ConnectionRefusedError):
        await connect()
    await proxy.admit(Admission.PASS)
    assert await ask(await connect(), b"after\n") == b"first after\n"


async def test_connection_leads_nowhere_and_new_ones_work_when_it_is_stranded(
    proxy: FaultProxy, connect: Connect, server: EchoServer
) -> None:
    """A blackhole for the connections that are there alone: nothing that they send arrives, not even late."""
    stranded = await connect()
    assert await ask(stranded, b"before\n") == b"first before\n"

    proxy.strand()
    stranded[1].write(b"into the void\n")

    assert await ask(await connect(), b"after\n") == b"first after\n"
    stranded[1].close()
    async with asyncio.timeout(PATIENCE_SECONDS):
        while len(proxy.pairs) > 1:  # noqa: ASYNC110  (the proxy has to notice, a few turns of the loop away)
            await asyncio.sleep(0)
    assert b"into the void\n" not in server.lines
    assert proxy.effects[Effect.LOST] == 1


async def test_new_connections_lead_to_another_server_when_retargeted(proxy: FaultProxy, connect: Connect) -> None:
    """Another server takes the place at the same address, and old connections are cut."""
    other = EchoServer("second")
    await other.open()
    streams = await connect()
    assert await ask(streams, b"before\n") == b"first before\n"

    proxy.retarget(other.port)

    assert await ask(streams, b"cut\n") == b""
    assert await ask(await connect(), b"after\n") == b"second after\n"
    other.close()
