"""Whose key opens what: every route of the document, with every kind of key."""

import pytest

from tests.acceptance.api import ENGINE_KEY, METRICS_TOKEN, OPERATOR_KEY, Api
from tests.acceptance.document import document
from zpmeow.domain.api_key import generate_api_key
from zpmeow.domain.references import ByName

OPERATIONS = [(method.upper(), path) for path, operations in document()["paths"].items() for method in operations]
OPEN = {"/health", "/health/live", "/health/ready"}
CLOSED = [(method, path) for method, path in OPERATIONS if path not in OPEN]
OF_OWNERS = {
    ("GET", "/sessions/{sessionId}/info"),
    ("GET", "/sessions/{sessionId}/status"),
    ("GET", "/sessions/{sessionId}/qr"),
    ("GET", "/sessions/{sessionId}/pairing-code"),
    ("GET", "/sessions/{sessionId}/credentials"),
    ("POST", "/sessions/{sessionId}/connect"),
    ("POST", "/sessions/{sessionId}/pair"),
    ("POST", "/sessions/{sessionId}/disconnect"),
    ("POST", "/sessions/{sessionId}/rotate-key"),
    ("PUT", "/sessions/{sessionId}/webhook"),
}
OF_ENGINES = {
    ("GET", "/sessions/{sessionId}/info"),
    ("GET", "/sessions/{sessionId}/status"),
    ("GET", "/sessions/{sessionId}/qr"),
    ("GET", "/sessions/{sessionId}/pairing-code"),
    ("GET", "/sessions/{sessionId}/credentials"),
    ("PUT", "/sessions/{sessionId}/qr"),
    ("PUT", "/sessions/{sessionId}/pairing-code"),
    ("PUT", "/sessions/{sessionId}/status"),
    ("PUT", "/sessions/{sessionId}/credentials"),
    ("DELETE", "/sessions/{sessionId}/credentials"),
    ("GET", "/engine/commands"),
    ("POST", "/engine/commands/{id}/ack"),
    ("GET", "/engine/sessions"),
}


def of_session(path: str, name: str) -> str:
    """Complete a path of the document for this session, and for a command that nobody left."""
    return path.replace("{sessionId}", name).replace("{id}", "00000000-0000-4000-8000-000000000000")


def test_document_holds_the_routes_of_the_contract() -> None:
    """Nothing of the contract is missing and nothing else is there."""
    assert set(OPERATIONS) == OF_OWNERS | OF_ENGINES | {
        ("POST", "/sessions/create"),
        ("GET", "/sessions/list"),
        ("PATCH", "/sessions/{sessionId}"),
        ("DELETE", "/sessions/{sessionId}/delete"),
        ("DELETE", "/cache/sessions/{sessionId}"),
        ("POST", "/cache/warm"),
        ("GET", "/cache/stats"),
        ("PUT", "/cache/mode"),
        ("PUT", "/log/level"),
        ("GET", "/health"),
        ("GET", "/health/live"),
        ("GET", "/health/ready"),
        ("GET", "/metrics"),
    }


@pytest.mark.parametrize(("method", "path"), CLOSED)
async def test_closed_route_answers_401_when_the_key_is_missing_or_junk(
    public_api: Api, method: str, path: str
) -> None:
    """No route but health opens without a key, whether the session exists or not."""
    await public_api.create()
    junk = [None, "junk", "zpm_" + "x" * 38, generate_api_key(), "k" * 64, "\N{SNOWMAN}" * 40]

    for name in ("test-session", "nobody"):
        for key in junk:
            reply = await public_api.call(method, of_session(path, name), key=key)

            assert (reply.status, reply.error) == (401, "UNAUTHORIZED")
            assert reply.headers["WWW-Authenticate"].startswith("Bearer")


@pytest.mark.parametrize(("method", "path"), CLOSED)
async def test_closed_route_answers_403_when_the_key_is_another_sessions(
    public_api: Api, method: str, path: str
) -> None:
    """A session's key learns nothing of other sessions, not even whether they exist."""
    other = await public_api.create("other-session")
    victim = await public_api.create("test-session")

    for name in ("test-session", victim["session_id"], "nobody", "00000000-0000-4000-8000-000000000000"):
        reply = await public_api.call(method, of_session(path, name), key=other["api_key"])

        assert (reply.status, reply.error) == (403, "FORBIDDEN")
    assert await public_api.repository.find(ByName("test-session"), frozenset()) is not None


@pytest.mark.parametrize(("method", "path"), CLOSED)
async def test_own_key_opens_what_owners_may_and_nothing_else(public_api: Api, method: str, path: str) -> None:
    """A session's key reads, connects, sets the webhook and rotates; all else is forbidden."""
    created = await public_api.create()

    by_name = await public_api.call(method, of_session(path, "test-session"), key=created["api_key"])

    assert (by_name.status not in (401, 403)) == ((method, path) in OF_OWNERS)


@pytest.mark.parametrize(("method", "path"), CLOSED)
async def test_engine_key_opens_what_engines_may_and_nothing_else(public_api: Api, method: str, path: str) -> None:
    """An engine reads and reports; it does not manage."""
    await public_api.create()

    reply = await public_api.call(method, of_session(path, "test-session"), key=ENGINE_KEY)

    assert (reply.status not in (401, 403)) == ((method, path) in OF_ENGINES)


@pytest.mark.parametrize(("method", "path"), OPERATIONS)
async def test_operator_key_opens_everything(public_api: Api, method: str, path: str) -> None:
    """The operator is refused nowhere."""
    await public_api.create()

    reply = await public_api.call(method, of_session(path, "test-session"), key=OPERATOR_KEY)

    assert reply.status not in (401, 403)


