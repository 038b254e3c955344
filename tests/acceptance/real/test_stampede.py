"""Many callers at once: one question to the database for a key, and a Redis that comes back does not bring it down."""

import asyncio
import random
import time
from collections.abc import Callable

import asyncpg

from tests.acceptance.real.caller import BYPASS, HIT, MISS, Caller, Session
from tests.acceptance.real.conftest import MakeCaller, MakeService
from tests.servers.redis_server import RedisServer
from tests.servers.service import Service

CALLERS = 1000
SESSIONS = 2_000
"""The issue's 10,000 with SESSIONS=10000 take some ten times as long, and show the same."""

READERS = 50
ARRIVAL_SECONDS = 20
Note = Callable[[str, object], None]


def questions(service: Service) -> int:
    """Count how often a session was asked of the database; one query may ask for several."""
    return int(service.metrics().total("zpmeow_loads_total", entity="session"))


def queries(service: Service) -> int:
    """Count the queries by which sessions were read from the database."""
    name = "zpmeow_db_query_duration_seconds_count"
    return int(sum(service.metrics().total(name, query=query) for query in ("find", "find_many")))


async def until_all_wait(service: Service) -> None:
    """Return when those who did not go away have found the load under way."""
    async with asyncio.timeout(ARRIVAL_SECONDS):
        waiting = 0
        while waiting < CALLERS // 2 - 1:
            metrics = await asyncio.to_thread(service.metrics)
            waiting = int(metrics.total("zpmeow_loads_coalesced_total", entity="session"))


