"""Real services for the tests of this folder: the process, its settings, and clients for it."""

from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import aiohttp
import pytest

from tests.acceptance.real.caller import ENGINE_KEY, OPERATOR_KEY, Caller
from tests.servers.service import Service

MakeService = Callable[..., Service]
MakeCaller = Callable[[Service], Caller]


@pytest.fixture
def new_service() -> Iterator[MakeService]:
    """Make services that are not started yet, with an operator's and an engine's key unless told otherwise.

    Without the tier inside the process, unless a test wants it: what most of them ask is what Redis says.
    """
    services: list[Service] = []

    def make(**settings: str) -> Service:
        port = settings.pop("SERVER_PORT", None)
        keys = {"GLOBAL_API_KEY": OPERATOR_KEY, "ENGINE_API_KEY": ENGINE_KEY, "CACHE_LOCAL_MAX_BYTES": "0"}
        environment = {name: value for name, value in {**keys, **settings}.items() if value}
        services.append(Service(environment=environment, port=None if port is None else int(port)))
        return services[-1]

    try:
        yield make
    finally:
        for service in reversed(services):
            service.close()


@pytest.fixture
async def client() -> AsyncIterator[aiohttp.ClientSession]:
    """A client without a limit on connections: whoever sends at a fixed rate must not wait for one."""
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=30)) as session:
        yield session


@pytest.fixture
def new_caller(client: aiohttp.ClientSession) -> MakeCaller:
    """Make callers of services."""
    return lambda service: Caller(service=service, client=client)


@pytest.fixture
def note(record_property: Callable[[str, Any], None]) -> Callable[[str, object], None]:
    """Keep a measured figure: in the report of the run, and in the test's output."""

    def keep(name: str, value: object) -> None:
        shown = f"{value:.3f}" if isinstance(value, float) else str(value)
        record_property(name, shown)
        print(f"\n{name}: {shown}", end="")  # noqa: T201  (a figure for the reader of the run)

    return keep
