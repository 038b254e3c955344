"""Makes the application: one table of routes becomes aiohttp's router.

No middlewares: each route's `Endpoint` does all that a request needs. What no route matches is `unmatched`'s
affair, and bytes that are not HTTP are `connection`'s.
"""

from collections.abc import Callable
from datetime import UTC, datetime

from aiohttp import web

from zpmeow.api.body import MAX_BODY_BYTES
from zpmeow.api.endpoint import DRAINING, RECALLED, Draining, Endpoint, Pipeline
from zpmeow.api.exposition import Exposition
from zpmeow.api.pictures import Pictures
from zpmeow.api.plain_paths import PLAIN_PATHS, PlainPaths
from zpmeow.api.recalled_answers import RecalledAnswers
from zpmeow.api.route import ApiServices
from zpmeow.api.routes import ROUTES
from zpmeow.api.unmatched import UNMATCHED, UNMATCHED_ROUTE
from zpmeow.events import Observer
from zpmeow.services.access import AccessService
from zpmeow.services.cache_control import CacheControl
from zpmeow.services.commands import CommandService
from zpmeow.services.health import HealthService
from zpmeow.services.log_control import LogControl
from zpmeow.services.sessions import SessionService

BODY_TIMEOUT_SECONDS = 10.0


def create_app(
    *,
    access: AccessService,
    sessions: SessionService,
    commands: CommandService,
    end_waits: Callable[[], None],
    health: HealthService,
    cache_control: CacheControl,
    log_control: LogControl,
    exposition: Exposition,
    observer: Observer,
    is_loopback: bool,
    cache_budget_seconds: float,
    truth_seconds: float,
    metrics_token: str = "",
    body_timeout_seconds: float = BODY_TIMEOUT_SECONDS,
    epoch_tag: Callable[[], str] = lambda: "0",
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> web.Application:
    """Return the application; `server.open_server` runs it.

    Args:
        access: admits callers.
        sessions: the use cases of sessions.
        commands: what engines are told to do.
        end_waits: lets those go who wait for something; called when the stop begins.
        health: how the parts are.
        cache_control: the operator's hand on the cache.
        log_control: the operator's hand on the log.
        exposition: writes the metrics down.
        observer: learns of every request.
        is_loopback: the service listens on a loopback address only.
        cache_budget_seconds: what the cache calls of one request may take together.
        truth_seconds: for how long one request may wait for the database.
        metrics_token: opens `/metrics` on a public address; empty: only the operator's key does.
        body_timeout_seconds: how long a body may take to arrive.
        epoch_tag: part of every ETag; changes whenever row versions may begin anew. Letters and digits.
        now: the time that answers to writes carry, timezone-aware.
    """
    services = ApiServices(
        access=access,
        sessions=sessions,
        commands=commands,
        pictures=Pictures(),
        health=health,
        cache_control=cache_control,
        log_control=log_control,
        exposition=exposition,
        is_loopback=is_loopback,
        metrics_token=metrics_token,
        epoch_tag=epoch_tag,
        now=now,
    )
    draining = Draining(end_waits=end_waits)
    # Where no key protects the service, each request has to show that it comes from this machine.
    recalled = RecalledAnswers(
        observer=observer,
        now=now,
        epoch_tag=epoch_tag,
        is_on=lambda: access.asks_for_key and not draining.begun,
    )
    pipeline = Pipeline(
        services=services,
        observer=observer,
        draining=draining,
        recalled=recalled,
        cache_budget_seconds=cache_budget_seconds,
        truth_seconds=truth_seconds,
        body_timeout_seconds=body_timeout_seconds,
    )
    app = web.Application(client_max_size=MAX_BODY_BYTES)
    app[DRAINING] = draining
    app[RECALLED] = recalled
    app[UNMATCHED] = Endpoint(route=UNMATCHED_ROUTE, pipeline=pipeline)
    plain_paths = app[PLAIN_PATHS] = PlainPaths()
    for route in ROUTES:
        endpoint = Endpoint(route=route, pipeline=pipeline)
        methods = ("GET", "HEAD") if route.method == "GET" and route.is_safe else (route.method,)
        for method in methods:
            app.router.add_route(method, route.path, endpoint.answer, expect_handler=_expect_later)
            plain_paths.add(method, route.path, endpoint)
    return app


async def _expect_later(_request: web.Request) -> None:
    """Do not invite the body yet, as aiohttp would: `body` does, once nothing else refuses the request."""
