"""Half of all callers hang up before they have their answer.

Most requests are carried through, whoever listens; a read of a code is cancelled, as its caller may have asked to wait
for one (`zpmeow/api/hang_up.py`).
"""

import asyncio
from collections import Counter
from random import Random

from deploy.chaos.harness.expectations import seen_by_the_fault
from deploy.chaos.harness.hostile import connected, crowd, demand
from deploy.chaos.harness.scenario import Scenario
from tests.coherence.changes import ENGINE_KEY, OPERATOR_KEY, made_id
from tests.coherence.http_client import HttpClient, Request
from tests.coherence.world import World
from tests.servers.processes import ServerFailedError, tcp_sockets

_CLIENTS = 16
_SECONDS = 12.0
_PATIENCE_SECONDS = 0.004
_WRITES_RATIO = 0.25  # Above the load's tenth: what is broken off in the middle of a write is what could do harm.
_LEAST_ROUNDS = 1_200
_LEAST_READS = 400
_LEAST_WRITES = 200
_LEAST_CARRIED_THROUGH = 150
_SESSION = "hasty"
_SLOTS = 40
_CACHED = ("info", "status", "qr", "credentials")
_SETTLING_SECONDS = 1.0  # What was begun for those who are gone has ended then.
_POLLS, _POLL_SECONDS = 100, 0.02
_COMMITTED = "SELECT count(*) AS writes FROM change_log WHERE entity IN ('session', 'status') AND key = $1"


class _HastyClients:
    """Reads of the load's sessions, and writes to one of their own: nobody else expects anything of that one."""

    def __init__(self, session_id: str) -> None:
        """Write to this session."""
        self.hung_up_on: Counter[str] = Counter()
        self.answered: Counter[str] = Counter()
        self._session_id = session_id
        self._chance = Random(1)
        self._number = 0

    async def ask_and_leave(self, port: int) -> None:
        """Read or write, and hang up."""
        if self._chance.random() < _WRITES_RATIO:
            await self._hang_up_on("write", self._write(), port)
        else:
            await self._hang_up_on("read", self._read(self._chance.choice(_CACHED)), port)

    async def _hang_up_on(self, kind: str, request: Request, port: int) -> None:
        """Wait for the first byte of the answer, but not for long."""
        async with connected(port) as (reader, writer):
            writer.write(request.encode())
            try:
                async with asyncio.timeout(self._chance.uniform(0, _PATIENCE_SECONDS)):
                    await reader.readexactly(1)
            except TimeoutError:
                self.hung_up_on[kind] += 1
            else:
                self.answered[kind] += 1

    def _read(self, resource: str) -> Request:
        path = f"/sessions/slot-{self._chance.randrange(_SLOTS)}/{resource}"
        return Request(method="GET", path=path, key=OPERATOR_KEY)

    def _write(self) -> Request:
        self._number += 1
        path = f"/sessions/{self._session_id}"
        if self._chance.random() < 0.5:
            status = {"status": "connecting", "reason": str(self._number)}
            return Request(method="PUT", path=f"{path}/status", key=ENGINE_KEY, body=status)
        webhook = {"url": f"https://hasty.test/{self._number}", "events": ["message"]}
        return Request(method="PUT", path=f"{path}/webhook", key=OPERATOR_KEY, body=webhook)


async def _inject(world: World) -> None:
    caller = HttpClient(next(iter(world.services.values())).port)
    make = Request(method="POST", path="/sessions/create", key=OPERATOR_KEY, body={"name": _SESSION})
    session_id = made_id((await caller.ask(make)).data)
    hasty = _HastyClients(session_id)
    try:
        await _hang_up(world, hasty, session_id)
    finally:
        remove = Request(method="DELETE", path=f"/sessions/{session_id}/delete", key=OPERATOR_KEY)
        removed = await caller.ask(remove)
        caller.close()
    if removed.status != 200:
        message = f"the removal of the session was answered {removed}"
        raise ServerFailedError(message)


