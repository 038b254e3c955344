"""Runs a scenario: steady state, the database alone for comparison, steady state, fault, recovery, steady state, quiet.

    warm-up ── bypass ── before ── fault ── recovery ── after ── quiet ── audit
               what the            injected  every process        nobody writes: Redis and all answers
               database takes      and       uses Redis           are compared with the database
               alone               healed    again

The load goes on from the warm-up to the end of `after`.
"""

import asyncio
import gc
import math
import random
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping
from contextlib import (
    AbstractAsyncContextManager,
    AsyncExitStack,
    ExitStack,
    asynccontextmanager,
    contextmanager,
    nullcontext,
)
from dataclasses import dataclass
from typing import Any

from deploy.chaos.harness.load import Load
from deploy.chaos.harness.measurement import COUNTS, Gauges, Measurement, count
from deploy.chaos.harness.outcome import Outcome
from deploy.chaos.harness.scenario import Scenario
from deploy.chaos.harness.steps import bypasses_cache, uses_redis
from tests.coherence.attempt import WriteCounts
from tests.coherence.audit import Audit, audit_redis
from tests.coherence.caretakers import end_doubts, look_into_unknown_writes
from tests.coherence.changes import OPERATOR_KEY
from tests.coherence.final_reads import read_everything
from tests.coherence.http_client import HttpClient, Request
from tests.coherence.judge import Finding, Judge, Reading
from tests.coherence.ledger import Ledger
from tests.coherence.reading import Court, ReadCounts
from tests.coherence.stall_watch import watch_checker, watch_database, watch_service
from tests.coherence.timeline import Timeline
from tests.coherence.world import World, open_world
from tests.coherence.writing import Pen
from tests.servers.postgres_server import PostgresInstallation
from tests.servers.processes import ServerFailedError
from tests.servers.service import Service

RATE = 240.0
WRITES_RATIO = 0.1
_SLOTS, _MORTAL, _HOT = 60, 8, 5
_WARM_UP_SECONDS = 3.0
_BYPASS_SECONDS = 4.0
_STEADY_SECONDS = 6.0
_RECOVERY_SECONDS = 30.0  # Longer than any limit: how long it took is told, too, when it was too long.
_RECOVERY_POLL_SECONDS = 0.05
_LAST_ANSWERS_SECONDS = 0.5
_QUIET_SECONDS = 6.0  # One more than the local TTL, after which nothing old may be anywhere.


@dataclass(slots=True, frozen=True, kw_only=True)
class _Phase:
    """When it was, and what is known at once."""

    began_at: float
    ended_at: float
    log_bytes: int
    transitions: int
    openings: int
    counts: Mapping[str, Mapping[str, float]]


async def run(
    name: str,
    scenario: Scenario,
    *,
    installation: PostgresInstallation,
    seed: int,
    onlooker: Callable[[World], AbstractAsyncContextManager[None]] | None = None,
) -> Outcome:
    """Run it to its end. Everything is stopped then, and nothing is left on the disk.

    Args:
        name: what to call it.
        scenario: what to do.
        installation: where PostgreSQL is.
        seed: of the load's choices.
        onlooker: is there from before the first request until after the last.
    """
    timeline = Timeline()
    async with AsyncExitStack() as stack:
        world = await stack.enter_async_context(
            open_world(
                installation=installation,
                processes=2,
                timeline=timeline,
                settings=scenario.settings,
                redis_options=scenario.redis_options,
                has_postgres_proxy=scenario.has_postgres_proxy,
            )
        )
        if onlooker is not None:
            await stack.enter_async_context(onlooker(world))
        return await _Experiment(name, scenario, world, seed).run()


