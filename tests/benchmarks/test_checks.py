"""What is held against a subject before its figures count."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from aiohttp import web
from typing_extensions import override

from benchmarks.harness.checks import bodies, require_same_bodies, require_source
from benchmarks.harness.stage import Target
from benchmarks.harness.subjects import Stores, Subject
from benchmarks.harness.wrk import LoadFailedError

TARGETS = [Target(session_id=str(number), key="k") for number in range(3)]


class Scripted(Subject):
    """Answers with a session's id, as from the sources that it is told, in turn; the last one stays."""

    def __init__(self) -> None:
        """Answer from the cache."""
        super().__init__("scripted")
        self.sources = ["hit"]
        self.status = 200
        self.port = 0

    async def answer(self, request: web.Request) -> web.Response:
        """Answer a read."""
        source = self.sources.pop(0) if len(self.sources) > 1 else self.sources[0]
        return web.Response(text=request.match_info["id"], status=self.status, headers={"Cache-Status": source})

    @property
    @override
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    @override
    def pid(self) -> int:
        raise NotImplementedError

    @override
    def start(self, stores: Stores) -> None:
        raise NotImplementedError

    @override
    def stop(self) -> None:
        raise NotImplementedError


@pytest.fixture
async def subject() -> AsyncIterator[Scripted]:
    """A subject that listens."""
    subject, app = Scripted(), web.Application()
    app.router.add_get("/sessions/{id}/info", subject.answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    subject.port = runner.addresses[0][1]
    yield subject
    await runner.cleanup()


async def test_same_bodies_are_taken(subject: Scripted) -> None:
    """Each session's own."""
    expected = await asyncio.to_thread(bodies, subject, TARGETS)

    assert expected == {"0": b"0", "1": b"1", "2": b"2"}
    await asyncio.to_thread(require_same_bodies, subject, TARGETS, expected)


async def test_other_body_is_refused(subject: Scripted) -> None:
    """One of them is enough."""
    with pytest.raises(LoadFailedError, match="scripted answers b'2' instead of b'two'"):
        await asyncio.to_thread(require_same_bodies, subject, TARGETS, {"0": b"0", "1": b"1", "2": b"two"})


async def test_error_is_refused(subject: Scripted) -> None:
    """Whatever its body says."""
    subject.status = 500

    with pytest.raises(LoadFailedError, match="/sessions/0/info was answered 500"):
        await asyncio.to_thread(bodies, subject, TARGETS)


async def test_expired_entry_is_fetched_first(subject: Scripted) -> None:
    """The read after that is answered from where it should be."""
    subject.sources = ["fwd=miss", "hit"]

    await asyncio.to_thread(require_source, subject, TARGETS[0], "hit")


async def test_other_source_is_refused(subject: Scripted) -> None:
    """Then the state is not the one that is to be measured."""
    subject.sources = ["fwd=bypass"]

    with pytest.raises(LoadFailedError, match="answers with Cache-Status 'fwd=bypass', not 'hit'"):
        await asyncio.to_thread(require_source, subject, TARGETS[0], "hit")