async def read_all_at_once(caller: Caller, path: str) -> list[int]:
    """Send a thousand reads of one session at a time; a random half of the callers goes away."""
    chance = random.Random(3)

    async def read() -> int:
        return (await caller.get(path)).status

    tasks = [asyncio.create_task(read()) for _ in range(CALLERS)]
    await asyncio.sleep(0.05)
    for task in chance.sample(tasks, CALLERS // 2):
        task.cancel()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    return [result for result in results if isinstance(result, int)]


async def test_database_is_asked_once_when_a_thousand_callers_miss_one_key_and_half_of_them_go_away(
    redis_server: RedisServer, database_url: str, new_service: MakeService, new_caller: MakeCaller, note: Note
) -> None:
    """One query a process; who stays is answered; no connection is lost."""
    settings = {"DATABASE_URL": database_url, "REDIS_URL": redis_server.url, "CACHE_LOCAL_MAX_BYTES": "64MiB"}
    # However long they take to arrive, nobody's time is over by then; and no query but the callers' is counted.
    settings |= {"DB_TIMEOUT": f"{ARRIVAL_SECONDS + 5}s", "CACHE_INSPECT_ONE_IN": "0"}
    services = [new_service(**settings).start() for _ in range(2)]
    callers = [new_caller(service) for service in services]
    session = await callers[0].create("wanted")
    connection = await asyncpg.connect(database_url)
    try:
        await callers[0].call("DELETE", f"/cache/sessions/{session.id}")
        before = [(questions(service), queries(service)) for service in services]
        # The table is locked for as long as the callers take to arrive: all of them find the same load under way.
        async with connection.transaction():
            await connection.execute("LOCK TABLE session_status IN ACCESS EXCLUSIVE MODE")
            reading = [
                asyncio.create_task(read_all_at_once(caller, f"/sessions/{session.id}/status")) for caller in callers
            ]
            await asyncio.gather(*(until_all_wait(service) for service in services))
        statuses = [await reads for reads in reading]
    finally:
        await connection.close()
    asked = [
        (questions(service) - loads, queries(service) - count)
        for service, (loads, count) in zip(services, before, strict=True)
    ]
    pools = [(await caller.get("/metrics")).data["database"]["pool"] for caller in callers]

    note("loads and queries a process", asked)
    assert [set(found) for found in statuses] == [{200}, {200}]
    assert min(len(found) for found in statuses) >= CALLERS // 2
    assert asked == [(1, 1), (1, 1)]
    assert [(pool["in_use"], pool["waiting"]) for pool in pools] == [(0, 0), (0, 0)]
    assert all(pool["idle"] <= pool["size"] for pool in pools)


async def create_by_sql(database_url: str, count: int) -> list[Session]:
    """Make many sessions by one statement: nobody tells the service but the triggers."""
    connection = await asyncpg.connect(database_url)
    try:
        rows = await connection.fetch(
            "INSERT INTO sessions (name, key_hash)"
            " SELECT 'session-' || n, sha256(n::text::bytea) FROM generate_series(1, $1) AS n RETURNING id, name",
            count,
        )
    finally:
        await connection.close()
    return [Session(id=str(row["id"]), name=row["name"], key="") for row in rows]


async def read_in_turns(caller: Caller, sessions: list[Session]) -> tuple[list[float], dict[str, int]]:
    """Let 50 readers read every session once; return how long each read took, and who answered."""
    seconds: list[float] = []
    sources: dict[str, int] = {}
    left = iter(sessions)

    async def read() -> None:
        for session in left:
            reply = await caller.get(f"/sessions/{session.id}/info")
            assert reply.status == 200
            seconds.append(reply.seconds)
            sources[str(reply.cache_status)] = sources.get(str(reply.cache_status), 0) + 1

    await asyncio.gather(*(read() for _ in range(READERS)))
    return seconds, sources


async def go_and_come_back(redis: RedisServer, caller: Caller, *, empty: bool) -> None:
    """Kill Redis, let the service notice, start Redis, with its data or without, and wait until it is believed."""
    await asyncio.to_thread(redis.kill)

    async def is_noticed() -> bool:
        return (await caller.get("/sessions/session-1/info")).cache_status == BYPASS

    await caller.until("noticed", is_noticed)
    if empty:
        (redis.folder / "dump.rdb").unlink()
    await asyncio.to_thread(redis.start)
    await caller.until("trusted", caller.is_trusted)


async def test_database_is_spared_when_redis_comes_back(
    own_redis: RedisServer, database_url: str, new_service: MakeService, new_caller: MakeCaller, note: Note
) -> None:
    """Back with its data, Redis answers at once; back empty, each session is asked for once, by few at a time."""
    # Fifty readers, the service and its servers share two cores: a deadline of 50 ms would measure that.
    service = new_service(
        DATABASE_URL=database_url, REDIS_URL=own_redis.url, LOG_REQUESTS="false", CACHE_TIMEOUT="1s"
    ).start()
    caller = new_caller(service)
    sessions = await create_by_sql(database_url, SESSIONS)
    await read_in_turns(caller, sessions)

    figures = []
    for kind in ("bypass", "with its data", "empty"):
        if kind == "bypass":
            await caller.call("PUT", "/cache/mode", {"mode": "bypass"})
        else:
            await caller.call("PUT", "/cache/mode", {"mode": "normal"})
            await caller.until("trusted", caller.is_trusted)
            own_redis.command("SAVE")
            await go_and_come_back(own_redis, caller, empty=kind == "empty")
        before, queries_before = questions(service), queries(service)
        began = time.monotonic()
        seconds, sources = await read_in_turns(caller, sessions)
        ordered = sorted(seconds)
        asked = questions(service) - before
        figures.append((asked, sources, queries(service) - queries_before))
        p50, p99 = (round(ordered[int(len(ordered) * share)] * 1000, 1) for share in (0.5, 0.99))
        per_second = round(len(seconds) / (time.monotonic() - began))
        note(
            f"{kind}: sessions asked for, by queries, reads/s, p50 ms, p99 ms, sources",
            (asked, figures[-1][2], per_second, p50, p99, sources),
        )

    # A fill may have been dropped when all were read at once; what was cached is not asked for again.
    assert figures[1][0] < SESSIONS // 50
    assert figures[1][1][HIT] > SESSIONS * 0.98
    assert figures[2][0] == SESSIONS
    assert figures[2][2] <= SESSIONS
    assert set(figures[2][1]) == {MISS}
