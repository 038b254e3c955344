"""Authentication by a session's key goes through the cache, and a key that was taken away opens nothing, at once."""

import asyncio

from tests.acceptance.real.caller import HIT, OPERATOR_KEY
from tests.acceptance.real.conftest import MakeCaller, MakeService
from tests.servers.redis_server import RedisServer


async def test_key_is_looked_up_in_redis_without_any_query(
    redis_server: RedisServer, database_url: str, new_service: MakeService, new_caller: MakeCaller
) -> None:
    """Once a session was read, its key is checked and its status told without the database."""
    service = new_service(DATABASE_URL=database_url, REDIS_URL=redis_server.url).start()
    caller = new_caller(service)
    session = await caller.create("test-session")
    for reference in (session.id, session.name):
        await caller.until_hits(f"/sessions/{reference}/info", key=session.key)

    before = service.metrics()
    replies = [
        await caller.get(f"/sessions/{reference}/{route}", key=session.key)
        for reference in (session.id, session.name)
        for route in ("info", "status")
        for _ in range(5)
    ]
    after = service.metrics()

    assert {(reply.status, reply.cache_status) for reply in replies} == {(200, HIT)}
    assert after.total("zpmeow_loads_total") == before.total("zpmeow_loads_total")
    query = "zpmeow_db_query_duration_seconds_count"
    assert after.total(query, query="find") == before.total(query, query="find")


async def test_old_key_opens_nothing_from_the_rotation_on(
    redis_server: RedisServer, database_url: str, new_service: MakeService, new_caller: MakeCaller
) -> None:
    """The answer to the rotation is the moment from which on the old key is refused and the new one works."""
    caller = new_caller(new_service(DATABASE_URL=database_url, REDIS_URL=redis_server.url).start())
    session = await caller.create("test-session")
    await caller.until_hits("/sessions/test-session/info", key=session.key)

    rotated = await caller.call("POST", "/sessions/test-session/rotate-key", key=session.key)
    old = [await caller.get(f"/sessions/{it}/info", key=session.key) for it in (session.id, session.name)]
    new = await caller.get("/sessions/test-session/info", key=rotated.data["api_key"])

    assert [reply.status for reply in old] == [401, 401]
    assert new.status == 200


async def test_old_key_opens_nothing_when_redis_stood_still_at_the_rotation(
    own_redis: RedisServer, database_url: str, new_service: MakeService, new_caller: MakeCaller
) -> None:
    """Redis still holds the old key's entries when it comes back: they open nothing all the same."""
    service = new_service(DATABASE_URL=database_url, REDIS_URL=own_redis.url).start()
    caller = new_caller(service)
    rotated, deleted = await caller.create_many(2)
    for session in (rotated, deleted):
        await caller.until_hits(f"/sessions/{session.name}/info", key=session.key)

    own_redis.pause()
    answer = await caller.call("POST", f"/sessions/{rotated.name}/rotate-key", key=OPERATOR_KEY)
    removal = await caller.call("DELETE", f"/sessions/{deleted.id}/delete")
    old_keys = [
        (f"/sessions/{reference}/info", session.key)
        for session in (rotated, deleted)
        for reference in (session.id, session.name)
    ]
    during = [await caller.get(path, key=key) for path, key in old_keys]
    own_redis.resume()
    at_once = [await caller.get(path, key=key) for path, key in old_keys]
    new_key = answer.data["api_key"]
    await caller.until_hits(f"/sessions/{rotated.name}/info", key=new_key)
    later = [await caller.get(path, key=key) for path, key in old_keys]

    assert (answer.status, removal.status) == (200, 200)
    for replies in (during, at_once, later):
        assert [reply.status for reply in replies] == [401] * 4


async def test_key_of_a_deleted_session_opens_nothing(
    redis_server: RedisServer, database_url: str, new_service: MakeService, new_caller: MakeCaller
) -> None:
    """Neither by id nor by name, neither at once nor after another session took the name."""
    caller = new_caller(new_service(DATABASE_URL=database_url, REDIS_URL=redis_server.url).start())
    session = await caller.create("test-session")
    await caller.until_hits("/sessions/test-session/info", key=session.key)

    await caller.call("DELETE", "/sessions/test-session/delete")
    at_once = [await caller.get(f"/sessions/{it}/info", key=session.key) for it in (session.id, session.name)]
    namesake = await caller.create("test-session")
    await caller.until_hits("/sessions/test-session/info", key=namesake.key)
    later = [await caller.get(f"/sessions/{it}/info", key=session.key) for it in (session.id, session.name)]
    together = await asyncio.gather(*(caller.get("/sessions/test-session/info", key=session.key) for _ in range(20)))

    assert [reply.status for reply in (*at_once, *later, *together)] == [401] * 24
