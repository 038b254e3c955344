"""The cache switched off for a run, and on again."""

import contextlib

import aiohttp

from tests.acceptance.real.conftest import MakeCaller, MakeService
from tests.servers.redis_server import RedisServer


async def test_nothing_old_is_served_when_the_service_ran_without_its_cache_in_between(
    redis_server: RedisServer, database_url: str, new_service: MakeService, new_caller: MakeCaller
) -> None:
    """What changed while the cache was switched off is not read from before that when it is switched on again."""
    service = new_service(DATABASE_URL=database_url, REDIS_URL=redis_server.url).start()
    caller = new_caller(service)
    session = await caller.create("test-session")
    path = f"/sessions/{session.id}/info"
    await caller.until_hits(path, key=session.key)
    service.stop()
    service.set(CACHE_ENABLED="false")
    service.start()
    with contextlib.suppress(aiohttp.ClientError):
        await caller.get("/health")  # The old connection is gone.
    rotated = await new_caller(service).call("POST", f"/sessions/{session.id}/rotate-key")
    service.stop()
    service.set(CACHE_ENABLED="true")
    service.start()

    with contextlib.suppress(aiohttp.ClientError):
        await caller.get("/health")
    replies = [await caller.get(path, key=session.key) for _ in range(20)]

    assert rotated.status == 200
    assert {reply.status for reply in replies} == {401}
