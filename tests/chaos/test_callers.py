"""Connections as behind a balancer: who refuses is passed over, who is not ready is asked last."""

import asyncio
import random

import pytest

from deploy.chaos.harness.callers import Callers, Rotation
from tests.coherence.http_client import ConnectionLostError


class FakeCaller:
    """A connection that is refused while its process is in `down`."""

    def __init__(self, process: str, down: set[str]) -> None:
        """Call this process."""
        self.process = process
        self.is_closed = False
        self._down = down

    async def connect(self) -> None:
        """Connect."""
        if self.process in self._down:
            raise ConnectionLostError

    def close(self) -> None:
        """Hang up."""
        self.is_closed = True


class Ready:
    """A process that says whether it is ready."""

    def __init__(self) -> None:
        """Be ready."""
        self.status = 200
        self.asked = asyncio.Event()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer each request."""
        try:
            while await reader.readuntil(b"\r\n\r\n"):
                writer.write(b"HTTP/1.1 %d X\r\nContent-Length: 0\r\n\r\n" % self.status)
                self.asked.set()
        except asyncio.IncompleteReadError:
            writer.close()


@pytest.fixture
def ready() -> dict[str, Ready]:
    """Two processes."""
    return {"A": Ready(), "B": Ready()}


def make_callers(down: set[str], rotation: Rotation | None = None) -> Callers[FakeCaller]:
    """Make callers of two processes."""
    return Callers(
        rotation=rotation or Rotation({"A": 1, "B": 2}),
        make=lambda name: FakeCaller(name, down),
        chance=random.Random(1),
    )


async def test_connection_is_used_again_when_it_was_put_back() -> None:
    """An idle connection comes before a new one."""
    callers = make_callers({"B"})
    first = await callers.take()
    assert first is not None
    callers.put_back(first)

    assert await callers.take() is first


async def test_process_that_is_ready_gets_its_share_when_another_has_idle_connections() -> None:
    """One that was started again has none yet; its share is that of the other."""
    callers = make_callers(set())
    first = await callers.take()
    assert first is not None

    taken = []
    for _ in range(20):
        callers.put_back(first)
        caller = await callers.take()
        assert caller is not None
        taken.append(caller.process)

    assert set(taken) == {"A", "B"}


async def test_other_process_is_asked_when_one_refuses() -> None:
    """A refused connection has sent nothing, so the next process can be tried."""
    callers = make_callers({"A"})

    taken = [await callers.take() for _ in range(20)]

    assert {caller.process for caller in taken if caller is not None} == {"B"}


async def test_nobody_is_taken_when_all_refuse() -> None:
    """There is nobody to ask."""
    assert await make_callers({"A", "B"}).take() is None


async def test_idle_connections_are_bounded_and_closed_at_the_end() -> None:
    """A burst leaves no more connections than are kept; the end leaves none."""
    callers = make_callers({"B"})
    taken = [await callers.take() for _ in range(40)]

    for caller in taken:
        assert caller is not None
        callers.put_back(caller)
    closed_at_once = sum(caller.is_closed for caller in taken if caller is not None)
    callers.close()

    assert closed_at_once == 8
    assert all(caller.is_closed for caller in taken if caller is not None)


async def test_process_is_asked_last_when_it_is_not_ready(ready: dict[str, Ready]) -> None:
    """A process that says no takes no new request while another one takes some."""
    servers = {name: await asyncio.start_server(process.serve, "127.0.0.1", 0) for name, process in ready.items()}
    rotation = Rotation({name: server.sockets[0].getsockname()[1] for name, server in servers.items()})
    ready["A"].status = 503
    watching = asyncio.create_task(rotation.watch())
    for _ in range(2):
        ready["A"].asked.clear()
        await ready["A"].asked.wait()

    first = {rotation.in_turn(random.Random(number))[0] for number in range(20)}

    assert first == {"B"}
    watching.cancel()
    await asyncio.wait([watching])
    for server in servers.values():
        server.close()
