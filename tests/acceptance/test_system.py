"""Health, metrics, cache control, and what every answer carries."""

import pytest

from tests.acceptance.api import OPERATOR_KEY, Api, running_api
from tests.acceptance.parts import database_away
from zpmeow import __version__
from zpmeow.domain.errors import Overloaded
from zpmeow.domain.records import ReadSource
from zpmeow.domain.references import ById, ByName
from zpmeow.events import RequestCrashed, RequestFinished, RequestStarted
from zpmeow.services.log_control import LogLevel

# What Prometheus 3 sends.
PROMETHEUS_ACCEPT = (
    "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,"
    "application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,"
    "text/plain;version=0.0.4;q=0.3,*/*;q=0.2"
)


async def test_health_is_ok_when_all_parts_work(api: Api) -> None:
    """The contract's example, word by word."""
    reply = await api.call("GET", "/health", key=None)

    assert reply.status == 200
    assert reply.json["success"] is True
    assert reply.data == {
        "status": "ok",
        "version": __version__,
        "dependencies": {"database": "healthy", "cache": "healthy"},
    }


async def test_health_is_degraded_when_redis_is_away(api: Api) -> None:
    """A service without its cache still serves."""
    api.cache.reason = "connection refused"

    reply = await api.call("GET", "/health", key=None)

    assert reply.status == 200
    assert reply.data["status"] == "degraded"
    assert reply.data["dependencies"] == {"database": "healthy", "cache": "unhealthy: connection refused"}


async def test_health_is_503_when_the_database_is_away(api: Api) -> None:
    """A service without its database does not serve."""
    api.database.reason = "no answer within 1 s"

    reply = await api.call("GET", "/health", key=None)

    assert reply.status == 503
    assert reply.json["success"] is False
    assert reply.error == "DATABASE_UNAVAILABLE"
    assert reply.headers["Retry-After"] == "1"
    assert reply.data["status"] == "unhealthy"
    assert reply.data["dependencies"]["database"] == "unhealthy: no answer within 1 s"


async def test_health_says_disabled_when_the_cache_is_off() -> None:
    """A cache that is off by choice is no problem."""
    async with running_api(cache_enabled=False) as api:
        reply = await api.call("GET", "/health", key=None)

    assert reply.data["status"] == "ok"
    assert reply.data["dependencies"]["cache"] == "disabled"


@pytest.mark.parametrize("key", [None, "junk", OPERATOR_KEY])
async def test_health_tells_reasons_on_a_public_address_to_the_operator_only(public_api: Api, key: str | None) -> None:
    """A stranger learns that something is wrong, not what; no key is ever refused."""
    public_api.cache.reason = public_api.database.reason = "host db.internal refused"

    reply = await public_api.call("GET", "/health", key=key)

    assert reply.status == 503
    assert ("db.internal" in reply.body.decode()) == (key == OPERATOR_KEY)
    assert reply.data["dependencies"]["cache"].startswith("unhealthy")


async def test_live_is_200_whatever_happens(api: Api) -> None:
    """Liveness asks only for the process."""
    api.database.reason = "away"
    api.health.close_to_traffic()

    assert (await api.call("GET", "/health/live", key=None)).status == 200


async def test_ready_follows_traffic_and_database(api: Api) -> None:
    """Balancers send nothing while the service stops or its database is away."""
    ready = await api.call("GET", "/health/ready", key=None)
    api.database.reason = "away"
    away = await api.call("GET", "/health/ready", key=None)
    api.database.reason = None
    api.health.close_to_traffic()
    stopping = await api.call("GET", "/health/ready", key=None)

    assert [reply.status for reply in (ready, away, stopping)] == [200, 503, 503]


