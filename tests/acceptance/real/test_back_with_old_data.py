"""Redis is away while much is changed, and comes back with the data that it had: nobody is answered with the past."""

import asyncio
import os
import shutil
import time
from collections.abc import Callable
from typing import Any

import redis as redis_client

from tests.acceptance.real.caller import HIT, Caller, Request, send_at_rate
from tests.acceptance.real.conftest import MakeCaller, MakeService
from tests.acceptance.real.numbered import NumberedSessions
from tests.servers.redis_server import RedisServer
from zpmeow.cache.position import POSITION_KEY, decode_position

AWAY_SECONDS = float(os.environ.get("AWAY_SECONDS", "6"))
"""The issue's minute with AWAY_SECONDS=60: the same, longer."""

WRITES_PER_SECOND = 100
KEPT = 100
Note = Callable[[str, object], None]


def has_seen_all_until(redis: RedisServer, at_ms: int) -> bool:
    """Tell whether the position in Redis says that every change up to that time was applied."""
    with redis_client.Redis(port=redis.port) as connection:
        raw: Any = connection
        position = decode_position(raw.get(POSITION_KEY) or b"")
    return position is not None and position.at_ms >= at_ms


async def lag(caller: Caller) -> tuple[bool, float]:
    """Tell whether Redis is believed, and how far it is behind, in seconds."""
    cache = (await caller.get("/metrics")).data["cache"]
    seconds = cache["coherence"]["lag_seconds"]
    return cache["trusted"], float("inf") if seconds is None else seconds


async def test_nothing_old_is_answered_and_what_did_not_change_is_kept_when_redis_is_back_with_its_old_data(
    own_redis: RedisServer, database_url: str, new_service: MakeService, new_caller: MakeCaller, note: Note
) -> None:
    """0 old answers in two processes; caught up without the probe of a user; what did not change is a hit at once."""
    settings = {"DATABASE_URL": database_url, "REDIS_URL": own_redis.url, "LOG_REQUESTS": "false"}
    callers = [new_caller(new_service(**settings).start()) for _ in range(2)]
    kept = await callers[0].create_many(KEPT, prefix="kept")
    changing = await callers[0].create_many(30, prefix="changing")
    numbered = [NumberedSessions(caller=caller, sessions=changing, kinds=("webhook", "qr")) for caller in callers]
    numbered[1]._values = numbered[0]._values  # One history for both: each reads what either has written.
    await numbered[0].write_all()
    for caller in callers:
        for session in kept:
            await caller.get(f"/sessions/{session.id}/info")
    own_redis.command("SAVE")
    shutil.copy(own_redis.folder / "dump.rdb", own_redis.folder / "old.rdb")

    def write(number: int) -> Request:
        session, kind = numbered[0].pick()
        return lambda due_at: numbered[number % 2].write(session, kind, due_at)

    await asyncio.to_thread(own_redis.kill)
    written = await send_at_rate(write, per_second=WRITES_PER_SECOND, seconds=AWAY_SECONDS)
    shutil.copy(own_redis.folder / "old.rdb", own_redis.folder / "dump.rdb")
    await asyncio.to_thread(own_redis.start)
    began, began_ms = time.monotonic(), time.time_ns() // 1_000_000

    async def is_applied() -> bool:
        return await asyncio.to_thread(has_seen_all_until, own_redis, began_ms)

    async def is_caught_up() -> bool:
        await asyncio.gather(*(numbered[0].read(*numbered[0].pick()) for _ in range(5)))
        await asyncio.gather(*(numbered[1].read(*numbered[1].pick()) for _ in range(5)))
        return all(trusted and seconds < 1 for trusted, seconds in [await lag(caller) for caller in callers])

    note("all changes brought after, s", await callers[0].until("applied", is_applied))
    await callers[0].until("caught up", is_caught_up)
    note("believed by both processes after, s", time.monotonic() - began)
    for one in numbered:
        await one.read_all()
    sources = [
        (await caller.get(f"/sessions/{session.id}/info")).cache_status for caller in callers for session in kept
    ]

    note("writes while it was away", written.summary())
    written.check_was_sent()
    assert set(written.statuses) == {200}
    assert numbered[0].old_answers + numbered[1].old_answers == []
    assert set(sources) == {HIT}
