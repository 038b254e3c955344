"""The load: an open-loop client, which starts a request at each tick of a fixed rate, whatever became of those before.

A closed loop would slow down with the service and so hide what it is to find. Latencies count from the tick, and a tick
that comes too late is not sent and counts as missing. Reads and writes are those of the coherence checker: every answer
is judged, by the same rules. What was sent once is not sent again.
"""

import asyncio
import math
import random
from collections.abc import Awaitable
from dataclasses import dataclass

from deploy.chaos.harness.callers import Callers, Rotation
from tests.coherence.changes import Change, change_value
from tests.coherence.http_client import Answer
from tests.coherence.ledger import VALUES
from tests.coherence.reading import STALE, Court, Reader, choose
from tests.coherence.world import World
from tests.coherence.writing import Pen, Writer, choose_slot, structural_change

_MOST_IN_FLIGHT = 4000  # Beyond, ticks go by without a request, and the run fails by that.
_LATE_SECONDS = 0.1  # A client that starts its requests this late is not the load that is told of.
_STRUCTURAL_RATIO = 0.1


@dataclass(slots=True, kw_only=True)
class Sample:
    """One tick. Times are monotonic seconds.

    Attributes:
        status: 0: there was no answer, or nobody to ask.
        error: the code of a 503.
        is_sent: False: too many were under way, or its time had long passed.
        request: what was asked.
        process: who was asked; empty: nobody took a connection.
    """

    is_read: bool
    due_at: float
    ended_at: float = math.inf
    status: int = 0
    error: str = ""
    is_sent: bool = True
    is_stale: bool = False
    request: str = ""
    process: str = ""

    @property
    def seconds(self) -> float:
        """How long its user waited; infinite if he still waits."""
        return self.ended_at - self.due_at

    @property
    def has_failed(self) -> bool:
        """Whether its user got nothing that he can use."""
        return self.status == 0 or self.status >= 500


class Load:
    """Reads and writes at a fixed rate."""

    def __init__(
        self, *, world: World, court: Court, pen: Pen, chance: random.Random, rate: float, writes_ratio: float
    ) -> None:
        """Send `rate` requests a second, this share of them writes."""
        self._clock = world.clock
        self._court = court
        self._chance = chance
        self._rate = rate
        self._writes_ratio = writes_ratio
        ports = {name: service.port for name, service in world.services.items()}
        self._rotation = Rotation(ports)

        def reader(name: str) -> Reader:
            return Reader(process=name, port=ports[name], court=court, chance=chance)

        def writer(name: str) -> Writer:
            return Writer(process=name, port=ports[name], pen=pen, readers={}, chance=chance)

        self._readers = Callers(rotation=self._rotation, make=reader, chance=chance)
        self._writers = Callers(rotation=self._rotation, make=writer, chance=chance)
        self._under_way = 0
        self.samples: list[Sample] = []

    async def make_sessions(self) -> None:
        """Fill all slots, before anything else."""
        for slot in self._court.ledger.slots:
            async with self._writers.one() as writer:
                assert writer is not None, "no process accepts connections"
                await writer.make(slot)

    async def run(self) -> None:
        """Send, for ever. After a cancellation nothing is under way any more, and all connections are closed."""
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._rotation.watch())
                await self._send(group)
        finally:
            self._readers.close()
            self._writers.close()

    def between(self, begin: float, end: float) -> list[Sample]:
        """Return what was due between the two."""
        return [sample for sample in self.samples if begin <= sample.due_at < end]

    async def _send(self, group: asyncio.TaskGroup) -> None:
        due_at = self._clock()
        while True:
            now = self._clock()
            while due_at <= now:
                self._send_one(due_at, group)
                due_at += 1 / self._rate
            await asyncio.sleep(due_at - now)

    def _send_one(self, due_at: float, group: asyncio.TaskGroup) -> None:
        sample = Sample(is_read=self._chance.random() >= self._writes_ratio, due_at=due_at)
        self.samples.append(sample)
        if self._under_way >= _MOST_IN_FLIGHT or self._clock() - due_at > _LATE_SECONDS:
            sample.is_sent = False
            return
        group.create_task(self._call(sample))

    async def _call(self, sample: Sample) -> None:
        self._under_way += 1
        try:
            answer = await (self._read(sample) if sample.is_read else self._write(sample))
        finally:
            self._under_way -= 1
        sample.ended_at = self._clock()
        if answer is not None:
            sample.status, sample.is_stale = answer.status, answer.cache_status == STALE
            sample.error = answer.error if answer.status == 503 else ""

    async def _read(self, sample: Sample) -> Answer | None:
        async with self._readers.one() as reader:
            if reader is None:
                return None
            question = choose(self._court.ledger, self._chance)
            sample.request, sample.process = str(question.request()), reader.process
            return await reader.read(question)

    async def _write(self, sample: Sample) -> Answer | None:
        async with self._writers.one() as writer:
            return None if writer is None else await self._write_by(writer, sample)

    async def _write_by(self, writer: Writer, sample: Sample) -> Answer | None:
        def send(change: Change) -> Awaitable[Answer | None]:
            sample.request, sample.process = str(change.request), writer.process
            return writer.write(change)

        ledger, chance = self._court.ledger, self._chance
        is_structural = chance.random() < _STRUCTURAL_RATIO
        slot = choose_slot(ledger, chance, structural=is_structural)
        if (is_structural or slot.session is None) and not slot.lock.locked() and slot.doubt is None:
            async with slot.lock:
                return await send(structural_change(ledger, slot, chance))
        if slot.session is None:
            slot = chance.choice([slot for slot in ledger.slots if slot.session is not None])
        assert slot.session is not None
        return await send(change_value(ledger, slot, slot.session, chance.choice(VALUES), chance))