@pytest.mark.parametrize(
    ("accept", "content_type"),
    [
        (None, "application/json"),
        ("*/*", "application/json"),
        ("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", "application/json"),
        ("text/plain", "text/plain; charset=utf-8"),
        ("application/openmetrics-text; version=1.0.0", "application/openmetrics-text; charset=utf-8"),
        (
            PROMETHEUS_ACCEPT,
            "application/openmetrics-text; charset=utf-8",
        ),
        ("application/json, text/plain;q=0.9", "application/json"),
        ("text/plain, application/json;q=0.9", "text/plain; charset=utf-8"),
    ],
)
async def test_metrics_are_json_unless_the_caller_prefers_text(api: Api, accept: str | None, content_type: str) -> None:
    """People get JSON, Prometheus its format."""
    reply = await api.call("GET", "/metrics", headers={"Accept": accept} if accept else None)

    assert reply.status == 200
    assert reply.headers["Content-Type"] == content_type
    if content_type == "application/json":
        assert reply.data["cache"]["connected"] is True
        assert reply.data["cache"]["total_keys"] == 42
    else:
        assert reply.body == b"zpmeow_cache_connected 1\n"


async def test_cache_of_one_session_is_emptied(api: Api) -> None:
    """An operator can empty the cache of a session that exists."""
    created = await api.create()

    by_name = await api.call("DELETE", "/cache/sessions/test-session")
    by_id = await api.call("DELETE", f"/cache/sessions/{created['session_id']}")
    nobody = await api.call("DELETE", "/cache/sessions/nobody")

    assert (by_name.status, by_name.data["session_id"]) == (200, created["session_id"])
    assert by_id.status == 200
    assert (nobody.status, nobody.error) == (404, "SESSION_NOT_FOUND")
    assert [str(reference) for reference in api.repository.invalidated] == [
        str(ByName("test-session")),
        str(ById((await api.repository.list_sessions(limit=1, cursor=None, status=None)).sessions[0].session.id)),
    ]


async def test_cache_mode_is_switched_and_seen(api: Api) -> None:
    """The mode is kept in the database and shown at once."""
    switched = await api.call("PUT", "/cache/mode", {"mode": "bypass"})
    stats = await api.call("GET", "/cache/stats")

    assert (switched.status, switched.data["mode"]) == (200, "bypass")
    assert stats.data["cache"]["mode"] == "bypass"
    assert api.store.mode == "bypass"


async def test_log_level_is_changed(api: Api) -> None:
    """From now on; the answer says to what."""
    changed = await api.call("PUT", "/log/level", {"level": "debug"})

    assert (changed.status, changed.data["level"], changed.data["action"]) == (200, "debug", "set_log_level")
    assert api.log.levels == [LogLevel.DEBUG]


async def test_warming_loads_as_many_sessions_as_asked(api: Api) -> None:
    """The limit counts sessions, the answer entries."""
    for name in ("first", "second", "third"):
        await api.create(name)

    reply = await api.call("POST", "/cache/warm", {"limit": 2})

    assert reply.data["entries"] == 8


@pytest.mark.parametrize(
    ("failure", "code"),
    [(database_away(), "DATABASE_UNAVAILABLE"), (Overloaded("no connection came free"), "OVERLOADED")],
)
async def test_read_answers_503_with_retry_after_when_the_database_cannot_answer(
    api: Api, failure: Exception, code: str
) -> None:
    """The caller learns that another try makes sense, and when; authentication included."""
    created = await api.create()
    api.repository.failure = failure

    by_operator = await api.call("GET", "/sessions/test-session/info")
    by_owner = await api.call("GET", "/sessions/test-session/info", key=created["api_key"])

    for reply in (by_operator, by_owner):
        assert (reply.status, reply.error) == (503, code)
        assert reply.headers["Retry-After"] == "1"


async def test_stale_answer_is_marked(api: Api) -> None:
    """What is served from beyond its lifetime says so."""
    await api.create()
    api.repository.source = ReadSource.STALE

    reply = await api.call("GET", "/sessions/test-session/info")

    assert reply.headers["Cache-Status"] == "zpmeow; hit; detail=stale"


