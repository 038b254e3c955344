"""Real servers for every test that asks for one; the tests of a session share one of each unless they break it.

Coroutines run on the event loop that the service runs on; a test that needs asyncio's own one asks for it by
`pytest.mark.asyncio(loop_factories=["asyncio"])`.

With ZPMEOW_FORBID_SKIPS=1 (`.ci/run`) a session in which anything was skipped has failed.
"""

import asyncio
import os
import uuid
from collections.abc import Callable, Iterator, Mapping

import hypothesis
import pytest
import uvloop

from tests.servers.postgres_server import PostgresInstallation, PostgresServer
from tests.servers.redis_server import RedisServer

# That a machine is slow, or stood still for a while, is no fault of what is tested.
hypothesis.settings.register_profile(
    "any machine", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("any machine")


def pytest_asyncio_loop_factories(
    config: pytest.Config,
    item: pytest.Item,
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Give coroutines their event loop: that of the service, where a test does not name another one."""
    marks = item.iter_markers("asyncio")
    asked_for = any("loop_factories" in mark.kwargs for mark in marks)
    return {"uvloop": uvloop.new_event_loop} | ({"asyncio": asyncio.new_event_loop} if asked_for else {})


@pytest.fixture(scope="session")
def shared_redis_server() -> Iterator[RedisServer]:
    """One Redis for the whole session; tests ask for `redis_server`, which is this one, emptied."""
    server = RedisServer()
    try:
        server.start()
        yield server
    finally:
        server.close()


@pytest.fixture
def redis_server(shared_redis_server: RedisServer) -> RedisServer:
    """The session's Redis without a key or a script; not to be killed, paused or configured."""
    shared_redis_server.flush()
    return shared_redis_server


@pytest.fixture
def own_redis() -> Iterator[RedisServer]:
    """A Redis of this test alone, which may do to it what it likes."""
    server = RedisServer()
    try:
        server.start()
        yield server
    finally:
        server.close()


@pytest.fixture(scope="session")
def postgres_installation() -> Iterator[PostgresInstallation]:
    """The programs of PostgreSQL, readable for the user that they run as."""
    installation = PostgresInstallation()
    try:
        yield installation
    finally:
        installation.close()


@pytest.fixture(scope="session")
def postgres_server(postgres_installation: PostgresInstallation) -> Iterator[PostgresServer]:
    """One PostgreSQL for the whole session; not to be killed or paused."""
    server = PostgresServer(installation=postgres_installation)
    try:
        server.start()
        yield server
    finally:
        server.close()


@pytest.fixture
def database_url(postgres_server: PostgresServer) -> Iterator[str]:
    """A fresh, empty database of this test alone on the session's server."""
    name = f"test_{uuid.uuid4().hex}"
    url = postgres_server.create_database(name)
    try:
        yield url
    finally:
        postgres_server.drop_database(name)


@pytest.fixture
def own_postgres(postgres_installation: PostgresInstallation) -> Iterator[PostgresServer]:
    """A PostgreSQL of this test alone, which may do to it what it likes."""
    server = PostgresServer(installation=postgres_installation)
    try:
        server.start()
        yield server
    finally:
        server.close()


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Fail the session for its skips where everything that tests need is installed."""
    if os.environ.get("ZPMEOW_FORBID_SKIPS") != "1":
        return
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if reporter is None or not reporter.stats.get("skipped"):
        return
    reporter.write_line("")
    reporter.write_line(f"ZPMEOW_FORBID_SKIPS: {len(reporter.stats['skipped'])} skipped, which counts as failure here")
    session.exitstatus = pytest.ExitCode.TESTS_FAILED
