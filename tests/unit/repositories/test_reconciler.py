"""The reconciler: a write in doubt is looked into until the database has answered twice, one at a time."""

import asyncio
from uuid import uuid4

import pytest

from zpmeow.domain.errors import DatabaseUnavailable
from zpmeow.domain.references import ById, SessionReference
from zpmeow.events import BackgroundTaskCrashed, Event
from zpmeow.repositories import reconciler
from zpmeow.repositories.reconciler import Reconciler


class Bench:
    """A reconciler whose looks answer from a list of errors, and whose pauses take no time."""

    def __init__(self, *answers: Exception | None) -> None:
        """Answer with these first, then well."""
        self.answers = list(answers)
        self.looked: list[SessionReference] = []
        self.paused: list[float] = []
        self.lost = 0
        self.events: list[Event] = []
        self.now = 0.0
        self.subject = Reconciler(
            look=self.look,
            lost=self.lose,
            observer=self.events.append,
            sleep=self.sleep,
            monotonic=lambda: self.now,
        )

    async def look(self, reference: SessionReference) -> None:
        """Note the look; raise what the list says."""
        answer = self.answers.pop(0) if self.answers else None
        if answer is not None:
            raise answer
        self.looked.append(reference)

    def lose(self) -> None:
        """Note that track was lost."""
        self.lost += 1

    async def sleep(self, seconds: float) -> None:
        """Let the clock jump."""
        self.paused.append(seconds)
        self.now += seconds
        await asyncio.sleep(0)

    async def settle(self) -> None:
        """Let the tasks run."""
        for _ in range(200):
            await asyncio.sleep(0)


async def test_session_is_looked_at_twice_when_the_database_comes_back() -> None:
    """Once when it answers again, once more when nothing can be under way any longer."""
    bench = Bench(DatabaseUnavailable(), DatabaseUnavailable())
    reference = ById(uuid4())

    bench.subject.start(reference)
    await bench.settle()

    assert bench.looked == [reference, reference]
    assert bench.now >= 65
    assert bench.subject.in_doubt == 0
    assert bench.lost == 0


async def test_many_sessions_are_looked_at_one_at_a_time() -> None:
    """All get their two looks, in order."""
    bench = Bench()
    references = [ById(uuid4()) for _ in range(5)]

    for reference in references:
        bench.subject.start(reference)
    await bench.settle()

    assert bench.looked == references * 2


async def test_track_is_lost_when_too_many_are_in_doubt(monkeypatch: pytest.MonkeyPatch) -> None:
    """What cannot be remembered is told, never forgotten."""
    monkeypatch.setattr(reconciler, "MAX_IN_DOUBT", 2)
    bench = Bench()

    for _ in range(3):
        bench.subject.start(ById(uuid4()))

    assert (bench.subject.in_doubt, bench.lost) == (2, 1)
    await bench.subject.close()


async def test_track_is_lost_when_the_stop_comes_first() -> None:
    """A session still in doubt at the stop is nobody's business afterwards: the cache must become void."""
    bench = Bench(*[DatabaseUnavailable() for _ in range(1000)])
    bench.subject.start(ById(uuid4()))
    await asyncio.sleep(0)

    await bench.subject.close()

    assert bench.lost == 1


async def test_crash_is_told_and_track_is_lost() -> None:
    """An error that nobody expected leaves the session unknown."""
    crash = ValueError("bug")
    bench = Bench(crash)

    bench.subject.start(ById(uuid4()))
    await bench.settle()

    assert bench.events == [BackgroundTaskCrashed("reconcile", crash)]
    assert bench.lost == 1


async def test_doubt_that_comes_while_settling_is_looked_into_at_once() -> None:
    """Another write of the same session that breaks off begins anew."""
    bench = Bench()
    reference = ById(uuid4())
    bench.subject.start(reference)
    for _ in range(3):
        await asyncio.sleep(0)

    bench.subject.start(reference)
    await bench.settle()

    assert len(bench.looked) >= 3
    assert bench.subject.in_doubt == 0
