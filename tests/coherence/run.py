"""One run of the checker: a world, clients, faults, quiet, and a report.

make sessions ── clients read and write, faults come and go ── quiet ── audit of Redis, last reads ── report
"""

import asyncio
import gc
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from random import Random
from typing import Any

from tests.coherence.attempt import WriteCounts
from tests.coherence.audit import Audit, audit_redis
from tests.coherence.caretakers import end_doubts, look_into_unknown_writes
from tests.coherence.faults import KINDS
from tests.coherence.final_reads import read_everything
from tests.coherence.injector import Injector
from tests.coherence.interruptible import run_interruptible
from tests.coherence.judge import OLD, Finding, Judge, Reading
from tests.coherence.ledger import Ledger
from tests.coherence.outsiders import Outsider
from tests.coherence.postgres_faults import FOREIGN_TRANSACTION
from tests.coherence.reading import Court, ReadCounts, Reader
from tests.coherence.redis_faults import LATE_SECONDS, LOSSY
from tests.coherence.report import Report
from tests.coherence.schedule import make_schedule
from tests.coherence.sql_client import SqlClient
from tests.coherence.stall_watch import watch_checker, watch_database, watch_service
from tests.coherence.timeline import Timeline
from tests.coherence.world import World, open_world
from tests.coherence.writing import Pen, Writer
from tests.servers.postgres_server import PostgresInstallation

_POLL_SECONDS = 0.1
_QUIET_SECONDS = 6.0  # One more than the local TTL, after which nothing old may be anywhere.
_LAST_STORM = "last storm"
_LAST_STORM_SECONDS = 1.5
_MAX_CYCLES = 2  # A kind that had no effect in so many cycles of all kinds will have none.


@dataclass(slots=True, frozen=True, kw_only=True)
class Scenario:
    """What a run is made of.

    Attributes:
        seed: makes the same choices again; times differ from run to run.
        reads: so many answers at least; and every kind of fault once.
        seconds: for so long at least.
        sql: whether there are writers with SQL.
        kinds: the kinds of faults.
        is_calm: whether there is calm between the faults, in which the normal state is checked.
        foreign_seconds: how long a foreign transaction stays open; 0: there is none.
        sabotage: protections that are switched off.
        ends_at_first_violation: whether one old answer is all that is wanted.
    """

    seed: int
    reads: int = 0
    seconds: float = 0.0
    processes: int = 2
    sql: bool = True
    kinds: tuple[str, ...] = tuple(KINDS)
    is_calm: bool = True
    foreign_seconds: float = 60.0
    sabotage: tuple[str, ...] = ()
    ends_at_first_violation: bool = False
    slots: int = 40
    mortal: int = 8
    hot: int = 5
    readers: int = 10
    reader_pause_seconds: float = 0.012
    writers: int = 3
    writer_pause_seconds: float = 0.06
    outsiders: int = 2
    outsider_pause_seconds: float = 0.06
    cancelled_ratio: float = 0.1


def run(scenario: Scenario, installation: PostgresInstallation) -> Report:
    """Run it to its end. Raises KeyboardInterrupt upon SIGINT and SIGTERM, with everything stopped."""
    return run_interruptible(_run(scenario, installation))


async def _run(scenario: Scenario, installation: PostgresInstallation) -> Report:
    timeline = Timeline()
    async with open_world(
        installation=installation, processes=scenario.processes, sabotage=scenario.sabotage, timeline=timeline
    ) as world:
        return await _Run(scenario, world).run()


