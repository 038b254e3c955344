"""A running API for tests: real services, real HTTP on a free port, and a client that speaks it."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import orjson

from tests.acceptance.document import check_described
from tests.acceptance.parts import (
    BreakableRepository,
    MemoryControlStore,
    PlainExposition,
    QuietPool,
    RecordedEvents,
    RecordedLog,
    SettableClock,
    SettableHealth,
    WholeCache,
)
from tests.fakes.in_memory_command_queue import InMemoryCommandQueue
from zpmeow.api.app import create_app
from zpmeow.api.server import Server, Timeouts, open_server
from zpmeow.services.access import AccessService
from zpmeow.services.arrivals import Arrivals
from zpmeow.services.cache_control import CacheControl
from zpmeow.services.commands import CommandService
from zpmeow.services.control_watch import ControlWatch
from zpmeow.services.health import HealthService
from zpmeow.services.sessions import SessionService

OPERATOR_KEY = "operator-key-of-the-acceptance-tests"
ENGINE_KEY = "engine-key-of-the-acceptance-tests!!"
METRICS_TOKEN = "metrics-token-of-the-acceptance-tests"


@dataclass(slots=True)
class Reply:
    """An answer, read whole."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> dict[str, Any]:
        """The body as JSON."""
        whole: dict[str, Any] = orjson.loads(self.body)
        return whole

    @property
    def data(self) -> dict[str, Any]:
        """What stands under `data`."""
        data: dict[str, Any] = self.json["data"]
        return data

    @property
    def error(self) -> str:
        """The error's code."""
        code: str = self.json["error"]["code"]
        return code


@dataclass(slots=True, kw_only=True)
class Api:
    """A running API and the parts that it stands on."""

    server: Server
    client: aiohttp.ClientSession
    repository: BreakableRepository
    queue: InMemoryCommandQueue
    commands: CommandService
    arrivals: Arrivals
    clock: SettableClock
    health: HealthService
    database: SettableHealth
    cache: SettableHealth
    store: MemoryControlStore
    log: RecordedLog
    events: RecordedEvents = field(repr=False)
    default_key: str | None

    @property
    def url(self) -> str:
        """Where it is."""
        return f"http://127.0.0.1:{self.server.port}"

    async def call(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        key: str | None = "",
        headers: Mapping[str, str] | None = None,
        raw: bytes | None = None,
    ) -> Reply:
        """Send a request and hold the answer against the document.

        `key` None sends none, an empty one the operator's.
        """
        sent = dict(headers or {})
        presented = self.default_key if key == "" else key
        if presented is not None:
            sent.setdefault("X-API-Key", presented)
        payload = raw
        if body is not None:
            payload = orjson.dumps(body)
            sent.setdefault("Content-Type", "application/json")
        async with self.client.request(
            method, self.url + path, data=payload, headers=sent, skip_auto_headers=("Content-Type", "Accept")
        ) as answer:
            reply = Reply(status=answer.status, headers=answer.headers.copy(), body=await answer.read())
        check_common(reply)
        check_described(method=method, path=path, status=reply.status, headers=reply.headers, body=reply.body)
        return reply

    async def create(self, name: str = "test-session", **fields: object) -> dict[str, Any]:
        """Make a session and return `data`."""
        reply = await self.call("POST", "/sessions/create", {"name": name, **fields})
        assert reply.status == 201, reply.body
        return reply.data


def check_common(reply: Reply) -> None:
    """Fail unless the answer carries what every answer must."""
    assert reply.headers["Server"] == "zpmeow"
    assert reply.headers["X-Content-Type-Options"] == "nosniff"
    assert reply.headers["Content-Security-Policy"].startswith("default-src 'none'")
    assert reply.headers["X-Request-ID"]
    assert reply.headers["Cache-Control"]
    assert not any(name.startswith("Access-Control") for name in reply.headers)


async def until(holds: Callable[[], bool]) -> None:
    """Wait until something holds, 5 s at most."""
    async with asyncio.timeout(5):
        while not holds():  # noqa: ASYNC110  (what is waited for is inside the service)
            await asyncio.sleep(0.005)


@asynccontextmanager
async def running_api(
    *,
    operator_key: str = OPERATOR_KEY,
    engine_key: str = ENGINE_KEY,
    is_loopback: bool = True,
    cache_enabled: bool = True,
    body_timeout_seconds: float = 5.0,
    timeouts: Timeouts | None = None,
    host: str = "127.0.0.1",
    port: int = 0,
) -> AsyncIterator[Api]:
    """Run an API until the block ends."""
    clock, events, queue = SettableClock(), RecordedEvents(), InMemoryCommandQueue()
    arrivals, commands = Arrivals(), CommandService(queue=queue, observer=events)
    repository = BreakableRepository(commands=queue, committed=arrivals.changed)
    queue.told = commands.changed

    def end_waits() -> None:
        commands.end_waits()
        arrivals.end_waits()

    database, cache, store, log = SettableHealth(), SettableHealth(), MemoryControlStore(), RecordedLog()
    health = HealthService(database=database, cache=cache if cache_enabled else None)
    health.open_to_traffic()
    app = create_app(
        access=AccessService(reader=repository, operator_key=operator_key, engine_key=engine_key),
        sessions=SessionService(sessions=repository, clock=clock, arrivals=arrivals),
        commands=commands,
        end_waits=end_waits,
        health=health,
        cache_control=CacheControl(
            cache=WholeCache() if cache_enabled else None,
            sessions=repository,
            store=store,
            watch=ControlWatch(store=store, followers=(), observer=events),
            database=database,
            pool=QuietPool(),
            feed_is_live=lambda: True,
        ),
        log_control=log,
        exposition=PlainExposition(),
        observer=events,
        is_loopback=is_loopback,
        cache_budget_seconds=0.05,
        truth_seconds=5.0,
        metrics_token=METRICS_TOKEN,
        body_timeout_seconds=body_timeout_seconds,
        epoch_tag=lambda: repository.epoch_tag,
        now=clock.now,
    )
    server = await open_server(app, host=host, port=port, observer=events, timeouts=timeouts)
    try:
        async with aiohttp.ClientSession() as client:
            yield Api(
                server=server,
                client=client,
                repository=repository,
                queue=queue,
                commands=commands,
                arrivals=arrivals,
                clock=clock,
                health=health,
                database=database,
                cache=cache,
                store=store,
                log=log,
                events=events,
                default_key=operator_key or None,
            )
    finally:
        await server.stop(drain_seconds=0.2)
        await commands.close()
