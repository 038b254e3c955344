"""The running service: everything opened in order, closed in reverse.

database ── clock, control ── cache ── repository ── services ── HTTP
             └── start: wait for the database → migrate → read the shared settings → take traffic
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from pydantic import SecretStr

from zpmeow.api.app import create_app
from zpmeow.api.routes import ROUTES
from zpmeow.api.server import Server, open_server
from zpmeow.bootstrap.cache_wiring import open_cache
from zpmeow.bootstrap.endless_tasks import EndlessTasks
from zpmeow.bootstrap.stores import Stores
from zpmeow.bootstrap.supervision import running
from zpmeow.cache.tiered_cache import TieredCache
from zpmeow.domain.errors import Unavailable
from zpmeow.events import Observer, Observers
from zpmeow.postgres.change_log import PostgresChangeLog
from zpmeow.postgres.clock import DatabaseClock
from zpmeow.postgres.command_queue import PostgresCommandQueue
from zpmeow.postgres.control_store import PostgresControlStore
from zpmeow.postgres.database import Database
from zpmeow.postgres.health import DatabaseHealth
from zpmeow.postgres.migrations import migrate
from zpmeow.postgres.promises import PostgresOverduePromises
from zpmeow.postgres.ready_connections import ReadyConnections
from zpmeow.postgres.session_repository import PostgresSessionRepository
from zpmeow.repositories.cache_policies import CacheLifetimes, CachePolicies
from zpmeow.repositories.cached_session_repository import CachedSessionRepository
from zpmeow.repositories.entry_loads import entry_load_limits
from zpmeow.repositories.inspector import Inspector
from zpmeow.services.access import AccessService
from zpmeow.services.arrivals import Arrivals
from zpmeow.services.cache_control import CacheControl, PoolFacts
from zpmeow.services.commands import CommandService
from zpmeow.services.control_watch import ControlWatch
from zpmeow.services.health import HealthService
from zpmeow.services.sessions import CREDENTIALS, INFO, QR, SessionService
from zpmeow.services.silence_sweep import SilenceSweep
from zpmeow.settings import CacheSettings, Settings
from zpmeow.telemetry.log_observer import LogObserver
from zpmeow.telemetry.logs import Logs
from zpmeow.telemetry.loop_watch import watch_loop
from zpmeow.telemetry.metrics import Metrics

_WAIT_SECONDS = 0.5  # Between two tries to reach the database at the start.
_GRACE_SECONDS = 5.0  # For writes under way whose callers have gone; each has the deadline DB_TIMEOUT too.


class Application:
    """A service that listens. It takes traffic once `start` has returned."""

    def __init__(
        self,
        *,
        server: Server,
        health: HealthService,
        watch: ControlWatch,
        tasks: EndlessTasks,
        stores: Stores,
        logs: Logs,
    ) -> None:
        """Take over what was opened; use `open_application`."""
        self._server = server
        self._health = health
        self._watch = watch
        self._tasks = tasks
        self._stores = stores
        self._logger = logs.logger("service")

    @property
    def port(self) -> int:
        """The port that it listens on."""
        return self._server.port

    async def start(self) -> None:
        """Wait for the database, bring its schema up to date, and take traffic from then on.

        Raises:
            MigrationError: the database's schema is not for this code.
        """
        told: str | None = None
        while True:
            try:
                applied = await migrate(url=self._stores.database_url)
                await self._watch.refresh()
                break
            except Unavailable as error:
                if str(error) != told:
                    told = str(error)
                    self._logger.warning("Waiting for the database: %s", told)
            await asyncio.sleep(_WAIT_SECONDS)
        for name in applied:
            self._logger.info("Migration %s applied", name)
        await self._tasks.start()
        self._health.open_to_traffic()
        self._logger.info("Ready")

    async def stop(self) -> None:
        """Refuse new traffic and let running requests finish, 10 s at most."""
        self._health.close_to_traffic()
        await self._server.stop()


@asynccontextmanager
async def open_application(*, settings: Settings, stores: Stores, logs: Logs) -> AsyncIterator[Application]:
    """Open the service; at the end of the block it is stopped, and closed in reverse.

    Raises:
        ListenError: the address cannot be listened on.
    """
    metrics = Metrics(log=logs.sink)
    metrics.expect_routes((route.method, route.path) for route in ROUTES)
    observer = Observers((metrics, LogObserver(logs=logs, tells_requests=settings.log.requests)))
    async with AsyncExitStack() as stack:
        database = await _open_database(stack, settings, stores, observer)
        store = PostgresControlStore(database=database)
        clock = DatabaseClock()
        policies = CachePolicies(_lifetimes(settings.cache))
        change_log = PostgresChangeLog(url=stores.database_url, database=database)
        parts = await stack.enter_async_context(
            open_cache(
                redis_url=stores.redis_url,
                settings=settings.cache,
                breaker=settings.breaker,
                database_timeout_seconds=settings.database.timeout_seconds,
                load_limits=entry_load_limits(
                    most_under_way=settings.database.pool_size, truth_seconds=settings.database.timeout_seconds
                ),
                policies=policies,
                change_log=change_log,
                now_ms=clock.now_ms,
                database=database,
                observer=observer,
            )
        )
        await stack.enter_async_context(running("loop-watch", lambda: watch_loop(observer), observer=observer))
        watch = ControlWatch(store=store, followers=(clock.synchronise, parts.follow), observer=observer)
        truth = PostgresSessionRepository(database=database)
        inspector = Inspector(
            truth=truth, cache=parts.cache, policies=policies, one_in=settings.cache.inspect_one_in, observer=observer
        )
        sessions = CachedSessionRepository(
            truth=truth,
            cache=parts.cache,
            policies=policies,
            clock=clock,
            inspector=inspector,
            observer=observer,
        )
        queue = PostgresCommandQueue(database=database)
        waits = _Waits(commands=CommandService(queue=queue, observer=observer), arrivals=Arrivals())
        stack.push_async_callback(waits.commands.close)
        tasks = EndlessTasks(
            parts=parts,
            watch=watch,
            change_log=change_log,
            inspector=inspector,
            sweep=SilenceSweep(promises=PostgresOverduePromises(database=database), observer=observer),
            ready=ReadyConnections(
                database=database,
                read=(INFO, QR, CREDENTIALS),
                pool_size=settings.database.pool_size,
            ),
            commands=queue,
            followers=(waits.commands, waits.arrivals),
            database_url=stores.database_url,
            retention_seconds=settings.database.change_log_retention_seconds,
            observer=observer,
        )
        stack.push_async_callback(tasks.close)
        stack.push_async_callback(sessions.close, grace_seconds=_GRACE_SECONDS)
        database_health = DatabaseHealth(database=database)
        health = HealthService(database=database_health, cache=parts.inspection)
        await stack.enter_async_context(running("control-watch", watch.run, observer=observer))
        server = await _open_server(
            settings,
            sessions=sessions,
            waits=waits,
            clock=clock,
            health=health,
            cache_control=CacheControl(
                cache=parts.inspection,
                sessions=sessions,
                store=store,
                watch=watch,
                database=database_health,
                pool=_PoolInspection(database, parts.cache),
                feed_is_live=lambda: parts.coherence.feed_is_live,
            ),
            log_control=logs,
            epoch_tag=parts.epoch_tag,
            exposition=metrics,
            observer=observer,
        )
        application = Application(server=server, health=health, watch=watch, tasks=tasks, stores=stores, logs=logs)
        stack.push_async_callback(application.stop)
        yield application


async def _open_database(stack: AsyncExitStack, settings: Settings, stores: Stores, observer: Observer) -> Database:
    database = await Database.open(
        url=stores.database_url,
        pool_size=settings.database.pool_size,
        timeout_seconds=settings.database.timeout_seconds,
        observer=observer,
    )
    stack.push_async_callback(database.close)
    return database


async def _open_server(
    settings: Settings,
    *,
    sessions: CachedSessionRepository,
    waits: "_Waits",
    clock: DatabaseClock,
    health: HealthService,
    cache_control: CacheControl,
    log_control: Logs,
    epoch_tag: Callable[[], str],
    exposition: Metrics,
    observer: Observer,
) -> Server:
    app = create_app(
        access=AccessService(
            reader=sessions,
            operator_key=_clear(settings.server.global_api_key),
            engine_key=_clear(settings.server.engine_api_key),
        ),
        sessions=SessionService(sessions=sessions, clock=clock, arrivals=waits.arrivals),
        commands=waits.commands,
        end_waits=waits.end,
        health=health,
        cache_control=cache_control,
        log_control=log_control,
        exposition=exposition,
        observer=observer,
        is_loopback=not settings.server.is_public,
        cache_budget_seconds=settings.cache.timeout_seconds,
        truth_seconds=settings.database.timeout_seconds,
        metrics_token=_clear(settings.server.metrics_token),
        epoch_tag=epoch_tag,
        now=clock.now,
    )
    return await open_server(app, host=settings.server.host, port=settings.server.port, observer=observer)


@dataclass(slots=True, frozen=True, kw_only=True)
class _Waits:
    """Where callers wait: engines for commands, users for codes."""

    commands: CommandService
    arrivals: Arrivals

    def end(self) -> None:
        """Let all of them go."""
        self.commands.end_waits()
        self.arrivals.end_waits()


class _PoolInspection:
    """The pool's figures in the services' words."""

    def __init__(self, database: Database, cache: TieredCache) -> None:
        self._database = database
        self._cache = cache

    def pool_facts(self) -> PoolFacts:
        """Return the figures of now. Who waits for a load to begin waits for a connection, one step before the pool."""
        now = self._database.statistics()
        return PoolFacts(size=now.size, idle=now.idle, in_use=now.in_use, waiting=now.waiting + self._cache.waiting)


def _lifetimes(settings: CacheSettings) -> CacheLifetimes:
    return CacheLifetimes(
        session_seconds=settings.session_ttl_seconds,
        status_seconds=settings.status_ttl_seconds,
        qr_seconds=settings.qr_ttl_seconds,
        credential_seconds=settings.credential_ttl_seconds,
        stale_if_error=settings.stale_if_error,
    )


def _clear(secret: SecretStr | None) -> str:
    return "" if secret is None else secret.get_secret_value()
