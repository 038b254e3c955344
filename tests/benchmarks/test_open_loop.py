"""The open-loop client's judgement."""

import asyncio
from collections.abc import AsyncIterator, Callable

import orjson
import pytest
from aiohttp import web

from benchmarks.harness.open_loop import OpenLoop
from benchmarks.harness.stage import Target

TARGETS = [Target(session_id=str(number), key="k") for number in range(3)]


class Service:
    """Keeps webhooks, and answers what it is told to instead."""

    def __init__(self) -> None:
        """Answer with what was written last."""
        self.urls: dict[str, str] = {}
        self.instead: Callable[[str], web.Response] | None = None
        self.refuses_changes = False
        self.port = 0

    async def read(self, request: web.Request) -> web.Response:
        """Show a session."""
        session_id = request.match_info["id"]
        if self.instead is not None:
            return self.instead(session_id)
        return shown(session_id, self.urls[session_id])

    async def change(self, request: web.Request) -> web.Response:
        """Change one, or say that it cannot be done."""
        if self.refuses_changes:
            return web.Response(status=503)
        self.urls[request.match_info["id"]] = orjson.loads(await request.read())["url"]
        return web.json_response({})


def shown(session_id: str, url: str) -> web.Response:
    """Make the answer that shows it."""
    return web.json_response({"data": {"session_id": session_id, "session": {"webhook": {"url": url}}}})


@pytest.fixture
async def service() -> AsyncIterator[Service]:
    """A running service."""
    service, app = Service(), web.Application()
    app.router.add_get("/sessions/{id}/info", service.read)
    app.router.add_put("/sessions/{id}/webhook", service.change)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    service.port = runner.addresses[0][1]
    yield service
    await runner.cleanup()


@pytest.fixture
async def calls(service: Service) -> AsyncIterator[OpenLoop]:
    """A client that has changed each session once."""
    calls = OpenLoop(port=service.port, targets=TARGETS, seed=1)
    await calls.change_all()
    yield calls
    calls.close()
    await asyncio.sleep(0)


async def test_load_finds_no_fault_when_there_is_none(calls: OpenLoop) -> None:
    """Reads and changes at once; every session is known after it."""
    seen = await calls.run(0.5)

    assert len(seen.seconds) + seen.changes == 110
    assert seen.changes
    assert not seen.faults
    assert not (await calls.read_all()).faults


async def test_answer_is_old_when_a_newer_change_was_acknowledged(service: Service, calls: OpenLoop) -> None:
    """The change before the last one is not good enough."""
    service.instead = lambda session_id: shown(session_id, "https://hooks.test/0")

    assert (await calls.read_all()).faults == {"old": 3}


async def test_answer_is_wrong_when_nobody_wrote_it(service: Service, calls: OpenLoop) -> None:
    """Another session's, never written, or no JSON."""
    answers = iter([shown("9", service.urls["0"]), shown("1", "https://hooks.test/99"), web.Response(body=b"garbage")])
    service.instead = lambda _session_id: next(answers)

    assert (await calls.read_all()).faults == {"wrong": 3}


async def test_answer_has_failed_when_it_is_an_error(service: Service, calls: OpenLoop) -> None:
    """Whatever its body says."""
    service.instead = lambda _session_id: web.Response(status=500)

    assert (await calls.read_all()).faults == {"failed": 3}


async def test_refused_change_may_be_seen_or_not(service: Service, calls: OpenLoop) -> None:
    """It binds no read."""
    service.refuses_changes = True
    seen = await calls.run(0.5)

    assert seen.changes_failed == seen.changes > 0
    assert not seen.faults
    assert not (await calls.read_all()).faults
