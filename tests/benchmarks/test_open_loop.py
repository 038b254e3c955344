"""The open-loop client's judgement."""

import asyncio
import math
import time
from collections.abc import AsyncIterator, Callable

import orjson
import pytest
from aiohttp import web

from benchmarks.harness.open_loop import OpenLoop, Seen
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

    assert seen.reads + seen.changes == 110
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


async def test_answer_is_wrong_when_it_has_not_the_members_of_one(service: Service, calls: OpenLoop) -> None:
    """A flipped bit in the name of a member leaves JSON that means nothing."""
    url = service.urls["0"]
    answers = iter(
        [
            {"data": {"sessiom_id": "0", "session": {"webhook": {"url": url}}}},
            {"data": {"session_id": "1", "session": {"webhook": {"url": None}}}},
            {"data": []},
        ]
    )
    service.instead = lambda _session_id: web.json_response(next(answers))

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


async def test_failed_reads_are_no_quick_answers(service: Service, calls: OpenLoop) -> None:
    """How long it took them to fail is kept apart."""
    answers = iter([web.Response(status=500), shown("1", service.urls["1"]), web.Response(status=500)])
    service.instead = lambda _session_id: next(answers)

    seen = await calls.read_all()

    assert (len(seen.answered_seconds), len(seen.failed_seconds), seen.reads) == (1, 2, 3)


def test_quantiles_are_of_answered_reads_and_the_longest_wait_of_all() -> None:
    """An error that comes at once makes no quantile smaller; one that comes late is a wait like any other."""
    seen = Seen(answered_seconds=[0.3, 0.1, 0.2], failed_seconds=[0.001] * 7 + [5.0])

    assert seen.quantile(0.5) == 0.2
    assert seen.quantile(0.99) == 0.3
    assert seen.longest_seconds == 5.0


def test_quantile_is_no_number_when_nothing_was_answered() -> None:
    """There is nothing that it could be of."""
    seen = Seen(failed_seconds=[1.0])

    assert math.isnan(seen.quantile(0.5))
    assert seen.longest_seconds == 1.0


async def test_time_runs_from_when_a_request_was_due(service: Service, calls: OpenLoop) -> None:
    """What is due while everything stands still has waited as long as that, and the load was none."""
    standing = iter([0.3])

    def stand_still_once(session_id: str) -> web.Response:
        time.sleep(next(standing, 0.0))
        return shown(session_id, service.urls[session_id])

    service.instead = stand_still_once
    seen = await calls.run(0.5)

    # Of the 66 that were due meanwhile, each tenth or so changes something.
    assert sum(seconds > 0.1 for seconds in seen.answered_seconds) > 20
    assert seen.late > 20
    assert not seen.is_load


def test_load_is_one_when_nearly_all_of_it_was_in_time() -> None:
    """The bound is 5 %."""
    assert Seen(answered_seconds=[0.1] * 90, changes=10, late=5).is_load
    assert not Seen(answered_seconds=[0.1] * 90, changes=10, late=6).is_load
