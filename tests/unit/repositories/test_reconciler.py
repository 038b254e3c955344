"""The reconciler: a write in doubt is looked into until the truth has answered twice."""

import asyncio
from uuid import UUID, uuid4

from zpmeow.domain.errors import DatabaseUnavailable
from zpmeow.domain.records import ReadSource, Snapshot
from zpmeow.domain.references import ById, ByName, SessionReference
from zpmeow.repositories.reconciler import Reconciler


class Truth:
    """Answers from a list: an error is raised, anything else returned. Remembers what it was told."""

    def __init__(self, *answers: Snapshot | Exception | None) -> None:
        """Answer with these, in order."""
        self.answers = list(answers)
        self.found: list[Snapshot] = []
        self.gone: list[UUID] = []
        self.paused: list[float] = []

    async def find(self, _reference: SessionReference) -> Snapshot | None:
        """Give the next answer."""
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def take_found(self, snapshot: Snapshot) -> None:
        """Note a session that is there."""
        self.found.append(snapshot)

    async def take_gone(self, session_id: UUID) -> None:
        """Note a session that is not."""
        self.gone.append(session_id)

    async def sleep(self, seconds: float) -> None:
        """Note the pause; take no time."""
        self.paused.append(seconds)
        await asyncio.sleep(0)


def reconciler(truth: Truth) -> Reconciler:
    """Make one over this truth."""
    return Reconciler(find=truth.find, found=truth.take_found, gone=truth.take_gone, sleep=truth.sleep)


async def _until_done(subject: Reconciler) -> None:
    for _ in range(100):
        await asyncio.sleep(0)
    assert subject.in_doubt == 0


async def test_session_is_published_twice_when_the_truth_comes_back() -> None:
    """Once when it answers again, once more when nothing can be under way any longer."""
    snapshot = Snapshot(records={}, source=ReadSource.MISS)
    truth = Truth(DatabaseUnavailable(), DatabaseUnavailable(), snapshot, snapshot)
    subject = reconciler(truth)

    subject.start(ById(uuid4()))
    await _until_done(subject)

    assert truth.found == [snapshot, snapshot]
    assert truth.answers == []


async def test_session_is_removed_when_it_is_gone() -> None:
    """A delete in doubt that did happen clears the cache."""
    session_id = uuid4()
    truth = Truth(None, None)
    subject = reconciler(truth)

    subject.start(ById(session_id))
    await _until_done(subject)

    assert truth.gone == [session_id, session_id]


async def test_unknown_name_removes_nothing() -> None:
    """A name that leads nowhere tells nothing about any session."""
    truth = Truth(None, None)
    subject = reconciler(truth)

    subject.start(ByName("gone"))
    await _until_done(subject)

    assert (truth.found, truth.gone) == ([], [])


async def test_close_ends_what_is_in_doubt() -> None:
    """At the stop nothing is left running."""
    truth = Truth(*[DatabaseUnavailable() for _ in range(1000)])
    subject = reconciler(truth)
    subject.start(ById(uuid4()))
    await asyncio.sleep(0)

    await subject.close()

    assert subject.in_doubt == 0