@pytest.mark.parametrize(
    "headers",
    [
        {"X-API-Key": OPERATOR_KEY},
        {"Authorization": f"Bearer {OPERATOR_KEY}"},
        {"Authorization": f"bearer   {OPERATOR_KEY}"},
        {"Authorization": OPERATOR_KEY},
        {"Authorization": f"Bearer {OPERATOR_KEY}", "X-API-Key": OPERATOR_KEY},
    ],
)
async def test_key_is_taken_from_either_header(api: Api, headers: dict[str, str]) -> None:
    """All three ways to send a key mean the same."""
    reply = await api.call("GET", "/sessions/list", key=None, headers=headers)

    assert reply.status == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"Authorization": "Bearer other", "X-API-Key": OPERATOR_KEY},
        {"Authorization": f"Basic {OPERATOR_KEY}"},
        {"Authorization": "Bearer"},
        {"Authorization": "Bearer "},
        {"X-API-Key": ""},
        {"X-API-Key": OPERATOR_KEY + " x"},
    ],
)
async def test_caller_answers_401_when_its_headers_do_not_agree_on_a_valid_key(
    api: Api, headers: dict[str, str]
) -> None:
    """Nothing is guessed from contradictory or foreign credentials."""
    reply = await api.call("GET", "/sessions/list", key=None, headers=headers)

    assert (reply.status, reply.error) == (401, "UNAUTHORIZED")


async def test_refusals_come_in_order(api: Api) -> None:
    """Unknown route, then key, then right, then body, then session."""
    created = await api.create()
    wrong = {"url": "x"}

    unknown_route = await api.call("PUT", "/sessions/nobody/nothing", wrong, key=None)
    no_key = await api.call("PUT", "/sessions/nobody/webhook", wrong, key=None)
    forbidden = await api.call("PUT", "/sessions/nobody/webhook", wrong, key=created["api_key"])
    invalid = await api.call("PUT", "/sessions/nobody/webhook", wrong)

    assert [reply.status for reply in (unknown_route, no_key, forbidden, invalid)] == [404, 401, 403, 422]


async def test_metrics_open_to_their_token_and_the_operator_on_a_public_address(public_api: Api) -> None:
    """Prometheus needs no more than its own token."""
    statuses = {
        key: (await public_api.call("GET", "/metrics", key=key)).status for key in (OPERATOR_KEY, METRICS_TOKEN, None)
    }
    bearer = await public_api.call("GET", "/metrics", key=None, headers={"Authorization": f"Bearer {METRICS_TOKEN}"})

    assert statuses == {OPERATOR_KEY: 200, METRICS_TOKEN: 200, None: 401}
    assert bearer.status == 200


async def test_metrics_need_no_key_on_loopback(api: Api) -> None:
    """Who is on the machine may see its figures."""
    assert (await api.call("GET", "/metrics", key=None)).status == 200


FOREIGN = [
    {"X-Forwarded-For": "10.0.0.1"},
    {"X-Forwarded-Proto": "https"},
    {"X-Forwarded-Anything": "x"},
    {"Forwarded": "for=10.0.0.1"},
    {"X-Real-IP": "10.0.0.1"},
    {"Via": "1.1 proxy"},
    {"Origin": "https://evil.example"},
    {"Origin": "null"},
    {"Origin": "http://localhost.evil.example"},
    {"Origin": "http://localhost:8080@evil.example"},
    {"Origin": "http://127.0.0.1.evil.example:8080"},
    {"Host": "evil.example"},
    {"Host": "evil.example:8080"},
    {"Host": "localhost.evil.example"},
    {"Host": "127.0.0.2"},
    {"Host": "0.0.0.0:8080"},
    {"Host": "localhost:80 "[:-1] + "80x"},
]


@pytest.mark.parametrize("headers", FOREIGN, ids=str)
@pytest.mark.parametrize("path", ["/health", "/sessions/list", "/docs", "/openapi.json", "/metrics", "/nothing"])
async def test_keyless_service_answers_403_when_the_request_may_come_from_elsewhere(
    keyless_api: Api, headers: dict[str, str], path: str
) -> None:
    """Without a key, neither a proxy nor a web page nor a rebound name gets through, whatever the route."""
    reply = await keyless_api.call("GET", path, headers=headers)

    assert (reply.status, reply.error) == (403, "FORBIDDEN")


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Origin": "http://localhost:3000"},
        {"Origin": "https://127.0.0.1"},
        {"Origin": "http://[::1]:8080"},
        {"Host": "localhost"},
        {"Host": "LOCALHOST:8080"},
        {"Host": "127.0.0.1:9"},
        {"Host": "[::1]:8080"},
    ],
    ids=str,
)
async def test_keyless_service_lets_this_machine_in(keyless_api: Api, headers: dict[str, str]) -> None:
    """Whoever is on the machine is the operator."""
    reply = await keyless_api.call("GET", "/sessions/list", headers=headers)

    assert reply.status == 200


@pytest.mark.parametrize("headers", FOREIGN[:3], ids=str)
async def test_service_with_a_key_takes_requests_through_proxies(api: Api, headers: dict[str, str]) -> None:
    """Where a key protects the service, proxies are welcome."""
    assert (await api.call("GET", "/sessions/list", headers=headers)).status == 200


async def test_keyless_service_still_knows_junk_keys_from_none(keyless_api: Api) -> None:
    """A key that opens nothing is a mistake worth telling."""
    created = await keyless_api.create()

    junk = await keyless_api.call("GET", "/sessions/list", key="junk")
    own = await keyless_api.call("GET", "/sessions/list", key=created["api_key"])

    assert (junk.status, own.status) == (401, 403)
