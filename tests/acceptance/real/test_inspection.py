"""An old answer does not stay unnoticed: the inspector finds it in operation, `doctor --deep` on demand."""

import asyncio

from tests.acceptance.real.caller import Caller
from tests.acceptance.real.conftest import MakeCaller, MakeService
from tests.servers.postgres_server import PostgresServer
from tests.servers.redis_server import RedisServer
from tests.servers.service import Service

FORGE = """
ALTER TABLE session_status DISABLE TRIGGER ALL;
UPDATE session_status SET version = version + 1000, reason = 'forged';
ALTER TABLE session_status ENABLE TRIGGER ALL
"""


def examine(service: Service) -> tuple[int, str]:
    """Run `zpmeow doctor --deep` with the service's settings beside it; return exit code and output."""
    doctor = Service(environment=service._settings, port=service.port)
    try:
        return doctor.run("doctor", "--deep"), doctor.output
    finally:
        doctor.close()


async def checks(caller: Caller, outcome: str) -> int:
    """Return how often the inspector came to this outcome about a status."""
    count: int = (await caller.get("/metrics")).data["cache"]["coherence"]["checks"]["status"][outcome]
    return count


async def test_old_answer_is_found_when_a_change_was_kept_from_the_triggers(
    own_postgres: PostgresServer, redis_server: RedisServer, new_service: MakeService, new_caller: MakeCaller
) -> None:
    """Counted as stale and told with both versions; the deep check names the key; what is in order is a match."""
    service = new_service(
        DATABASE_URL=own_postgres.url, REDIS_URL=redis_server.url, CACHE_INSPECT_ONE_IN="1", LOG_REQUESTS="false"
    ).start()
    caller = new_caller(service)
    session = await caller.create("test-session")

    async def is_counted(outcome: str) -> bool:
        await caller.get(f"/sessions/{session.id}/status")
        await asyncio.sleep(0.1)
        return await checks(caller, outcome) > 0

    await caller.until("a match", lambda: is_counted("match"))
    before = await asyncio.to_thread(examine, service)
    stale_before = await checks(caller, "stale")
    await asyncio.to_thread(own_postgres.execute, FORGE)
    await caller.until("found stale", lambda: is_counted("stale"))
    after = await asyncio.to_thread(examine, service)

    assert (before[0], stale_before) == (0, 0)
    assert "0 differ" in before[1]
    told = [line for line in service.lines if line["message"] == "An old answer was given from the cache"]
    assert told
    assert told[0]["key"] == f"zpmeow:{{{session.id}}}:status"
    assert told[0]["true_version"] == told[0]["cached_version"] + 1000
    assert after[0] == 1
    assert f"zpmeow:{{{session.id}}}:status: version {told[0]['cached_version']} in Redis" in after[1]
