"""Users who wait for a code while their engine reports to another process, on real servers."""

import asyncio

import pytest

from tests.acceptance.real.caller import ENGINE_KEY
from tests.acceptance.real.conftest import MakeCaller, MakeService
from tests.servers.redis_server import RedisServer

WAITERS = 200


@pytest.mark.parametrize("cache", ["true", "false"])
async def test_a_crowd_waits_for_one_code_without_holding_the_database(
    redis_server: RedisServer, database_url: str, new_service: MakeService, new_caller: MakeCaller, cache: str
) -> None:
    """With one connection for all, 200 users wait, others are served, and all get the code that comes elsewhere."""
    settings = {
        "DATABASE_URL": database_url,
        "REDIS_URL": redis_server.url,
        "CACHE_ENABLED": cache,
        "CACHE_LOCAL_MAX_BYTES": "8MiB",
        "DB_POOL_SIZE": "1",
        "DB_TIMEOUT": "2s",
    }
    first, second = [new_caller(new_service(**settings).start()) for _ in range(2)]
    session = await first.create("waited-for")
    path = f"/sessions/{session.id}"
    waiting = [asyncio.create_task(second.get(f"{path}/qr?wait=20", key=session.key)) for _ in range(WAITERS)] + [
        asyncio.create_task(second.get(f"{path}/pairing-code?wait=20"))
    ]
    await asyncio.sleep(1.5)

    loads = second.service.metrics().total("zpmeow_loads_total", entity="qr")
    meanwhile = await second.call("POST", "/sessions/create", {"name": "another"})
    await first.call("PUT", f"{path}/pairing-code", {"code": "ABCD-EFGH"}, key=ENGINE_KEY)
    await first.call("PUT", f"{path}/qr", {"qr_code": "to scan"}, key=ENGINE_KEY)
    replies = await asyncio.wait_for(asyncio.gather(*waiting), 15)
    loads = second.service.metrics().total("zpmeow_loads_total", entity="qr") - loads

    assert meanwhile.status == 201
    assert meanwhile.seconds < 1
    assert {reply.status for reply in replies} == {200}
    assert {reply.data["qr_code"] for reply in replies[:-1]} == {"to scan"}
    assert replies[-1].data["code"] == "ABCD-EFGH"
    assert loads <= 10  # Two changes, each loaded once or twice for however many wait.
