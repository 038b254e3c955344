"""Redis absent, switched off, or of no use: the service starts and everything works from the database."""

import asyncio
from collections.abc import Callable, Iterator

import pytest

from tests.acceptance.real.caller import BYPASS, HIT
from tests.acceptance.real.conftest import MakeCaller, MakeService
from tests.acceptance.real.life import live, refusals
from tests.servers.redis_server import RedisServer

CLOSED = "Cache breaker is closed, was half_open: the probe succeeded"


@pytest.fixture
def new_redis() -> Iterator[Callable[..., RedisServer]]:
    """Make servers with options, not started yet."""
    servers: list[RedisServer] = []

    def make(*options: str) -> RedisServer:
        servers.append(RedisServer(options=options))
        return servers[-1]

    try:
        yield make
    finally:
        for server in servers:
            server.close()


async def test_service_starts_without_redis_and_picks_it_up_when_it_appears(
    own_redis: RedisServer, database_url: str, new_service: MakeService, new_caller: MakeCaller
) -> None:
    """It answers from the database, tells so, and needs neither a restart nor a request to notice Redis."""
    own_redis.kill()
    service = new_service(DATABASE_URL=database_url, REDIS_URL=own_redis.url).start()
    caller = new_caller(service)

    answers = await live(caller, "test-session")
    session = await caller.create("kept")
    without = await caller.get("/sessions/kept/info", key=session.key)
    health = await caller.get("/health")
    await asyncio.to_thread(own_redis.start)
    await asyncio.to_thread(service.wait_until, lambda: CLOSED in service.messages("cache-breaker"), "closed")

    assert refusals(answers) == []
    assert (without.status, without.cache_status) == (200, BYPASS)
    assert (health.status, health.data["status"], health.data["dependencies"]["database"]) == (
        200,
        "degraded",
        "healthy",
    )
    assert health.data["dependencies"]["cache"].startswith("unhealthy: ")
    await caller.until_hits("/sessions/kept/info", key=session.key)
    assert (await caller.get("/health")).data["status"] == "ok"


async def test_everything_works_when_the_cache_is_disabled(
    database_url: str, new_service: MakeService, new_caller: MakeCaller
) -> None:
    """With CACHE_ENABLED=false each read says that it was forwarded, and no hit rate is made up."""
    service = new_service(DATABASE_URL=database_url, CACHE_ENABLED="false").start()
    caller = new_caller(service)

    answers = await live(caller, "test-session")
    health = await caller.get("/health")
    metrics = await caller.get("/metrics")

    assert refusals(answers) == []
    told = {reply.cache_status for _, reply in answers if reply.cache_status is not None}
    assert told == {BYPASS}
    assert health.data["status"] == "ok"
    assert health.data["dependencies"]["cache"] == "disabled"
    assert metrics.data["cache"]["connected"] is False
    assert metrics.data["cache"]["hit_rate"] in {0, None}
    text = service.metrics()
    assert text.total("zpmeow_cache_lookups_total", outcome="hit") == 0
    assert text.total("zpmeow_cache_lookups_total", outcome="miss") == 0
    assert text.total("zpmeow_cache_lookups_total", outcome="bypass") > 0


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (("--requirepass", "the-right-password"), "WRONGPASS"),
        (("--replicaof", "127.0.0.1", "1"), "READONLY"),
        (("--maxmemory", "1", "--maxmemory-policy", "noeviction"), "OOM"),
    ],
    ids=["wrong-password", "read-only-replica", "out-of-memory"],
)
async def test_every_request_is_answered_when_redis_refuses(
    options: tuple[str, ...],
    reason: str,
    new_redis: Callable[..., RedisServer],
    database_url: str,
    new_service: MakeService,
    new_caller: MakeCaller,
) -> None:
    """A Redis that answers with errors is a Redis that is away."""
    redis = new_redis(*options)
    redis.start()
    service = new_service(
        DATABASE_URL=database_url,
        REDIS_URL=redis.url.replace("redis://", "redis://:a-wrong-password-here@")
        if reason == "WRONGPASS"
        else redis.url,
    ).start()
    caller = new_caller(service)

    answers = await live(caller, "test-session")
    health = await caller.get("/health")

    assert refusals(answers) == []
    assert (health.status, health.data["status"]) == (200, "degraded")
    assert reason in health.data["dependencies"]["cache"]
    assert "a-wrong-password-here" not in service.output + service.errors + health.body.decode()


@pytest.mark.parametrize("trouble", ["read-only-replica", "out-of-memory", "password-changed"])
async def test_every_request_is_answered_when_a_good_redis_turns_bad(
    trouble: str, own_redis: RedisServer, database_url: str, new_service: MakeService, new_caller: MakeCaller
) -> None:
    """A failover, a full memory or a changed password in the middle of operation shows nowhere, and passes."""
    service = new_service(DATABASE_URL=database_url, REDIS_URL=own_redis.url).start()
    caller = new_caller(service)
    session = await caller.create("kept")
    await caller.until_hits("/sessions/kept/info", key=session.key)
    harm, mend = {
        "read-only-replica": (("REPLICAOF", "127.0.0.1", "1"), ("REPLICAOF", "NO", "ONE")),
        "out-of-memory": (("CONFIG", "SET", "maxmemory", "1"), ("CONFIG", "SET", "maxmemory", "0")),
        "password-changed": (("CONFIG", "SET", "requirepass", "another"), ()),
    }[trouble]

    assert own_redis.command(*harm) == b"+OK"
    if trouble == "password-changed":
        own_redis.command("CLIENT", "KILL", "TYPE", "normal")
    answers = [*await live(caller, "first"), *await live(caller, "second")]
    if mend:
        assert own_redis.command(*mend) == b"+OK"

    assert refusals(answers) == []
    if mend:
        await caller.until_hits("/sessions/kept/info", key=session.key)


async def test_every_request_is_answered_while_redis_loads_its_data(
    new_redis: Callable[..., RedisServer], database_url: str, new_service: MakeService, new_caller: MakeCaller
) -> None:
    """A Redis that reads its snapshot is a Redis that is away, until it has read it."""
    redis = new_redis("--rdbcompression", "no")
    redis.start()
    for number in range(1000):
        redis.command("SET", f"filler:{number}", "x" * 20_000)  # It answers after every 2 MB that it has read.
    assert redis.command("SAVE") == b"+OK"
    redis.kill()
    redis.options = (*redis.options, "--key-load-delay", "2500")
    loading = asyncio.create_task(asyncio.to_thread(redis.start))
    service = new_service(DATABASE_URL=database_url, REDIS_URL=redis.url, CACHE_TIMEOUT="1s")
    await asyncio.to_thread(service.start)
    caller = new_caller(service)

    answers = await live(caller, "test-session")
    session = await caller.create("kept")
    still_loading = not loading.done()
    await loading

    assert still_loading
    assert any("LOADING" in message for message in service.messages("cache-breaker"))
    assert refusals(answers) == []
    await caller.until_hits("/sessions/kept/info", key=session.key)
    assert (await caller.get("/sessions/kept/info", key=session.key)).cache_status == HIT