class _Experiment:
    def __init__(self, name: str, scenario: Scenario, world: World, seed: int) -> None:
        self._name = name
        self._scenario = scenario
        self._world = world
        self._court = Court(
            ledger=Ledger(slots=_SLOTS, mortal=_MORTAL, hot=_HOT),
            judge=Judge(timeline=world.timeline),
            timeline=world.timeline,
            counts=ReadCounts(),
            clock=world.clock,
        )
        self._pen = Pen(court=self._court, counts=WriteCounts())
        self._gauges = Gauges(world)
        self._healed_at = self._recovery_seconds = math.inf
        self._ports = {name: service.port for name, service in world.services.items()}
        self._load = Load(
            world=world,
            court=self._court,
            pen=self._pen,
            chance=random.Random(f"{name}, seed {seed}"),
            rate=RATE,
            writes_ratio=WRITES_RATIO,
        )

    async def run(self) -> Outcome:
        """Run all phases; what is under way at the end of one is counted when it has ended."""
        descriptors_before = self._gauges.descriptors()
        await self._load.make_sessions()
        with _collector_at_rest():
            return await self._run(descriptors_before)

    async def _run(self, descriptors_before: dict[str, int]) -> Outcome:
        async with self._traffic():
            await asyncio.sleep(_WARM_UP_SECONDS)
            await self._set_mode("bypass")
            if not await self._until_all(bypasses_cache):
                message = "the cache is not bypassed"
                raise ServerFailedError(message)
            bypass = await self._phase(asyncio.sleep(_BYPASS_SECONDS))
            await self._set_mode("normal")
            if not await self._until_all(uses_redis):
                message = "Redis is not in use before the fault"
                raise ServerFailedError(message)
            await asyncio.sleep(_WARM_UP_SECONDS)
            before = await self._phase(asyncio.sleep(_STEADY_SECONDS))
            during = await self._phase(self._inject())
            recovery = await self._phase(self._recover())
            after = await self._phase(asyncio.sleep(_STEADY_SECONDS))
            await asyncio.sleep(_LAST_ANSWERS_SECONDS)
        await asyncio.sleep(_QUIET_SECONDS)
        descriptors_after = self._gauges.descriptors()
        return Outcome(
            name=self._name,
            scenario=self._scenario,
            bypass=self._measured(bypass),
            before=self._measured(before),
            during=self._measured(during),
            recovery=self._measured(recovery),
            after=self._measured(after),
            recovery_seconds=self._recovery_seconds,
            descriptors_before=descriptors_before,
            descriptors_after=descriptors_after,
            audit=await self._audit(),
            tally=self._court.judge.tally,
        )

    @asynccontextmanager
    async def _traffic(self) -> AsyncIterator[None]:
        """Keep the load, the caretakers of unknown writes, and those who look at the machine running."""
        world = self._world
        with ExitStack() as stack:
            clients = [world.sql_client() for _ in range(2)]
            for client in clients:
                stack.callback(client.close)
            # One that ends by an error ends the run.
            async with asyncio.TaskGroup() as group:
                tasks = [
                    group.create_task(work)
                    for work in (
                        self._load.run(),
                        look_into_unknown_writes(clients[0], self._pen),
                        end_doubts(clients[1], self._pen),
                        watch_checker(world),
                        watch_database(world),
                        *(watch_service(world, name) for name in world.services),
                        self._gauges.watch(),
                    )
                ]
                yield
                for task in tasks:
                    task.cancel()

    async def _phase(self, work: Coroutine[Any, Any, None]) -> _Phase:
        """Do this, and look at the processes before and after."""
        gauges, began_at = self._gauges, self._world.clock()
        log_bytes, transitions, openings = gauges.log_bytes(), gauges.transitions(), gauges.openings()
        counts = await gauges.counts()
        await work
        counted = await gauges.counts()
        return _Phase(
            began_at=began_at,
            ended_at=self._world.clock(),
            log_bytes=gauges.log_bytes() - log_bytes,
            transitions=max(now - transitions[name] for name, now in gauges.transitions().items()),
            openings=gauges.openings() - openings,
            counts={process: _increase(counts.get(process, {}), now) for process, now in counted.items()},
        )

    def _measured(self, phase: _Phase) -> Measurement:
        begin, end = phase.began_at, phase.ended_at
        return Measurement(
            seconds=end - begin,
            requests=count(self._load.between(begin, end), self._world.timeline),
            memory_bytes=self._gauges.memory_bytes(begin, end),
            log_bytes=phase.log_bytes,
            transitions=phase.transitions,
            openings=phase.openings,
            counts={name: sum(counted[name] for counted in phase.counts.values()) for name in COUNTS},
            redis_hits={process: counted["redis_hits"] for process, counted in phase.counts.items()},
        )

    async def _recover(self) -> None:
        if await self._until_all(uses_redis):
            self._recovery_seconds = self._world.clock() - self._healed_at
        await asyncio.sleep(_WARM_UP_SECONDS)

    async def _inject(self) -> None:
        fault = self._world.fault(self._name) if self._scenario.disturbs_stores else nullcontext()
        async with asyncio.timeout(self._scenario.longest_seconds):
            with fault:
                await self._scenario.inject(self._world)
        self._healed_at = self._world.clock()

    async def _set_mode(self, mode: str) -> None:
        """Tell all processes; the database hands it on."""
        client = HttpClient(next(iter(self._world.services.values())).port)
        answer = await client.ask(Request(method="PUT", path="/cache/mode", key=OPERATOR_KEY, body={"mode": mode}))
        client.close()
        assert answer.status == 200, answer

    async def _until_all(self, is_so: Callable[[Service], bool]) -> bool:
        """Wait until this is true of all processes; return whether it came true in time."""
        began_at = self._world.clock()
        while self._world.clock() - began_at < _RECOVERY_SECONDS:
            services = self._world.services.values()
            if all([await asyncio.to_thread(is_so, service) for service in services]):
                return True
            await asyncio.sleep(_RECOVERY_POLL_SECONDS)
        return False

    async def _audit(self) -> Audit:
        """Compare what Redis has, and what every process answers, with the database. Nobody writes meanwhile."""
        client = self._world.sql_client()
        try:
            garbage = self._scenario.leaves_garbage
            audit = await audit_redis(self._world.redis.port, client, expects_garbage=garbage)
            now = self._world.clock()
            for difference in audit.differences:
                reading = Reading(process="none", began_at=now, ended_at=now, request="the audit")
                self._court.judge.report(Finding.REDIS_DIFFERS, reading, difference)
            await read_everything(self._court, client, self._ports)
        finally:
            client.close()
        return audit


@contextmanager
def _collector_at_rest() -> Iterator[None]:
    """Keep this process' garbage collector from stopping the load, and the proxies before Redis, for 0.1 s at a time.

    What a run leaves in circles until its end is little.
    """
    gc.collect()
    gc.freeze()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
        gc.unfreeze()


def _increase(before: Mapping[str, float], now: Mapping[str, float]) -> dict[str, float]:
    """Return what was counted since; a process that began anew meanwhile counts from zero."""
    return {name: max(0.0, value - before.get(name, 0.0)) for name, value in now.items()}
