"""The small HTTP client: answers in pieces, closed connections, losses, callers that hang up."""

import asyncio
from collections.abc import AsyncIterator, Sequence

import pytest

from tests.coherence.http_client import ConnectionLostError, HttpClient, Request

ASK = Request(method="GET", path="/sessions/x/info", key="k")
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nCache-Status: zpmeow-redis; hit\r\n\r\n{}"


class ScriptedServer:
    """Answers each request with the next pieces of its script; no pieces: it ends the connection."""

    def __init__(self, script: Sequence[Sequence[bytes]]) -> None:
        """Follow the script, whatever is asked."""
        self._script = list(script)
        self.requests: list[bytes] = []
        self.connections = 0
        self.asked = asyncio.Event()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection."""
        self.connections += 1
        try:
            while self._script:
                self.requests.append(await reader.readuntil(b"\r\n\r\n"))
                self.asked.set()
                pieces = self._script.pop(0)
                if not pieces:
                    break
                for piece in pieces:
                    writer.write(piece)
                    await writer.drain()
                    await asyncio.sleep(0)
            else:
                await reader.read()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


async def serve(script: Sequence[Sequence[bytes]]) -> tuple[ScriptedServer, asyncio.Server, HttpClient]:
    """Start a server and make a client of it."""
    scripted = ScriptedServer(script)
    server = await asyncio.start_server(scripted.serve, "127.0.0.1", 0)
    return scripted, server, HttpClient(server.sockets[0].getsockname()[1])


@pytest.fixture
async def two_answers() -> AsyncIterator[tuple[ScriptedServer, HttpClient]]:
    """A server with one answer in pieces and one whole, and its client."""
    scripted, server, client = await serve([[OK[:10], OK[10:60], OK[60:]], [OK]])
    yield scripted, client
    client.close()
    server.close()


async def test_answers_are_read_whole_over_one_connection_when_they_come_in_pieces(
    two_answers: tuple[ScriptedServer, HttpClient],
) -> None:
    """Where the network cuts an answer does not matter."""
    scripted, client = two_answers

    answers = [await client.ask(ASK), await client.ask(ASK)]

    assert [(one.status, one.cache_status, one.body) for one in answers] == [(200, "zpmeow-redis; hit", b"{}")] * 2
    assert scripted.connections == 1
    assert scripted.requests[0] == b"GET /sessions/x/info HTTP/1.1\r\nHost: 127.0.0.1\r\nX-API-Key: k\r\n\r\n"


async def test_next_request_takes_a_new_connection_when_the_answer_closed_the_old_one() -> None:
    """`Connection: close` is obeyed."""
    closing = b"HTTP/1.1 503 Away\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
    scripted, server, client = await serve([[closing], [OK]])

    answers = [await client.ask(ASK), await client.ask(ASK)]

    assert [one.status for one in answers] == [503, 200]
    assert scripted.connections == 2
    client.close()
    server.close()


async def test_request_is_lost_when_the_connection_ends_before_the_answer() -> None:
    """Nobody sends it again: whether that may be is the caller's to judge."""
    scripted, server, client = await serve([[], [OK]])

    with pytest.raises(ConnectionLostError):
        await client.ask(ASK)

    assert (await client.ask(ASK)).status == 200
    assert scripted.connections == 2
    client.close()
    server.close()


async def test_next_request_takes_a_new_connection_when_the_caller_hung_up() -> None:
    """An answer that nobody waited for is not taken for the next one."""
    scripted, server, client = await serve([[OK[:20]], [OK]])
    asking = asyncio.create_task(client.ask(ASK))
    await scripted.asked.wait()

    asking.cancel()
    await asyncio.wait([asking])

    assert (await client.ask(ASK)).status == 200
    assert scripted.connections == 2
    client.close()
    server.close()
