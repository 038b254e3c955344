"""Redis dies or stops under load: users see neither an error nor an old answer, and nobody has to mend the service.

The load is sent at a fixed rate, so that a service which stalls cannot hide it. Times are measured and noted, never
asserted: the machine decides them.
"""

import asyncio
from collections.abc import Callable

import pytest

from tests.acceptance.real.caller import Load, send_at_rate
from tests.acceptance.real.conftest import MakeCaller, MakeService
from tests.acceptance.real.numbered import NumberedLoad, NumberedSessions
from tests.servers.redis_server import RedisServer
from tests.servers.service import Service

RATE = 200
SESSIONS = 30
WRITE_EVERY = 20
CLOSED = "Cache breaker is closed, was half_open: the probe succeeded"
Note = Callable[[str, object], None]


async def outage(redis: RedisServer, fault: str, load: NumberedLoad, note: Note) -> Load:
    """Send load for 3.5 s, break Redis after 0.5 s, and write only after that."""

    async def break_redis() -> float:
        await asyncio.sleep(0.5)
        # What is written before a snapshot that Redis comes back with is the business of the snapshot.
        await asyncio.to_thread(redis.kill if fault == "kill" else redis.pause)
        load.write_every = WRITE_EVERY
        return asyncio.get_running_loop().time()

    breaking = asyncio.create_task(break_redis())
    during = await send_at_rate(load, per_second=RATE, seconds=3.5)
    broken_at = await breaking
    first_wave = [reply.seconds for reply in during.replies if -0.2 <= reply.due_at - broken_at < 0.8]
    rest = Load(replies=[reply for reply in during.replies if reply.due_at - broken_at >= 0.8])
    note(f"{fault}: slowest of the first wave, ms", max(first_wave) * 1000)
    note(f"{fault}: while open", rest.summary())
    return during


async def mend(redis: RedisServer, fault: str, service: Service) -> float:
    """Bring Redis back and wait, without any request, until the service's log tells that its breaker has closed."""
    before = service.messages("cache-breaker").count(CLOSED)
    await asyncio.to_thread(redis.start if fault == "kill" else redis.resume)
    return await asyncio.to_thread(
        service.wait_until, lambda: service.messages("cache-breaker").count(CLOSED) > before, "closed again"
    )


@pytest.mark.parametrize("fault", ["kill", "pause"])
async def test_every_request_is_answered_and_no_answer_is_old_when_redis_fails_under_load(
    fault: str,
    own_redis: RedisServer,
    database_url: str,
    new_service: MakeService,
    new_caller: MakeCaller,
    note: Note,
) -> None:
    """All answers are 200, before, during and after; the probe alone closes the breaker; hits come again."""
    service = new_service(DATABASE_URL=database_url, REDIS_URL=own_redis.url, LOG_REQUESTS="false").start()
    caller = new_caller(service)
    sessions = await caller.create_many(SESSIONS)
    numbered = NumberedSessions(caller=caller, sessions=sessions)
    await numbered.write_all()
    await numbered.read_all()

    before = await send_at_rate(numbered.load(write_every=WRITE_EVERY), per_second=RATE, seconds=1.5)
    own_redis.command("SAVE")
    steps_before = service.metrics().transitions()
    during = await outage(own_redis, fault, numbered.load(), note)
    unhealthy = await caller.get("/health")
    closed_after = await mend(own_redis, fault, service)
    steps = service.metrics().transitions()
    hits_after = await caller.until_hits(f"/sessions/{sessions[0].id}/status", seconds=3)
    after = await send_at_rate(numbered.load(write_every=WRITE_EVERY), per_second=RATE, seconds=1.5)
    await numbered.read_all()

    note(f"{fault}: before", before.summary())
    note(f"{fault}: after", after.summary())
    note(f"{fault}: closed by the probe after, s", closed_after)
    note(f"{fault}: hits again after closing, s", hits_after)
    for load in (before, during, after):
        load.check_was_sent()
        assert load.failures == []
        assert set(load.statuses) == {200}
    assert numbered.writes > 3 * SESSIONS
    assert numbered.old_answers == []
    assert unhealthy.status == 200
    assert unhealthy.data["status"] == "degraded"
    happened = {step: count - steps_before.get(step, 0) for step, count in steps.items()}
    failed_probes = happened.pop(("half_open", "open"), 0)
    assert happened == {("closed", "open"): 1, ("open", "half_open"): failed_probes + 1, ("half_open", "closed"): 1}
