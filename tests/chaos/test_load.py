"""The load: sends at its rate, counts what it could not send, and ends when something in it fails."""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import suppress
from types import SimpleNamespace
from typing import cast

import pytest

from deploy.chaos.harness import load as load_module
from deploy.chaos.harness.load import Load, Sample
from tests.coherence.attempt import WriteCounts
from tests.coherence.judge import Judge
from tests.coherence.ledger import Ledger
from tests.coherence.reading import Court, ReadCounts
from tests.coherence.timeline import Timeline
from tests.coherence.world import World
from tests.coherence.writing import Pen

RATE = 100.0


class Bench:
    """A load that reads from a server which refuses everything, or says nothing; the clock is the test's."""

    def __init__(self) -> None:
        """Answer, at time 0."""
        self.now = 0.0
        self.is_silent = False
        self._serving: set[asyncio.Task[None] | None] = set()

    async def open(self) -> None:
        """Serve."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        port: int = self._server.sockets[0].getsockname()[1]
        timeline = Timeline()
        court = Court(
            ledger=Ledger(slots=3, mortal=1, hot=1),
            judge=Judge(timeline=timeline),
            timeline=timeline,
            counts=ReadCounts(),
            clock=lambda: self.now,
        )
        world = SimpleNamespace(clock=lambda: self.now, services={"A": SimpleNamespace(port=port)})
        self.load = Load(
            world=cast("World", world),
            court=court,
            pen=Pen(court=court, counts=WriteCounts()),
            chance=random.Random(1),
            rate=RATE,
            writes_ratio=0.0,
        )
        self.running = asyncio.create_task(self.load.run())

    async def pass_time(self, seconds: float) -> None:
        """Let the clock be later, and the load see it."""
        self.now += seconds
        await asyncio.sleep(0.05)

    async def close(self) -> None:
        """Stop all."""
        self.running.cancel()
        await asyncio.wait([self.running])
        self._server.close()
        await asyncio.gather(*filter(None, self._serving))

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._serving.add(asyncio.current_task())
        try:
            while await reader.readuntil(b"\r\n\r\n"):
                if not self.is_silent:
                    body = b'{"error": {"code": "OVERLOADED"}}'
                    writer.write(b"HTTP/1.1 503 X\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
        except (asyncio.IncompleteReadError, ConnectionResetError):
            writer.close()
            with suppress(ConnectionResetError):  # The load ends in the midst of its requests.
                await writer.wait_closed()


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    """A load that runs."""
    bench = Bench()
    await bench.open()
    await bench.pass_time(0)
    yield bench
    await bench.close()


def sent(samples: list[Sample]) -> list[Sample]:
    """Return those that were sent."""
    return [sample for sample in samples if sample.is_sent]


async def test_each_tick_is_a_request_when_all_goes_well(bench: Bench) -> None:
    """Whatever became of those before; each sample says whom it asked and what it got."""
    for _ in range(10):
        await bench.pass_time(0.05)

    samples = bench.load.between(0.0, 0.5)
    assert (len(samples), len(sent(samples))) == (50, 50)
    assert {(sample.status, sample.error, sample.process) for sample in samples} == {(503, "OVERLOADED", "A")}
    assert all(sample.request.startswith("GET /sessions/") for sample in samples)


async def test_late_ticks_count_as_not_sent_when_the_load_itself_slept(bench: Bench) -> None:
    """They would be another load than the one that is told of."""
    await bench.pass_time(1.0)

    samples = bench.load.between(0.01, 1.0)
    assert len(samples) == pytest.approx(99, abs=1)
    assert len(sent(samples)) == pytest.approx(10, abs=1)
    assert all(sample.due_at >= 0.9 - 1e-6 for sample in sent(samples))


async def test_ticks_count_as_not_sent_when_too_many_are_under_way(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A service that hangs does not make this process run out of everything."""
    monkeypatch.setattr(load_module, "_MOST_IN_FLIGHT", 5)
    bench.is_silent = True
    for _ in range(10):
        await bench.pass_time(0.05)

    samples = bench.load.between(0.01, 0.5)
    assert len(samples) == pytest.approx(49, abs=1)
    assert len(sent(samples)) == 5


async def test_load_ends_with_the_error_when_a_call_fails_by_a_fault_of_its_own(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A load that has lost some of its callers unnoticed would prove nothing."""

    def broken(*_: object) -> None:
        message = "no question"
        raise ValueError(message)

    monkeypatch.setattr(load_module, "choose", broken)
    await bench.pass_time(0.05)

    assert bench.running.done()
    with pytest.raises(ExceptionGroup) as raised:
        bench.running.result()
    assert raised.group_contains(ValueError, match="no question")