async def _hang_up(world: World, hasty: _HastyClients, session_id: str) -> None:
    committed_before = await _committed(world, session_id)
    failures_before = await asyncio.to_thread(_redis_failures, world)
    to_postgres, to_redis = await asyncio.to_thread(_store_connections, world)

    rounds = await crowd(world, _CLIENTS, _SECONDS, hasty.ask_and_leave)
    await asyncio.sleep(_SETTLING_SECONDS)

    to_postgres_now, to_redis_now = await asyncio.to_thread(_store_connections, world)
    failures = await asyncio.to_thread(_redis_failures, world) - failures_before
    carried_through = await _committed(world, session_id) - committed_before - hasty.answered["write"]
    demand(rounds.done, _LEAST_ROUNDS, "requests were sent")
    demand(hasty.hung_up_on["read"], _LEAST_READS, "reads were hung up on before their answer")
    demand(hasty.hung_up_on["write"], _LEAST_WRITES, "writes were hung up on before their answer")
    demand(carried_through, _LEAST_CARRIED_THROUGH, "writes were committed whose callers were gone")
    _lose_none("PostgreSQL", to_postgres - to_postgres_now)
    # A call that Redis did not answer in time on a busy machine costs its connection, too, whoever made it.
    _lose_none("Redis", to_redis - to_redis_now, explained=failures)
    await _until_none_is_lent(world)


def _lose_none(store: str, lost: set[tuple[str, int]], *, explained: int = 0) -> None:
    if len(lost) > explained:
        message = f"{len(lost)} connections to {store} were lost, {explained} with a cause: {sorted(lost)}"
        raise ServerFailedError(message)


async def _committed(world: World, session_id: str) -> int:
    client = world.sql_client()
    try:
        (row,) = await client.fetch(_COMMITTED, session_id)
    finally:
        client.close()
    return int(row["writes"])


def _redis_failures(world: World) -> int:
    """Return how many look-ups and invalidations of all processes Redis has not answered so far."""
    failures = 0.0
    for service in world.services.values():
        metrics = service.metrics()
        failures += sum(
            metrics.total("zpmeow_cache_lookups_total", tier="redis", outcome=outcome)
            for outcome in ("timeout", "error")
        )
        failures += metrics.total("zpmeow_invalidations_total", outcome="failed")
    return int(failures)


def _store_connections(world: World) -> tuple[set[tuple[str, int]], set[tuple[str, int]]]:
    """Return the processes' connections to PostgreSQL, and those to their proxies before Redis, by their ports."""
    to_postgres, to_redis = set(), set()
    for name, service in world.services.items():
        for local, remote in tcp_sockets(service.pid):
            if remote == world.postgres.port:
                to_postgres.add((name, local))
            elif remote == world.proxies[name].port:
                to_redis.add((name, local))
    return to_postgres, to_redis


async def _until_none_is_lent(world: World) -> None:
    """Wait for a moment, in each process, in which the pool has all its connections: the load uses them, too.

    One whose borrower was forgotten would never come back.
    """
    for name, service in world.services.items():
        for _ in range(_POLLS):
            metrics = await asyncio.to_thread(service.metrics)
            if not metrics.total("zpmeow_db_pool_connections", state="in_use"):
                break
            await asyncio.sleep(_POLL_SECONDS)
        else:
            message = f"process {name} never has all its connections to the database back"
            raise ServerFailedError(message)


SCENARIO = Scenario(
    hypothesis="Who hangs up harms nobody: a write that was begun is carried through, others get their answers, and no"
    " connection to a store is lost or kept.",
    fault=f"{_CLIENTS} clients, some 240 requests a second, a quarter of them writes, are reset within"
    f" {_PATIENCE_SECONDS * 1000:g} ms, for {_SECONDS:g} s",
    aborts_when="the service accepts no connections, or too few requests are under way when their callers hang up",
    inject=_inject,
    expects=(seen_by_the_fault,),
    disturbs_stores=False,
)
