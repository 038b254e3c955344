"""The APIs that acceptance tests ask for."""

from collections.abc import AsyncIterator

import pytest

from tests.acceptance.api import Api, running_api


@pytest.fixture
async def api() -> AsyncIterator[Api]:
    """An API with an operator's and an engine's key, on loopback."""
    async with running_api() as running:
        yield running


@pytest.fixture
async def keyless_api() -> AsyncIterator[Api]:
    """An API without any configured key, on loopback."""
    async with running_api(operator_key="", engine_key="") as running:
        yield running


@pytest.fixture
async def public_api() -> AsyncIterator[Api]:
    """An API that believes it listens on a public address."""
    async with running_api(is_loopback=False) as running:
        yield running
