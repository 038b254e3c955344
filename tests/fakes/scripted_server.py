"""A TCP server that speaks as much Redis as a test tells it to, and as badly."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import hiredis

Command = list[bytes]
Answer = Callable[[Command, asyncio.StreamWriter], Awaitable[None]]


class ScriptedServer:
    """Reads commands and lets `answer` write what it likes; `answer` may be replaced at any time."""

    def __init__(self, answer: Answer) -> None:
        """Answer with this."""
        self.answer = answer
        self.commands: list[Command] = []
        self.connections = 0
        self.open_connections = 0
        self.port = 0
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        """The address for redis-py."""
        return f"redis://127.0.0.1:{self.port}/0"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection."""
        self.connections += 1
        self.open_connections += 1
        parser = hiredis.Reader(notEnoughData=None)
        try:
            while data := await reader.read(65536):
                parser.feed(data)
                while (command := parser.gets()) is not None:
                    self.commands.append(command)
                    await self.answer(command, writer)
        except ConnectionError:
            return  # The client went away, as clients do.
        finally:
            self.open_connections -= 1
            writer.close()

    def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve a connection in a task of its own, which ends with the server."""
        task = asyncio.get_running_loop().create_task(self.serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        """End all connections."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@asynccontextmanager
async def scripted_server(answer: Answer) -> AsyncIterator[ScriptedServer]:
    """Run a scripted server on a free port."""
    scripted = ScriptedServer(answer)
    server = await asyncio.start_server(scripted.accept, "127.0.0.1", 0)
    scripted.port = server.sockets[0].getsockname()[1]
    try:
        yield scripted
    finally:
        server.close()
        await scripted.close()
        await server.wait_closed()


def say(data: bytes) -> Answer:
    """Answer every command with the same bytes."""

    async def answer(_command: Command, writer: asyncio.StreamWriter) -> None:
        writer.write(data)

    return answer


def bulk(value: bytes) -> bytes:
    """Encode one value."""
    return b"$%d\r\n%s\r\n" % (len(value), value)


async def echo_keys(command: Command, writer: asyncio.StreamWriter) -> None:
    """Answer MGET with the keys themselves as values."""
    keys = command[1:]
    writer.write(b"*%d\r\n" % len(keys) + b"".join(bulk(key) for key in keys))


async def say_nothing(_command: Command, _writer: asyncio.StreamWriter) -> None:
    """Hang."""
