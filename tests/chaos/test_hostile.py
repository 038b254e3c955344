"""Hostile clients: what became of their work is counted, and a crowd that gets no connection ends the run."""

import asyncio
import errno
import socket
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any, cast

import pytest

from deploy.chaos.harness.hostile import Rounds, connect, connected, crowd, demand
from tests.coherence.world import World
from tests.servers.processes import ServerFailedError, free_port

LONG_SECONDS = 30.0
"""Longer than any of these crowds is to last: it is ended by what it meets."""

SHORT_SECONDS = 0.2

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Coroutine[Any, Any, None]]


class EnoughError(Exception):
    """What ends a crowd in a test as soon as there is something to look at."""


def world_of(*ports: int) -> World:
    """Make a world of which only the ports of its services are known."""
    services = {str(port): SimpleNamespace(port=port) for port in ports}
    return cast("World", SimpleNamespace(services=services))


@asynccontextmanager
async def served(serve: Serve) -> AsyncIterator[int]:
    """Serve each connection like this while the block runs; return the port."""
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer whatever comes, line by line."""
    while line := await reader.readline():
        writer.write(line)
    writer.close()


async def end_at_once(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """End the connection."""
    writer.close()


async def say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Take all and answer nothing."""
    await reader.read()
    writer.close()


async def ask(port: int) -> None:
    """Send a line and wait for its echo."""
    async with connected(port) as (reader, writer):
        writer.write(b"hello\n")
        await reader.readuntil(b"\n")


class Watched:
    """Does a round, and fails once so many have ended one way or another."""

    def __init__(self, most: int) -> None:
        """End after so many."""
        self.ports: list[int] = []
        self._most = most

    async def ask(self, port: int) -> None:
        """Ask, unless there were enough."""
        if len(self.ports) >= self._most:
            raise EnoughError
        self.ports.append(port)
        await ask(port)


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[Rounds]:
    """The counts of each crowd that begins, also of one that ends with an error."""
    found: list[Rounds] = []

    def remember(**counts: int) -> Rounds:
        found.append(Rounds(**counts))
        return found[-1]

    monkeypatch.setattr("deploy.chaos.harness.hostile.Rounds", remember)
    return found


async def test_rounds_are_done_when_the_service_answers(seen: list[Rounds]) -> None:
    """Who did all that it wanted counts as that, and goes on with the next round, at its own process."""
    async with served(answer) as first, served(answer) as second:
        watched = Watched(10)

        with pytest.raises(EnoughError):
            await crowd(world_of(first, second), 2, LONG_SECONDS, watched.ask)

    assert set(watched.ports) == {first, second}
    assert seen[0].done >= 8  # Each of the two may have been at one.
    assert not seen[0].ended


async def test_rounds_are_ended_when_the_service_ends_the_connection(seen: list[Rounds]) -> None:
    """That counts apart: a service that ends all at once has had nothing done to it."""
    async with served(end_at_once) as port:
        watched = Watched(5)

        with pytest.raises(EnoughError):
            await crowd(world_of(port), 1, LONG_SECONDS, watched.ask)

    assert (seen[0].done, seen[0].ended, seen[0].unfinished) == (0, 5, 0)


async def test_rounds_are_unfinished_when_the_time_is_over_first() -> None:
    """Those that were at it are told of, each once."""
    async with served(say_nothing) as port:
        rounds = await crowd(world_of(port), 3, SHORT_SECONDS, ask)

    assert rounds == Rounds(unfinished=3)


async def test_crowd_ends_when_a_connection_is_refused() -> None:
    """A service that takes no connection is not the one that is told of."""
    with pytest.raises(ServerFailedError, match=r"no connection to port .*Refused"):
        await crowd(world_of(free_port()), 3, LONG_SECONDS, ask)


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE, errno.ECONNRESET])
async def test_crowd_ends_when_a_client_gets_no_connection(number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A client without a descriptor, or reset as it connects, is no client that was turned away by its harm."""

    def fail() -> socket.socket:
        raise OSError(number, "made up")

    with monkeypatch.context() as patch:  # The event loop makes sockets at its end, too.
        patch.setattr("deploy.chaos.harness.hostile.socket.socket", fail)
        with pytest.raises(ServerFailedError, match="made up"):
            await crowd(world_of(1), 1, LONG_SECONDS, ask)


async def test_crowd_ends_when_a_round_finds_no_descriptors_left() -> None:
    """It need not be the connection that found none."""

    async def fail(_port: int) -> None:
        raise OSError(errno.EMFILE, "made up")

    with pytest.raises(ServerFailedError, match="no file descriptors left"):
        await crowd(world_of(1), 1, LONG_SECONDS, fail)


@pytest.mark.parametrize("error", [TimeoutError("too slow"), OSError(errno.EINVAL, "made up"), ValueError("a bug")])
async def test_crowd_ends_when_a_round_fails_by_itself(error: Exception) -> None:
    """What is no end of a connection is the client's own failure, and counts as nothing else."""

    async def fail(_port: int) -> None:
        raise error

    with pytest.raises(type(error)) as caught:
        await crowd(world_of(1), 1, LONG_SECONDS, fail)

    assert caught.value is error


async def test_nobody_works_on_when_the_crowd_has_ended() -> None:
    """One that fails ends the others, too."""
    before = asyncio.all_tasks()
    async with served(say_nothing) as port:
        with pytest.raises(EnoughError):
            await crowd(world_of(port), 3, LONG_SECONDS, Watched(2).ask)
        left = {task for task in asyncio.all_tasks() - before if "crowd" in repr(task.get_coro())}

    assert not left


async def test_connection_is_reset_at_the_end() -> None:
    """Nothing is said goodbye to: the service sees the connection break."""
    seen: asyncio.Future[BaseException | bytes] = asyncio.get_running_loop().create_future()

    async def watch(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            seen.set_result(await reader.read(1))
        except ConnectionResetError as error:
            seen.set_result(error)
        writer.close()

    async with served(watch) as port:
        async with connected(port):
            pass

        assert isinstance(await seen, ConnectionResetError)


async def test_receive_buffer_is_small_when_told_so() -> None:
    """The system doubles what it is told, for its own book-keeping."""
    async with served(say_nothing) as port:
        with await connect(port, receive_buffer_bytes=4096) as line:
            size = line.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF)

    assert size == 8192


def test_demand_is_met_when_there_are_enough() -> None:
    """The least number is enough."""
    demand(3, 3, "rounds were done")


def test_demand_fails_when_there_are_fewer() -> None:
    """And tells what there was."""
    with pytest.raises(ServerFailedError, match=r"^2 rounds were done, 3 are the least$"):
        demand(2, 3, "rounds were done")
