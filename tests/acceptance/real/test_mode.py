"""An operator switches the cache off and on again, in all processes at once."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis as redis_client

from tests.acceptance.real.caller import BYPASS, OPERATOR_KEY, Caller
from tests.acceptance.real.conftest import MakeCaller, MakeService
from tests.servers.redis_server import RedisServer


@pytest.fixture
def count_calls(redis_server: RedisServer) -> Iterator[Callable[[], int]]:
    """Count the commands that Redis has run, INFO itself excepted."""
    with redis_client.Redis(port=redis_server.port) as connection:
        raw: Any = connection

        def count() -> int:
            stats = raw.info("commandstats")
            return sum(int(one["calls"]) for name, one in stats.items() if name != "cmdstat_info")

        yield count


async def set_mode(caller: Caller, mode: str) -> None:
    """Switch."""
    assert (await caller.call("PUT", "/cache/mode", {"mode": mode})).status == 200


async def shown_mode(caller: Caller) -> str:
    """Return the mode that the service follows."""
    mode: str = (await caller.get("/metrics")).data["cache"]["mode"]
    return mode


async def test_mode_reaches_another_process_survives_a_restart_and_leaves_nothing_old_behind(
    redis_server: RedisServer,
    database_url: str,
    new_service: MakeService,
    new_caller: MakeCaller,
    count_calls: Callable[[], int],
    note: Callable[[str, object], None],
) -> None:
    """In bypass no process says a word to Redis; back in normal, what was written meanwhile is what is read."""
    settings = {"DATABASE_URL": database_url, "REDIS_URL": redis_server.url}
    first, second = new_service(**settings).start(), new_service(**settings).start()
    caller, other = new_caller(first), new_caller(second)
    session = await caller.create("test-session")
    path = f"/sessions/{session.id}"
    for each in (caller, other):
        await each.until_hits(f"{path}/info", key=session.key)

    await set_mode(caller, "bypass")

    async def is_bypassed() -> bool:
        return (await other.get(f"{path}/info")).cache_status == BYPASS

    note("bypass reached the other process after, s", await other.until("bypassed", is_bypassed))
    first.stop()
    first.start()
    before = count_calls()
    for each in (caller, other):
        for key in (OPERATOR_KEY, session.key):
            for _ in range(10):
                reply = await each.get(f"{path}/info", key=key)
                assert (reply.status, reply.cache_status) == (200, BYPASS)
        await each.get("/health")
        assert await shown_mode(each) == "bypass"
    reply = await caller.call("PATCH", path, {"proxy_url": "http://new.test:1080"})
    reply_2 = await caller.call("PATCH", path, {"name": "renamed"})
    calls_in_bypass = count_calls() - before
    await set_mode(caller, "normal")
    found = [await caller.get(f"/sessions/{reference}/info") for reference in (session.id, "renamed") for _ in range(9)]
    gone = await caller.get("/sessions/test-session/info")

    assert (reply.status, reply_2.status) == (200, 200)
    assert calls_in_bypass == 0
    assert {reply.data["session"]["name"] for reply in found} == {"renamed"}
    assert {reply.data["session"]["proxy_url"] for reply in found} == {"http://new.test:1080"}
    assert gone.status == 404
    await other.until("back to normal", lambda: is_normal(other))
    for each in (caller, other):
        await each.until_hits(f"{path}/info", key=session.key)
        again = await each.get(f"{path}/info", key=session.key)
        assert again.data["session"]["proxy_url"] == "http://new.test:1080"


async def is_normal(caller: Caller) -> bool:
    """Tell whether the service uses its cache again by the operator's will."""
    return await shown_mode(caller) == "normal"


async def test_nothing_old_is_read_when_a_process_wrote_in_bypass_and_ended(
    redis_server: RedisServer, database_url: str, new_service: MakeService, new_caller: MakeCaller
) -> None:
    """What a process changed in bypass it cannot tell Redis after its end: back in normal, Redis' entries are void."""
    settings = {"DATABASE_URL": database_url, "REDIS_URL": redis_server.url}
    service = new_service(**settings).start()
    caller = new_caller(service)
    session = await caller.create("test-session")
    await caller.until_hits("/sessions/test-session/info", key=session.key)

    await set_mode(caller, "bypass")
    changed = await caller.call("PATCH", "/sessions/test-session", {"proxy_url": "http://new.test:1080"})
    rotated = await caller.call("POST", "/sessions/test-session/rotate-key")
    service.stop()
    service.start()
    await set_mode(caller, "normal")
    await caller.until("trusted again", caller.is_trusted)
    found = [await caller.get("/sessions/test-session/info") for _ in range(3)]
    old_key = await caller.get("/sessions/test-session/info", key=session.key)
    await caller.until_hits("/sessions/test-session/info", key=rotated.data["api_key"])

    assert (changed.status, rotated.status) == (200, 200)
    assert {reply.data["session"]["proxy_url"] for reply in found} == {"http://new.test:1080"}
    assert old_key.status == 401
