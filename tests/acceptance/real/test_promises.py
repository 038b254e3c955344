"""An engine that promised to report again and does not: what readers are told, in every tier, from then on."""

import asyncio
from datetime import UTC, datetime

import asyncpg
import pytest

from tests.acceptance.real.caller import ENGINE_KEY
from tests.acceptance.real.conftest import MakeCaller, MakeService
from tests.servers.redis_server import RedisServer

REPORT = {"status": "connected", "valid_for": 2}


@pytest.mark.parametrize("cache", ["local", "redis", "off"])
async def test_silence_is_read_everywhere_when_a_promise_has_ended(
    redis_server: RedisServer, database_url: str, new_service: MakeService, new_caller: MakeCaller, cache: str
) -> None:
    """Two processes say it within a second of the moment, whoever answers, and the database is told by one sweep."""
    settings = {
        "DATABASE_URL": database_url,
        "REDIS_URL": redis_server.url,
        "CACHE_LOCAL_MAX_BYTES": "8MiB" if cache == "local" else "0",
        "CACHE_ENABLED": "false" if cache == "off" else "true",
    }
    callers = [new_caller(new_service(**settings).start()) for _ in range(2)]
    session = await callers[0].create("promised")
    await callers[0].call("POST", f"/sessions/{session.id}/connect")
    await callers[0].call("PUT", f"/sessions/{session.id}/status", {"status": "connected"}, key=ENGINE_KEY)
    kept = await callers[0].call("PUT", f"/sessions/{session.id}/status", REPORT, key=ENGINE_KEY)
    end = datetime.fromisoformat(kept.data["valid_until"])

    async def read() -> list[str]:
        said = []
        for caller in callers:
            status = (await caller.get(f"/sessions/{session.id}/status", key=session.key)).data
            info = (await caller.get("/sessions/promised/info")).data["session"]
            errors = (await caller.get("/sessions/list?status=error")).data["sessions"]
            said += [status["session_status"], info["status"], "error" if errors else "connected"]
        return said

    while (datetime.now(UTC) - end).total_seconds() < -0.3:
        assert set(await read()) == {"connected"}
        await asyncio.sleep(0.1)
    await asyncio.sleep(max(0.0, (end - datetime.now(UTC)).total_seconds()) + 0.05)
    at_the_end = await read()
    sessions = await asyncpg.connect(database_url)
    try:
        for _ in range(100):
            recorded = await sessions.fetchrow("SELECT status, reason, changed_at, valid_until FROM session_status")
            if recorded is not None and recorded["status"] == "error":
                break
            await asyncio.sleep(0.05)
    finally:
        await sessions.close()
    after_the_sweep = await read()

    assert at_the_end == after_the_sweep == ["error"] * 6
    assert tuple(recorded or ()) == ("error", "engine_silent", end, None)

    def told() -> list[str]:
        return [line for caller in callers for line in caller.service.messages("engines")]

    callers[0].service.wait_until(lambda: bool(told()), "told in the log")
    assert told() == ["engine_silent: the promises of 1 sessions ended without a new report"]
