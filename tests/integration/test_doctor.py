"""The doctor before real servers: well, without a schema, away; and a real service, or something else, on the port."""

import http.server
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import ClassVar

import pytest
from typing_extensions import override

from tests.integration.test_relay import Bench
from tests.servers.redis_server import RedisServer
from zpmeow.cache.position import Position
from zpmeow.cli.doctor import examine
from zpmeow.cli.finding import Finding, Verdict
from zpmeow.postgres.migrations import migrate
from zpmeow.settings import load_settings

NOWHERE = {"SERVER_PORT": "1"}  # Nobody listens there.


async def found(**environ: str) -> dict[str, Finding]:
    """Return the last finding on each part."""
    findings = await examine(load_settings(NOWHERE | environ, None))
    return {finding.part: finding for finding in findings}


async def test_everything_is_ok_when_everything_is_there(database_url: str, redis_server: RedisServer) -> None:
    """Versions, places, schema, and a position that fits."""
    async with Bench.opened(database_url, redis_server):
        findings = await found(DATABASE_URL=database_url, REDIS_URL=redis_server.url)

    assert {finding.verdict for finding in findings.values()} == {Verdict.OK}
    assert "PostgreSQL" in findings["database"].text
    assert "Redis" in findings["redis"].text
    assert findings["schema"].text == "newest"
    assert "not running" in findings["service"].text


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (lambda position: replace(position, epoch=b"x" * 16), "another epoch or database"),
        (lambda position: replace(position, database=b"x" * 16), "another epoch or database"),
        (lambda position: replace(position, at_ms=position.at_ms - 60_000), "up to 6"),
    ],
    ids=["other epoch", "other database", "old"],
)
async def test_coherence_is_warned_of_when_the_position_does_not_fit(
    database_url: str, redis_server: RedisServer, change: Callable[[Position], Position], word: str
) -> None:
    """Redis is there, and nothing in it is believed: an operator learns why."""
    async with Bench.opened(database_url, redis_server) as bench:
        await bench.stop_relays()
        await bench.place_position(change)

        findings = await found(DATABASE_URL=database_url, REDIS_URL=redis_server.url)

    assert findings["coherence"].verdict is Verdict.WARNING
    assert word in findings["coherence"].text


async def test_coherence_is_warned_of_when_there_is_no_position(database_url: str, redis_server: RedisServer) -> None:
    """No service has run yet, or none leads."""
    await migrate(url=database_url)

    findings = await found(DATABASE_URL=database_url, REDIS_URL=redis_server.url)

    assert findings["coherence"].verdict is Verdict.WARNING
    assert "no position" in findings["coherence"].text


async def test_missing_schema_is_broken_and_says_how_to_mend_it(database_url: str, redis_server: RedisServer) -> None:
    """An empty database needs `zpmeow migrate`."""
    findings = await found(DATABASE_URL=database_url, REDIS_URL=redis_server.url)

    assert findings["schema"].is_broken
    assert "zpmeow migrate" in str(findings["schema"])


async def test_servers_that_are_away_are_broken_without_their_passwords() -> None:
    """Both are told at once, each with the variables to correct, and no password."""
    findings = await found(
        DATABASE_URL="postgresql://me:hunter2@127.0.0.1:1/db", REDIS_URL="redis://:hunter2@127.0.0.1:1/0"
    )

    assert findings["database"].is_broken
    assert findings["redis"].is_broken
    assert "DATABASE_URL" in str(findings["database"])
    assert "REDIS_URL" in str(findings["redis"])
    assert "hunter2" not in "".join(map(str, findings.values()))


async def test_redis_that_hangs_is_broken_within_the_doctors_patience(own_redis: RedisServer) -> None:
    """A paused server does not make the doctor hang."""
    own_redis.pause()

    findings = await found(DATABASE_URL="postgresql://127.0.0.1:1/db", REDIS_URL=own_redis.url)

    assert findings["redis"].is_broken


async def test_redis_is_not_asked_when_the_cache_is_off() -> None:
    """CACHE_ENABLED=false needs no Redis."""
    findings = await found(
        DATABASE_URL="postgresql://127.0.0.1:1/db", REDIS_URL="redis://127.0.0.1:1", CACHE_ENABLED="false"
    )

    assert findings["redis"].verdict is Verdict.OK


class CannedHandler(http.server.BaseHTTPRequestHandler):
    """Answers every GET with what it was given."""

    body: ClassVar[bytes] = b""

    def do_GET(self) -> None:
        """Answer."""
        self.send_response(200)
        self.end_headers()
        self.wfile.write(self.body)

    @override
    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@pytest.fixture
def canned_server() -> Iterator[int]:
    """Some HTTP server; yields its port."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), CannedHandler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


@pytest.mark.parametrize(
    ("body", "verdict"),
    [
        (b'{"success":true,"data":{"status":"ok"}}', Verdict.OK),
        (b'{"success":true,"data":{"status":"degraded"}}', Verdict.WARNING),
        (b'{"success":false,"data":{"status":"unhealthy"}}', Verdict.BROKEN),
        (b"<html>", Verdict.BROKEN),
        (b"[]", Verdict.BROKEN),
        (b'{"data":null}', Verdict.BROKEN),
    ],
)
async def test_service_is_judged_by_its_health(
    canned_server: int, body: bytes, verdict: Verdict, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A healthy service, a degraded one, an unhealthy one, and programs that are no zpmeow."""
    monkeypatch.setattr(CannedHandler, "body", body)

    findings = await found(
        SERVER_PORT=str(canned_server), DATABASE_URL="postgresql://127.0.0.1:1/db", CACHE_ENABLED="false"
    )

    assert findings["service"].verdict is verdict
