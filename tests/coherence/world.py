"""Everything that is real: PostgreSQL, Redis, a proxy before Redis for each service process, and the processes.

A proxy of its own lets one process alone be cut off from Redis, and lets a promoted replica take the master's place at
the same address, for one process sooner than for another.
"""

import asyncio
import random
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field

from tests.coherence.changes import ENGINE_KEY, OPERATOR_KEY
from tests.coherence.redis_node import RedisNode
from tests.coherence.service_process import ServiceProcess
from tests.coherence.sql_client import SqlClient
from tests.coherence.timeline import Timeline
from tests.servers.fault_proxy import FaultProxy
from tests.servers.postgres_server import PostgresInstallation, PostgresServer

_PROCESSES = "ABCDEFGH"


@dataclass(slots=True, kw_only=True)
class World:
    """The servers, and what has happened to them. The locks: one fault at a time to each kind of server."""

    postgres: PostgresServer
    database_url: str
    redis: RedisNode
    proxies: dict[str, FaultProxy]
    services: dict[str, ServiceProcess]
    timeline: Timeline
    postgres_proxy: FaultProxy | None = None
    clock: Callable[[], float] = time.monotonic
    redis_lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    postgres_lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    service_lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    way_lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    def sql_client(self, application_name: str = "somebody with psql") -> SqlClient:
        """Make a client of the database the services use."""
        return SqlClient(self.database_url, application_name=application_name)

    @contextmanager
    def fault(self, kind: str, *, began_at: float | None = None) -> Iterator[None]:
        """Note that a fault of this kind is on for as long as the block runs; `began_at`: since then already."""
        span = self.timeline.begin_fault(kind, at=self.clock() if began_at is None else began_at)
        try:
            yield
        finally:
            span.end = self.clock()

    @contextmanager
    def absence(self, who: str) -> Iterator[None]:
        """Note that the database or a process is away for as long as the block runs."""
        span = self.timeline.begin_absence(who, at=self.clock())
        try:
            yield
        finally:
            span.end = self.clock()

    async def close_postgres(self) -> None:
        """Close the PostgreSQL of now: a promoted standby is another one than that of the start."""
        await asyncio.to_thread(self.postgres.close)

    async def close_redis(self) -> None:
        """Close the Redis of now: a promoted replica is another one than that of the start."""
        await asyncio.to_thread(self.redis.close)

    def choose_process(self, chance: random.Random) -> str:
        """Choose one of the service processes."""
        return chance.choice(sorted(self.services))


@asynccontextmanager
async def open_world(
    *,
    installation: PostgresInstallation,
    processes: int,
    timeline: Timeline,
    sabotage: Sequence[str] = (),
    settings: Mapping[str, str] | None = None,
    redis_options: Sequence[str] = (),
    has_postgres_proxy: bool = False,
) -> AsyncIterator[World]:
    """Start everything; at the end of the block everything is stopped and its files are removed.

    Args:
        installation: the programs of PostgreSQL.
        processes: how many service processes; each second one has no tier of its own.
        timeline: where is noted what happens.
        sabotage: protections that the processes are to do without.
        settings: what the processes are told besides where their servers are.
        redis_options: the end of Redis' command line.
        has_postgres_proxy: whether the way to PostgreSQL leads through a proxy, too.
    """
    async with AsyncExitStack() as stack:
        postgres = await asyncio.to_thread(PostgresServer, installation=installation)
        redis = RedisNode(options=redis_options)
        world = World(postgres=postgres, database_url="", redis=redis, proxies={}, services={}, timeline=timeline)
        stack.push_async_callback(world.close_postgres)
        stack.push_async_callback(world.close_redis)
        await asyncio.to_thread(postgres.start)
        database_url = await asyncio.to_thread(postgres.create_database, "coherence")
        if has_postgres_proxy:
            world.postgres_proxy = await _open_proxy(postgres.port, stack)
            database_url = database_url.replace(f":{postgres.port}/", f":{world.postgres_proxy.port}/")
        world.database_url = database_url
        await asyncio.to_thread(redis.start)
        for number, name in enumerate(_PROCESSES[:processes]):
            proxy = world.proxies[name] = await _open_proxy(redis.port, stack)
            environment = _settings(database_url, proxy.port) | dict(settings or {})
            if number % 2:
                # Without a tier of its own, it has to make up its mind about Redis at each read.
                environment["CACHE_LOCAL_MAX_BYTES"] = "0"
            service = ServiceProcess(environment=environment, sabotage=sabotage)
            stack.push_async_callback(asyncio.to_thread, service.close)
            world.services[name] = service
        # Two processes that start at once also migrate at once.
        await asyncio.gather(*(asyncio.to_thread(service.start) for service in world.services.values()))
        yield world


async def _open_proxy(target_port: int, stack: AsyncExitStack) -> FaultProxy:
    proxy = FaultProxy(target_port=target_port)
    stack.callback(proxy.close)
    await proxy.open()
    return proxy


def _settings(database_url: str, redis_port: int) -> dict[str, str]:
    return {
        "DATABASE_URL": database_url,
        "REDIS_URL": f"redis://127.0.0.1:{redis_port}/0",
        "GLOBAL_API_KEY": OPERATOR_KEY,
        "ENGINE_API_KEY": ENGINE_KEY,
        "LOG_REQUESTS": "false",
    }