class _Run:
    """The parts of one run."""

    def __init__(self, scenario: Scenario, world: World) -> None:
        self._scenario = scenario
        self._world = world
        self._court = Court(
            ledger=Ledger(slots=scenario.slots, mortal=scenario.mortal, hot=scenario.hot),
            judge=Judge(timeline=world.timeline),
            timeline=world.timeline,
            counts=ReadCounts(),
            clock=world.clock,
        )
        self._pen = Pen(court=self._court, counts=WriteCounts())
        self._injector = Injector(
            world=world, schedule=make_schedule(scenario.kinds, seed=scenario.seed, is_calm=scenario.is_calm)
        )
        self._ports = {name: service.port for name, service in world.services.items()}
        self._began_at = 0.0

    async def run(self) -> Report:
        """Run all parts; return what was found."""
        async with AsyncExitStack() as stack:
            await self._make_sessions(stack)
            # What was made up to here stays: a full collection would stop the checker for 0.1 s.
            gc.collect()
            gc.freeze()
            self._began_at = self._world.clock()
            async with asyncio.TaskGroup() as group:
                await self._run_clients(group, stack)
            seconds = self._world.clock() - self._began_at
            audit = None if self._may_end_early() else await self._audit(stack)
        return self._report(seconds, audit)

    async def _run_clients(self, group: asyncio.TaskGroup, stack: AsyncExitStack) -> None:
        """Let clients and faults loose until there is enough of both; then a last storm, and quiet."""
        scenario, world, injector = self._scenario, self._world, self._injector

        def start(*works: Coroutine[Any, Any, None]) -> list[asyncio.Task[None]]:
            return [group.create_task(work) for work in works]

        watching = start(
            watch_checker(world), watch_database(world), *(watch_service(world, name) for name in self._ports)
        )
        reading = start(*self._reading(stack))
        writing = start(*self._writing(stack), *self._caretaking(stack))
        foreign = start(injector.run_foreign_transactions(scenario.foreign_seconds)) if scenario.foreign_seconds else []
        (injecting,) = start(injector.run())
        await self._until(self._has_enough)
        injector.is_to_end = True
        await self._until(injecting.done)
        # The end comes in the middle of traffic, with commands to Redis still under way: nobody reads anything any more
        # that would make good for what they do there.
        lossy = world.proxies[max(world.proxies)]
        with world.fault(_LAST_STORM):
            lossy.impair(up=LOSSY)
            await self._until_seconds_have_passed(_LAST_STORM_SECONDS)
            _cancel(foreign, writing, [injecting], reading)
            lossy.impair()
            await self._until_seconds_have_passed(LATE_SECONDS[1])
        await self._until_seconds_have_passed(_QUIET_SECONDS)
        _cancel(watching)

    async def _make_sessions(self, stack: AsyncExitStack) -> None:
        names = sorted(self._ports)
        writers = [self._writer(name, "maker", stack) for name in names]
        for number, slot in enumerate(self._court.ledger.slots):
            await writers[number % len(writers)].make(slot)

    def _reading(self, stack: AsyncExitStack) -> Iterator[Coroutine[Any, Any, None]]:
        scenario = self._scenario
        for name in self._ports:
            for number in range(scenario.readers):
                reader = self._reader(name, f"reader {name}{number}", stack)
                yield reader.run(pause_seconds=scenario.reader_pause_seconds, cancelled_ratio=scenario.cancelled_ratio)

    def _writing(self, stack: AsyncExitStack) -> Iterator[Coroutine[Any, Any, None]]:
        scenario = self._scenario
        for name in self._ports:
            for number in range(scenario.writers):
                yield self._writer(name, str(number), stack).run(pause_seconds=scenario.writer_pause_seconds)
        for number in range(scenario.outsiders if scenario.sql else 0):
            outsider = Outsider(
                client=self._sql_client(stack),
                pen=self._pen,
                readers=self._readers(f"outsider {number}", stack),
                chance=self._chance(f"outsider {number}"),
            )
            yield outsider.run(pause_seconds=scenario.outsider_pause_seconds)

    def _caretaking(self, stack: AsyncExitStack) -> Iterator[Coroutine[Any, Any, None]]:
        yield look_into_unknown_writes(self._sql_client(stack), self._pen)
        yield end_doubts(self._sql_client(stack), self._pen)

    async def _audit(self, stack: AsyncExitStack) -> Audit:
        client = self._sql_client(stack)
        now = self._world.clock()
        audit = await audit_redis(self._world.redis.port, client)
        for difference in audit.differences:
            reading = Reading(process="none", began_at=now, ended_at=now, request="the audit")
            self._court.judge.report(Finding.REDIS_DIFFERS, reading, difference)
        await read_everything(self._court, client, self._ports)
        return audit

    async def _until_seconds_have_passed(self, seconds: float) -> None:
        end = self._world.clock() + seconds
        await self._until(lambda: self._world.clock() >= end)

    async def _until(self, holds: Callable[[], bool]) -> None:
        """Wait until it holds, or the run may end early."""
        while not holds() and not self._may_end_early():  # noqa: ASYNC110  (nobody is there to tell)
            await asyncio.sleep(_POLL_SECONDS)

    def _has_enough(self) -> bool:
        scenario = self._scenario
        if self._court.counts.answered < scenario.reads:
            return False
        if self._world.clock() - self._began_at < scenario.seconds:
            return False
        return not self._missed() or self._injector.cycles >= _MAX_CYCLES

    def _may_end_early(self) -> bool:
        return self._scenario.ends_at_first_violation and not OLD.isdisjoint(self._court.judge.tally.violations)

    def _missed(self) -> list[str]:
        return [kind for kind, count in self._faults().items() if not count]

    def _faults(self) -> dict[str, int]:
        foreign = (FOREIGN_TRANSACTION,) if self._scenario.foreign_seconds else ()
        return {kind: self._world.timeline.faults[kind] for kind in (*self._scenario.kinds, *foreign)}

    def _report(self, seconds: float, audit: Audit | None) -> Report:
        return Report(
            seed=self._scenario.seed,
            seconds=seconds,
            reads=self._court.counts,
            writes=self._pen.counts,
            tally=self._court.judge.tally,
            faults=self._faults(),
            impossible=self._injector.impossible,
            audit=audit,
            sessions=len(self._court.ledger.sessions),
            stalls=[stall.end - stall.begin for stall in self._world.timeline.stalls],
        )

    def _reader(self, process: str, name: str, stack: AsyncExitStack) -> Reader:
        reader = Reader(process=process, port=self._ports[process], court=self._court, chance=self._chance(name))
        stack.callback(reader.close)
        return reader

    def _readers(self, name: str, stack: AsyncExitStack) -> dict[str, Reader]:
        return {process: self._reader(process, f"{name} reads {process}", stack) for process in self._ports}

    def _writer(self, process: str, name: str, stack: AsyncExitStack) -> Writer:
        name = f"writer {process}{name}"
        writer = Writer(
            process=process,
            port=self._ports[process],
            pen=self._pen,
            readers=self._readers(name, stack),
            chance=self._chance(name),
        )
        stack.callback(writer.close)
        return writer

    def _sql_client(self, stack: AsyncExitStack) -> SqlClient:
        client = self._world.sql_client()
        stack.callback(client.close)
        return client

    def _chance(self, name: str) -> Random:
        return Random(f"{name}, seed {self._scenario.seed}")


def _cancel(*groups: Sequence[asyncio.Task[None]]) -> None:
    for tasks in groups:
        for task in tasks:
            task.cancel()
