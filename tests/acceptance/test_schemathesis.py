"""Schemathesis against the running API: no crash, and no answer that the document does not describe."""

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, settings

from tests.acceptance.api import OPERATOR_KEY, Api, running_api
from tests.acceptance.document import document
from zpmeow.events import RequestCrashed

# The coverage phase would draw texts of exactly 2,048 characters for patterns, half a minute of it while pytest
# collects; test_input has such bounds.
CONFIG = schemathesis.Config.from_dict({"phases": {"coverage": {"enabled": False}}})
SCHEMA = schemathesis.openapi.from_dict(document(), config=CONFIG)


class ServingThread:
    """An API on an event loop of its own, because schemathesis blocks the one it runs on."""

    def __init__(self) -> None:
        """Start, and return once it serves."""
        self.api: Api | None = None
        self._ready = threading.Event()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=lambda: self._loop.run_until_complete(self._serve()))
        self._thread.start()
        assert self._ready.wait(10), "the API did not start"

    async def _serve(self) -> None:
        self._stop = asyncio.Event()
        async with running_api(is_loopback=False) as self.api:
            self._ready.set()
            await self._stop.wait()

    def ensure_session(self) -> None:
        """Make the session that the calls are about, unless it is there."""
        asyncio.run_coroutine_threadsafe(self._ensure_session(), self._loop).result(10)

    async def _ensure_session(self) -> None:
        assert self.api is not None
        reply = await self.api.call("POST", "/sessions/create", {"name": "test-session"})
        assert reply.status in (201, 409)

    def close(self) -> None:
        """Stop."""
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(10)
        self._loop.close()


@pytest.fixture(scope="module")
def serving() -> Iterator[ServingThread]:
    """One API for all cases."""
    thread = ServingThread()
    try:
        yield thread
    finally:
        thread.close()


@SCHEMA.hook
def map_path_parameters(_context: object, parameters: dict[str, Any] | None) -> dict[str, Any] | None:
    """Let about half of the calls be about a session that exists."""
    if parameters and len(str(parameters.get("sessionId", ""))) % 2 == 0:
        parameters["sessionId"] = "test-session"
    return parameters


@SCHEMA.hook
def map_query(_context: object, query: dict[str, Any] | None) -> dict[str, Any] | None:
    """Let nobody wait for a minute who says so rightly."""
    if query and str(query.get("wait", "")).isdecimal() and int(query["wait"]) <= 60:
        query["wait"] = 0
    return query


@SCHEMA.parametrize()
@settings(max_examples=25, suppress_health_check=list(HealthCheck))
def test_answer_is_described_whatever_is_sent(case: schemathesis.Case[Any], serving: ServingThread) -> None:
    """Valid or not, each call gets an answer that the document knows, and nothing crashes."""
    serving.ensure_session()
    assert serving.api is not None

    case.call_and_validate(base_url=serving.api.url, headers={"X-API-Key": OPERATOR_KEY})

    assert not serving.api.events.of(RequestCrashed)
