"""Who waits for something in a session: woken by its change, and gone without a trace."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from tests.fakes.in_memory_session_repository import InMemorySessionRepository
from zpmeow.domain.changes import Change
from zpmeow.domain.errors import QrCodeNotFound, SessionNotFound, Stopping, Unauthorized
from zpmeow.domain.ports import SessionChanges
from zpmeow.domain.records import Entity, Snapshot
from zpmeow.domain.references import ById, ByKeyHash
from zpmeow.services.access import Admission, Role
from zpmeow.services.arrivals import Arrivals
from zpmeow.services.sessions import SessionService

LONG = 60.0


class WallClock:
    """The machine's time."""

    def now(self) -> datetime:
        """Return it."""
        return datetime.now(UTC)


class Room:
    """A session whose code is waited for."""

    def __init__(self) -> None:
        """Begin without a session."""
        self.arrivals = Arrivals()
        self.repository = InMemorySessionRepository(committed=self.arrivals.changed)
        self.sessions = SessionService(sessions=self.repository, clock=WallClock(), arrivals=self.arrivals)

    async def make(self) -> Admission:
        """Make the session; return an operator's admission to it."""
        made = await self.sessions.create(name="alpha", api_key=None, proxy_url=None, webhook=None)
        return Admission(role=Role.OPERATOR, reference=ById(made.snapshot.session.id))

    def wait(self, admission: Admission, seconds: float = LONG) -> "asyncio.Task[Snapshot]":
        """Wait for a code."""
        return asyncio.create_task(self.sessions.qr(admission, wait_seconds=seconds))


async def settle() -> None:
    """Let everything happen that can."""
    for _ in range(50):
        await asyncio.sleep(0)


async def test_who_waits_is_answered_when_the_code_comes() -> None:
    """All who wait for a session's code get it as soon as it is there, and nobody else is woken."""
    room = Room()
    admission, other = await room.make(), Admission(role=Role.OPERATOR, reference=None)
    waiting = [room.wait(admission) for _ in range(3)]
    await settle()
    before = [task.done() for task in waiting]

    await room.sessions.put_qr(admission, "code", 60)
    codes = [(await asyncio.wait_for(task, 1)).qr.code for task in waiting]

    assert before == [False] * 3
    assert codes == ["code"] * 3
    assert other.reference is None
    assert len(room.arrivals) == 0


async def test_who_waits_in_vain_is_told_so_when_the_time_is_over() -> None:
    """No code is no code, after the wait as before."""
    room = Room()
    admission = await room.make()

    with pytest.raises(QrCodeNotFound):
        await room.sessions.qr(admission, wait_seconds=0.01)

    assert len(room.arrivals) == 0


async def test_a_change_that_brings_no_code_does_not_end_the_wait() -> None:
    """Woken by a code to enter, who waits for one to scan goes on waiting."""
    room = Room()
    admission = await room.make()
    waiting = room.wait(admission)
    await settle()

    await room.sessions.put_pairing_code(admission, "ABCD-EFGH", 60)
    await settle()
    before = waiting.done()
    await room.sessions.put_qr(admission, "code", 60)

    assert not before
    assert (await asyncio.wait_for(waiting, 1)).qr.code == "code"


async def test_a_code_is_found_when_nobody_was_told_of_it() -> None:
    """What came while the feed was broken off is found when it is open again, and at the end of the wait."""
    room = Room()
    admission = await room.make()
    patient, impatient = room.wait(admission), room.wait(admission, 0.05)
    await settle()
    room.repository._committed = lambda _changes: None

    await room.sessions.put_qr(admission, "code", 60)

    assert (await asyncio.wait_for(impatient, 1)).qr.code == "code"
    assert not patient.done()
    room.arrivals.opened(database=bytes(16), since=datetime.now(UTC), heard_at=0.0)
    assert (await asyncio.wait_for(patient, 1)).qr.code == "code"


async def test_who_waits_for_a_session_that_goes_is_told_so() -> None:
    """A deleted session ends the wait."""
    room = Room()
    admission = await room.make()
    waiting = room.wait(admission)
    await settle()

    await room.sessions.delete(admission)

    with pytest.raises(SessionNotFound):
        await asyncio.wait_for(waiting, 1)


async def test_a_key_that_was_rotated_meanwhile_opens_nothing_any_more() -> None:
    """Who waits with a session's old key does not get the code."""
    room = Room()
    operator = await room.make()
    session = await room.repository.find(operator.target, frozenset(Entity))
    assert session is not None
    owner = Admission(role=Role.SESSION, reference=operator.reference, snapshot=session)
    waiting = room.wait(owner)
    await settle()

    await room.repository.update(operator.target, SessionChanges(key_hash=bytes(32)))
    await room.sessions.put_qr(operator, "code", 60)

    with pytest.raises(Unauthorized):
        await asyncio.wait_for(waiting, 1)
    assert await room.repository.find(ByKeyHash(bytes(32)), frozenset()) is not None


async def test_waits_end_when_the_service_stops() -> None:
    """Who waits is told to ask again; who comes later, too, unless the code is there."""
    room = Room()
    admission = await room.make()
    waiting = room.wait(admission)
    await settle()

    room.arrivals.end_waits()

    with pytest.raises(Stopping):
        await asyncio.wait_for(waiting, 1)
    with pytest.raises(Stopping):
        await asyncio.wait_for(room.wait(admission), 1)
    await room.sessions.put_qr(admission, "code", 60)
    assert (await room.wait(admission)).qr.code == "code"


async def test_who_hangs_up_leaves_nothing_behind() -> None:
    """A cancelled wait takes its place along."""
    room = Room()
    waiting = room.wait(await room.make())
    await settle()
    before = len(room.arrivals)

    waiting.cancel()
    await settle()

    assert (before, len(room.arrivals)) == (1, 0)


async def test_who_hangs_up_in_the_turn_in_which_he_is_woken_is_gone() -> None:
    """The news does not swallow the cancellation: nobody waits for a caller who is not there."""
    arrivals = Arrivals()
    with arrivals.watch("qr", "id") as watch:

        async def wait_on() -> None:
            while True:
                await watch.changed(asyncio.get_running_loop().time() + 10)

        waiting = asyncio.create_task(wait_on())
        await settle()

        watch.wake()
        await asyncio.sleep(0)  # `wait_for` has its result now, and would rather return it.
        waiting.cancel()
        await settle()

        assert waiting.cancelled()


async def test_an_expired_code_is_waited_for_anew() -> None:
    """A code whose time is over is none."""
    room = Room()
    admission = await room.make()
    await room.sessions.put_qr(admission, "old", 0.001)
    await asyncio.sleep(0.005)
    waiting = room.wait(admission)
    await settle()

    await room.sessions.put_qr(admission, "new", 60)

    assert (await asyncio.wait_for(waiting, 1)).qr.code == "new"


async def test_changes_of_nobody_wake_nobody() -> None:
    """What nobody waits for costs a look into an empty dictionary."""
    arrivals = Arrivals()
    with arrivals.watch("qr", "a") as watch:
        arrivals.changed([Change(entity="qr", key="b", version=1), Change(entity="status", key="a", version=1)])

        assert not await watch.changed(asyncio.get_running_loop().time() + timedelta(milliseconds=5).total_seconds())
