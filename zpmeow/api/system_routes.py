"""How the service is: health for balancers and people, metrics for Prometheus and people."""

import asyncio

from zpmeow import __version__
from zpmeow.api.answers import JSON, Answer, failure, success
from zpmeow.api.negotiation import preferred
from zpmeow.api.refusals import REFUSALS, Refusal
from zpmeow.api.route import Call, Route
from zpmeow.api.shapes import HealthShape, LiveShape, MetricsShape, ReadyShape
from zpmeow.domain.api_key import same_secret
from zpmeow.domain.errors import DatabaseUnavailable
from zpmeow.services.access import Access
from zpmeow.services.health import HealthReport, HealthStatus

_TEXT_FORMATS = ("text/plain", "application/openmetrics-text")
_NOT_READY = Refusal(503, "NOT_READY", "The service does not take traffic now")
_RETRY = {"Retry-After": "1"}


async def _health(call: Call[None]) -> Answer:
    services = call.services
    report = await services.health.report()
    shows_reasons = services.is_loopback or services.access.is_operator(call.presented)
    data = _present(report, shows_reasons=shows_reasons)
    if report.status is HealthStatus.UNHEALTHY:
        return failure(REFUSALS[DatabaseUnavailable], data["dependencies"]["database"], data=data, headers=_RETRY)
    return success(data)


async def _live(_call: Call[None]) -> Answer:
    data: LiveShape = {"status": "alive"}
    return success(data)


async def _ready(call: Call[None]) -> Answer:
    health = call.services.health
    ready: ReadyShape = {"status": "ready"}
    not_ready: ReadyShape = {"status": "not_ready"}
    if not health.accepts_traffic:
        return failure(_NOT_READY, "the service starts or stops", data=not_ready, headers=_RETRY)
    report = await health.report()
    if report.status is HealthStatus.UNHEALTHY:
        return failure(_NOT_READY, "the database does not answer", data=not_ready, headers=_RETRY)
    return success(ready)


async def _metrics(call: Call[None]) -> Answer:
    services = call.services
    if not services.is_loopback and not _has_metrics_token(call):
        await services.access.admit(
            presented=call.presented, access=Access.OPERATOR, session=None, entities=frozenset()
        )
    state = await services.cache_control.state()
    accept = call.request.headers.get("Accept", "")
    if preferred(accept, (JSON, *_TEXT_FORMATS)) == JSON:
        answer = success(services.exposition.as_json(state))
    else:
        # Milliseconds of work: in a thread, so that a scrape holds up nobody's request.
        body, content_type = await asyncio.to_thread(services.exposition.as_text, state, accept)
        answer = Answer(body=body, content_type=content_type)
    answer.headers = {"Vary": "Accept"}
    return answer


def _has_metrics_token(call: Call[None]) -> bool:
    token = call.services.metrics_token
    return bool(token) and call.presented is not None and same_secret(call.presented.encode(), token.encode())


def _present(report: HealthReport, *, shows_reasons: bool) -> HealthShape:
    return {
        "status": report.status.value,
        "version": __version__,
        "dependencies": {
            "database": _dependency(report.database_problem, shows_reason=shows_reasons),
            "cache": _dependency(report.cache_problem, shows_reason=shows_reasons)
            if report.cache_enabled
            else "disabled",
        },
    }


def _dependency(problem: str | None, *, shows_reason: bool) -> str:
    if problem is None:
        return "healthy"
    return f"unhealthy: {problem}" if shows_reason else "unhealthy"


SYSTEM_ROUTES = (
    Route(
        method="GET",
        path="/health",
        handler=_health,
        summary="How the service and what it stands on are",
        data=HealthShape,
        unavailable_data=HealthShape,
    ),
    Route(method="GET", path="/health/live", handler=_live, summary="The process is alive", data=LiveShape),
    Route(
        method="GET",
        path="/health/ready",
        handler=_ready,
        summary="The service may take traffic",
        data=ReadyShape,
        unavailable_data=ReadyShape,
    ),
    Route(
        method="GET",
        path="/metrics",
        handler=_metrics,
        summary="The figures of this process",
        data=MetricsShape,
        media_types=_TEXT_FORMATS,
        needs_own_key=True,
    ),
)