async def test_crash_answers_500_and_tells_nothing_of_it(api: Api) -> None:
    """The reason of a 500 is for the observer, never for the caller."""
    api.repository.failure = RuntimeError("password=hunter2")

    reply = await api.call("GET", "/sessions/test-session/info", headers={"X-Request-ID": "crash-1"})

    assert (reply.status, reply.error) == (500, "INTERNAL_ERROR")
    assert "hunter2" not in reply.body.decode()
    assert "Traceback" not in reply.body.decode()
    (crash,) = api.events.of(RequestCrashed)
    assert isinstance(crash, RequestCrashed)
    assert (crash.request_id, crash.route) == ("crash-1", "/sessions/{sessionId}/info")


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        ({"X-Request-ID": "abc-123_4.5"}, "abc-123_4.5"),
        ({"X-Correlation-ID": "abc"}, "abc"),
        ({"X-Request-ID": "first", "X-Correlation-ID": "second"}, "first"),
        ({"X-Request-ID": "bad id", "X-Correlation-ID": "second"}, "second"),
        ({"X-Request-ID": "x" * 129}, None),
        ({"X-Request-ID": "zpm_looks-like-a-key"}, None),
        ({"X-Request-ID": "<script>"}, None),
        ({}, None),
    ],
)
@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/sessions/list", 200), ("GET", "/nothing", 404), ("POST", "/health", 405), ("GET", "/cache/stats", 200)],
)
async def test_answer_carries_the_request_id(
    api: Api, sent: dict[str, str], kept: str | None, method: str, path: str, status: int
) -> None:
    """A sane id of the caller's comes back; anything else is replaced by a new one."""
    reply = await api.call(method, path, headers=sent)

    assert reply.status == status
    if kept is not None:
        assert reply.headers["X-Request-ID"] == kept
    else:
        assert reply.headers["X-Request-ID"] not in sent.values()


@pytest.mark.parametrize(
    "path", ["/", "/nothing", "/sessions", "/sessions/a/b/c", "/docs/", "/docs/../etc/passwd", "//", "/%2e%2e/x"]
)
async def test_unknown_path_answers_404(api: Api, path: str) -> None:
    """Nothing lives there, with a key or without."""
    with_key = await api.call("GET", path)
    without = await api.call("GET", path, key=None)

    assert (with_key.status, with_key.error) == (404, "NOT_FOUND")
    assert (without.status, without.error) == (404, "NOT_FOUND")


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("POST", "/health", "GET, HEAD"),
        ("GET", "/sessions/create", "PATCH, POST"),  # A session may be called "create".
        ("OPTIONS", "/sessions/x/info", "GET, HEAD"),
        ("POST", "/sessions/x/qr", "GET, HEAD, PUT"),
        ("GET", "/sessions/x/delete", "DELETE"),
        ("TRACE", "/health", "GET, HEAD"),
    ],
)
async def test_known_path_answers_405_when_the_method_is_not(api: Api, method: str, path: str, allowed: str) -> None:
    """The refusal names the methods that would do."""
    reply = await api.call(method, path, key=None)

    assert (reply.status, reply.error) == (405, "METHOD_NOT_ALLOWED")
    assert reply.headers["Allow"] == allowed


async def test_head_answers_like_get_without_a_body(api: Api) -> None:
    """HEAD tells what GET would."""
    await api.create()

    got = await api.call("GET", "/sessions/test-session/info")
    head = await api.call("HEAD", "/sessions/test-session/info")

    assert (head.status, head.body) == (200, b"")
    for name in ("ETag", "Cache-Status", "Cache-Control", "Content-Type", "Content-Length"):
        assert head.headers[name] == got.headers[name]


async def test_every_request_is_observed_once_with_its_route_template(api: Api) -> None:
    """Neither ids nor names nor made-up paths reach the labels of a metric."""
    await api.create()
    api.repository.source = ReadSource.REDIS
    await api.call("GET", "/sessions/test-session/info")
    await api.call("GET", "/made/up")
    await api.call("DELETE", "/health")

    finished = [event for event in api.events.of(RequestFinished) if isinstance(event, RequestFinished)]
    assert [(event.method, event.route, event.status, event.cache_status) for event in finished] == [
        ("POST", "/sessions/create", 201, None),
        ("GET", "/sessions/{sessionId}/info", 200, "zpmeow-redis; hit"),
        ("GET", "unmatched", 404, None),
        ("DELETE", "unmatched", 405, None),
    ]
    assert len(api.events.of(RequestStarted)) == 4
