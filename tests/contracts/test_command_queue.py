"""What every `CommandQueue` promises, whoever implements it, and what wishes leave in it."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from uuid import UUID, uuid4

import pytest

from tests.fakes.in_memory_command_queue import InMemoryCommandQueue
from tests.fakes.in_memory_session_repository import InMemorySessionRepository
from tests.servers.postgres_server import PostgresServer
from zpmeow.domain import transitions
from zpmeow.domain.commands import CommandAction, CommandQueue, Delivery, EnginePosition
from zpmeow.domain.errors import AlreadyConnected, CommandNotFound, SessionNotFound, SessionNotHeld
from zpmeow.domain.ports import NewSession, OverduePromises, SessionRepository
from zpmeow.domain.records import Entity, SessionStatus
from zpmeow.domain.references import ById
from zpmeow.postgres.command_queue import PostgresCommandQueue
from zpmeow.postgres.database import Database
from zpmeow.postgres.migrations import migrate
from zpmeow.postgres.promises import PostgresOverduePromises
from zpmeow.postgres.session_repository import PostgresSessionRepository

LEASE_SECONDS = 30.0
PHONE = "5511999999999"
AGE = """
UPDATE engine_commands
SET created_at = created_at - $1::interval, expires_at = expires_at - $1::interval,
    leased_until = leased_until - $1::interval, ended_at = ended_at - $1::interval
"""


@dataclass(kw_only=True)
class Subject:
    """A queue, the sessions whose wishes end up in it, and a way to let time pass."""

    queue: CommandQueue
    sessions: SessionRepository
    promises: OverduePromises
    wait: Callable[[timedelta], Awaitable[object]]

    async def create(self, name: str = "test-session") -> UUID:
        """Make a session."""
        made = await self.sessions.create(NewSession(name=name, key_hash=sha256(name.encode()).digest()))
        return made.session.id

    async def connect(self, session: UUID) -> None:
        """Wish it to be connected."""
        await self.sessions.change_status(ById(session), transitions.connect)

    async def disconnect(self, session: UUID) -> None:
        """Wish it to be disconnected."""
        await self.sessions.change_status(ById(session), transitions.disconnect)

    async def pair(self, session: UUID, phone: str = PHONE) -> None:
        """Wish it to be paired."""
        await self.sessions.change_status(ById(session), transitions.pair(phone))

    async def take(self, engine: UUID | EnginePosition | None = None, *, sessions: int = 10) -> Delivery:
        """Take commands for an engine, another one each time unless it is named."""
        position = engine if isinstance(engine, EnginePosition) else EnginePosition(engine=engine or uuid4())
        return await self.queue.take(position, sessions=sessions, lease_seconds=LEASE_SECONDS)

    async def taken(self, engine: UUID | EnginePosition | None = None, *, sessions: int = 10) -> list[str]:
        """Take commands and return what is to be done."""
        return [str(command.action) for command in (await self.take(engine, sessions=sessions)).commands]


@pytest.fixture(scope="session")
def shared_database_url(postgres_server: PostgresServer) -> str:
    """One database for all of this suite."""
    return postgres_server.create_database("command_queue_contract")


@pytest.fixture(params=["in_memory", "postgres"])
async def subject(request: pytest.FixtureRequest) -> AsyncIterator[Subject]:
    """Each implementation in turn, without any command."""
    if request.param == "in_memory":
        passed = timedelta(0)

        async def wait(time: timedelta) -> None:
            nonlocal passed
            passed += time

        queue = InMemoryCommandQueue(now=lambda: datetime.now(UTC) + passed)
        sessions = InMemorySessionRepository(commands=queue)
        yield Subject(queue=queue, sessions=sessions, promises=sessions, wait=wait)
        return
    url = request.getfixturevalue("shared_database_url")
    await migrate(url=url)
    database = await Database.open(url=url, pool_size=8, timeout_seconds=10.0)
    try:
        await database.fetch("empty", "DELETE FROM sessions")
        await database.fetch("empty", "DELETE FROM engine_commands")
        truth = PostgresSessionRepository(database=database)
        yield Subject(
            queue=PostgresCommandQueue(database=database),
            sessions=truth,
            promises=PostgresOverduePromises(database=database),
            wait=lambda time: database.fetch("age", AGE, time),
        )
    finally:
        await database.close()


async def test_a_wish_leaves_a_command_with_all_that_an_engine_needs(subject: Subject) -> None:
    """A command says what to do with which session, since when and until when."""
    session = await subject.create()
    await subject.pair(session)

    delivery = await subject.take()

    (command,) = delivery.commands
    assert (command.session_id, command.action, command.phone) == (session, CommandAction.PAIR, PHONE)
    assert command.deliveries == 1
    assert command.expires_at - command.created_at <= timedelta(minutes=2, seconds=1)
    assert PHONE not in repr(delivery)


async def test_a_refused_wish_leaves_nothing(subject: Subject) -> None:
    """Command and change are one: where the change is refused there is no command."""
    session = await subject.create()
    await subject.sessions.change_status(ById(session), transitions.report(SessionStatus.CONNECTING, None))
    await subject.sessions.change_status(ById(session), transitions.report(SessionStatus.CONNECTED, None))

    with pytest.raises(AlreadyConnected):
        await subject.connect(session)

    assert await subject.taken() == []


async def test_disconnecting_what_is_disconnected_leaves_nothing(subject: Subject) -> None:
    """There is nothing for an engine to do."""
    session = await subject.create()

    await subject.disconnect(session)

    assert await subject.taken() == []


async def test_a_command_is_lent_to_one_engine_at_a_time(subject: Subject) -> None:
    """While an engine has a command nobody else gets it, and the answer tells when to ask again."""
    await subject.connect(await subject.create())

    first, second = await subject.take(), await subject.take()

    assert [command.action for command in first.commands] == ["connect"]
    assert second.commands == []
    assert second.due_in_seconds is not None
    assert 0 < second.due_in_seconds <= LEASE_SECONDS


async def test_a_command_comes_back_when_nobody_acknowledges_it(subject: Subject) -> None:
    """After its lease any engine gets it, and can see that it was delivered before."""
    await subject.connect(await subject.create())
    await subject.take()

    await subject.wait(timedelta(seconds=LEASE_SECONDS + 1))

    assert [command.deliveries for command in (await subject.take()).commands] == [2]


@pytest.mark.parametrize(("error", "outcome"), [(None, "done"), ("no such device", "failed")])
async def test_an_acknowledged_command_is_over(subject: Subject, error: str | None, outcome: str) -> None:
    """An engine's word ends a command for good; the same word again is understood, and changes nothing."""
    session = await subject.create()
    await subject.connect(session)
    (command,) = (await subject.take()).commands

    first = await subject.queue.acknowledge(command.id, error=error)
    again = await subject.queue.acknowledge(command.id, error="another word")
    await subject.wait(timedelta(seconds=LEASE_SECONDS + 1))

    assert (first.session_id, first.action, first.ended_as) == (session, "connect", outcome)
    assert again.ended_as is None
    assert await subject.taken() == []


async def test_an_unknown_command_cannot_be_acknowledged(subject: Subject) -> None:
    """A word on nothing is refused."""
    with pytest.raises(CommandNotFound):
        await subject.queue.acknowledge(uuid4(), error=None)


async def test_a_late_word_ends_a_command_that_is_lent_to_another(subject: Subject) -> None:
    """What has been done need not be done again, whoever has it now."""
    await subject.connect(await subject.create())
    (command,) = (await subject.take()).commands
    await subject.wait(timedelta(seconds=LEASE_SECONDS + 1))
    await subject.take()

    await subject.queue.acknowledge(command.id, error=None)
    await subject.wait(timedelta(seconds=LEASE_SECONDS + 1))

    assert await subject.taken() == []


async def test_commands_of_a_session_are_delivered_in_order(subject: Subject) -> None:
    """All that is open comes together, in order; what is left later waits until the engine has said its word."""
    session = await subject.create()
    await subject.connect(session)
    await subject.pair(session)
    first = await subject.take()
    await subject.sessions.delete(ById(session))

    meanwhile = await subject.taken()
    for command in first.commands:
        await subject.queue.acknowledge(command.id, error=None)

    assert [command.action for command in first.commands] == ["connect", "pair"]
    assert meanwhile == []
    assert await subject.taken() == ["delete"]


async def test_sessions_do_not_wait_for_each_other(subject: Subject) -> None:
    """Order is a session's own: another session's command is lent at once, the oldest first, as many as asked for."""
    sessions = [await subject.create(f"session-{number}") for number in range(3)]
    for session in sessions:
        await subject.connect(session)

    first = await subject.take(sessions=2)
    second = await subject.take(sessions=2)

    assert [command.session_id for command in first.commands] == sessions[:2]
    assert [command.session_id for command in second.commands] == sessions[2:]


async def test_what_got_lost_on_the_way_is_delivered_again_at_once(subject: Subject) -> None:
    """An engine that asks with its old position has not got the answer; with the new one it has."""
    await subject.connect(await subject.create())
    before = EnginePosition(engine=uuid4())
    lost = await subject.take(before)

    again = await subject.take(before)
    others, after = await subject.taken(), await subject.taken(again.position)

    assert [command.id for command in again.commands] == [command.id for command in lost.commands]
    assert again.commands[0].deliveries == 2
    assert again.position.delivery > lost.position.delivery > 0
    assert others == after == []


async def test_a_released_delivery_is_free_at_once(subject: Subject) -> None:
    """What never reached its engine counts as not delivered."""
    await subject.connect(await subject.create())
    delivery = await subject.take()

    await subject.queue.release(delivery)

    assert [command.deliveries for command in (await subject.take()).commands] == [1]


async def test_release_takes_nothing_from_another_engine(subject: Subject) -> None:
    """A release that comes late does not touch what another engine has by now."""
    await subject.connect(await subject.create())
    late = await subject.take()
    await subject.wait(timedelta(seconds=LEASE_SECONDS + 1))
    await subject.take()

    await subject.queue.release(late)

    assert await subject.taken() == []


@pytest.mark.parametrize(
    ("action", "minutes"),
    [("connect", 1440), ("disconnect", 1440), ("pair", 2), ("delete", 1440)],
)
async def test_an_expired_command_is_not_delivered(subject: Subject, action: str, minutes: int) -> None:
    """A command has its time; after that nobody is bothered with it."""
    session = await subject.create()
    if action == "disconnect":
        await subject.sessions.change_status(ById(session), transitions.report(SessionStatus.CONNECTING, None))
    if action == "delete":
        await subject.sessions.delete(ById(session))
    else:
        await {"connect": subject.connect, "disconnect": subject.disconnect, "pair": subject.pair}[action](session)

    await subject.wait(timedelta(minutes=minutes) - timedelta(seconds=10))
    in_time = await subject.take()
    await subject.queue.release(in_time)
    await subject.wait(timedelta(seconds=11))

    assert [command.action for command in in_time.commands] == [action]
    assert await subject.taken() == []


async def test_a_wish_is_left_anew_when_its_command_has_expired(subject: Subject) -> None:
    """Whoever wishes again while nobody came gets another command."""
    session = await subject.create()
    await subject.connect(session)
    await subject.wait(timedelta(hours=25))

    await subject.connect(session)

    assert await subject.taken() == ["connect"]


@pytest.mark.parametrize(
    ("wishes", "open_commands"),
    [
        (["connect", "connect"], ["connect"]),
        (["connect", "pair"], ["connect", "pair"]),
        (["pair", "connect"], ["pair", "connect"]),
        (["pair", "connect", "connect"], ["pair", "connect"]),
        (["connect", "pair", "disconnect"], ["disconnect"]),
        (["pair", "pair"], ["pair"]),
        (["connect", "disconnect"], ["disconnect"]),
        (["pair", "disconnect"], ["disconnect"]),
        (["connect", "disconnect", "disconnect"], ["disconnect"]),
        (["connect", "disconnect", "connect"], ["connect"]),
        (["connect", "disconnect", "pair"], ["pair"]),
        (["connect", "delete"], ["delete"]),
        (["connect", "pair", "disconnect", "delete"], ["delete"]),
    ],
)
async def test_a_new_wish_withdraws_what_it_makes_pointless(
    subject: Subject, wishes: list[str], open_commands: list[str]
) -> None:
    """What nobody wants any more is not delivered; what is said already is not said twice."""
    session = await subject.create()
    for wish in wishes:
        match wish:
            case "delete":
                await subject.sessions.delete(ById(session))
            case "connect":
                await subject.connect(session)
            case "pair":
                await subject.pair(session)
            case _:
                await subject.disconnect(session)

    assert await subject.taken() == open_commands


@pytest.mark.parametrize("ends", ["acknowledged", "lease over"])
async def test_what_comes_after_a_withdrawn_command_waits_for_its_engine(subject: Subject, ends: str) -> None:
    """An engine that has a command may be at it: what undoes it waits for its word, or its time."""
    session = await subject.create()
    await subject.connect(session)
    (command,) = (await subject.take()).commands
    await subject.disconnect(session)

    meanwhile = await subject.take()
    if ends == "acknowledged":
        assert (await subject.queue.acknowledge(command.id, error=None)).ended_as == "withdrawn"
    else:
        await subject.wait(timedelta(seconds=LEASE_SECONDS + 1))

    assert meanwhile.commands == []
    assert meanwhile.due_in_seconds is not None
    assert await subject.taken() == ["disconnect"]
    assert (await subject.queue.acknowledge(command.id, error=None)).ended_as is None or ends == "lease over"


async def test_a_silent_engine_leaves_a_command_to_connect_when_that_is_wished(subject: Subject) -> None:
    """Any engine takes over what fell silent, if its owner still wants it connected."""
    wanted, unwanted = await subject.create("wanted"), await subject.create("unwanted")
    await subject.connect(wanted)
    (command,) = (await subject.take()).commands
    await subject.queue.acknowledge(command.id, error=None)
    for session in (wanted, unwanted):
        await subject.sessions.change_status(ById(session), transitions.report(SessionStatus.CONNECTING, None, 0.001))
    await asyncio.sleep(0.01)

    assert await subject.promises.record_silence(limit=10) == 2

    delivery = await subject.take()
    assert [(one.session_id, one.action) for one in delivery.commands] == [(wanted, "connect")]


async def test_old_commands_are_removed_when_nobody_needs_them_any_more(subject: Subject) -> None:
    """What ended or expired long ago goes; what is open or ended lately stays."""
    ended, expired, is_open = [await subject.create(name) for name in ("ended", "expired", "open")]
    await subject.connect(ended)
    await subject.pair(expired)
    first = await subject.take()
    await subject.queue.acknowledge(first.commands[0].id, error=None)
    await subject.wait(timedelta(minutes=30))
    await subject.connect(is_open)

    early = await subject.queue.prune(older_than_seconds=3600)
    await subject.wait(timedelta(minutes=40))
    late = await subject.queue.prune(older_than_seconds=3600)

    assert (early, late) == (0, 2)
    assert await subject.taken() == ["connect"]
    with pytest.raises(CommandNotFound):
        await subject.queue.acknowledge(first.commands[0].id, error=None)


async def test_many_engines_share_the_work_without_doing_any_of_it_twice(subject: Subject) -> None:
    """Of many who ask at once each command goes to one, and none is left."""
    sessions = [await subject.create(f"session-{number}") for number in range(40)]
    await asyncio.gather(*(subject.connect(session) for session in sessions))
    await asyncio.gather(*(subject.pair(session) for session in sessions))
    got: list[tuple[UUID, str]] = []

    async def work() -> None:
        position = EnginePosition(engine=uuid4())
        while (delivery := await subject.take(position, sessions=3)).commands or len(got) < 80:
            position = delivery.position
            for command in delivery.commands:
                got.append((command.session_id, command.action))
                await subject.queue.acknowledge(command.id, error=None)
            if not delivery.commands:
                await asyncio.sleep(0.01)

    await asyncio.wait_for(asyncio.gather(*(work() for _ in range(6))), 30)

    assert sorted(got) == sorted((session, action) for session in sessions for action in ("connect", "pair"))
    for session in sessions:
        assert [action for owner, action in got if owner == session] == ["connect", "pair"]


async def report(subject: Subject, session: UUID, engine: UUID) -> None:
    """Report as the engine that has the session."""
    await subject.sessions.change_status(
        ById(session), transitions.report(SessionStatus.CONNECTING, None, 60), holder=engine
    )


async def test_the_engine_that_took_the_command_has_the_session(subject: Subject) -> None:
    """Its reports count; those of an engine that took nothing do not."""
    session, engine = await subject.create(), uuid4()
    await subject.connect(session)
    with pytest.raises(SessionNotHeld):
        await report(subject, session, engine)

    await subject.take(engine)

    await report(subject, session, engine)
    with pytest.raises(SessionNotHeld):
        await report(subject, session, uuid4())


async def test_an_engine_has_lost_the_session_when_another_took_over(subject: Subject) -> None:
    """Whoever got the command last has the session, however alive the one before is."""
    session, first, second = await subject.create(), uuid4(), uuid4()
    await subject.connect(session)
    await subject.take(first)
    await subject.wait(timedelta(seconds=LEASE_SECONDS + 1))

    await subject.take(second)

    await report(subject, session, second)
    with pytest.raises(SessionNotHeld):
        await report(subject, session, first)


async def test_nobody_has_a_session_that_is_to_be_disconnected(subject: Subject) -> None:
    """From the wish on, its engine is heard no more, whether it has got the command or not."""
    session, engine = await subject.create(), uuid4()
    await subject.connect(session)
    await subject.take(engine)
    await subject.disconnect(session)

    with pytest.raises(SessionNotHeld):
        await report(subject, session, engine)

    await subject.connect(session)
    with pytest.raises(SessionNotHeld):
        await report(subject, session, engine)


async def test_a_refused_report_changes_nothing(subject: Subject) -> None:
    """What an engine without the session says leaves no trace."""
    session = await subject.create()

    with pytest.raises(SessionNotHeld):
        await report(subject, session, uuid4())

    found = await subject.sessions.find(ById(session), frozenset({Entity.STATUS}))
    assert found is not None
    assert found.status.status is SessionStatus.DISCONNECTED


async def test_a_wish_that_waits_already_waits_for_longer(subject: Subject) -> None:
    """Said again, a wish is as young as its last word."""
    session = await subject.create()
    await subject.connect(session)
    await subject.wait(timedelta(hours=23))

    await subject.connect(session)
    await subject.wait(timedelta(hours=23))

    assert await subject.taken() == ["connect"]


async def test_a_wish_outlives_the_code_that_nobody_entered(subject: Subject) -> None:
    """Who wished to pair, and then to connect, is connected though the pairing has expired."""
    session = await subject.create()
    await subject.pair(session)
    await subject.connect(session)

    await subject.wait(timedelta(minutes=3))

    assert await subject.taken() == ["connect"]


@pytest.mark.parametrize(
    ("error", "status", "left"),
    [
        (None, SessionStatus.CONNECTING, []),
        (None, SessionStatus.CONNECTED, []),
        (None, SessionStatus.ERROR, ["connect"]),
        ("no such device", SessionStatus.CONNECTING, ["connect"]),
    ],
)
async def test_what_was_wished_while_an_engine_was_at_it_is_done_with_it(
    subject: Subject, error: str | None, status: SessionStatus, left: list[str]
) -> None:
    """A second wish to connect costs no second engine if the first one got through, and is not lost if it did not."""
    session = await subject.create()
    await subject.connect(session)
    (command,) = (await subject.take()).commands
    await subject.connect(session)
    meanwhile = await subject.taken()
    await subject.sessions.change_status(ById(session), transitions.report(status, None))

    await subject.queue.acknowledge(command.id, error=error)

    assert meanwhile == []
    assert await subject.taken() == left


async def test_a_takeover_is_not_lost_when_the_engine_fell_silent_before_it_acknowledged(subject: Subject) -> None:
    """What the sweep left while the command was lent stays: the engine's word is older than its silence."""
    session = await subject.create()
    await subject.connect(session)
    (command,) = (await subject.take()).commands
    await subject.sessions.change_status(ById(session), transitions.report(SessionStatus.CONNECTING, None, 0.001))
    await asyncio.sleep(0.01)
    await subject.promises.record_silence(limit=10)

    await subject.queue.acknowledge(command.id, error=None)

    assert await subject.taken() == ["connect"]


async def test_an_engine_that_says_who_it_is_ends_no_command_of_another(subject: Subject) -> None:
    """A word that comes too late does not end what another engine is at; its own does."""
    first, second = uuid4(), uuid4()
    await subject.connect(await subject.create())
    (command,) = (await subject.take(first)).commands
    await subject.wait(timedelta(seconds=LEASE_SECONDS + 1))
    await subject.take(second)

    with pytest.raises(SessionNotHeld):
        await subject.queue.acknowledge(command.id, error="frozen", engine=first)

    assert (await subject.queue.acknowledge(command.id, error=None, engine=second)).ended_as == "done"
    assert (await subject.queue.acknowledge(command.id, error=None, engine=first)).ended_as is None


async def test_an_engine_can_end_its_command_after_the_lease_while_nobody_has_it(subject: Subject) -> None:
    """Late, but in time: what is done need not be done again."""
    engine = uuid4()
    await subject.connect(await subject.create())
    (command,) = (await subject.take(engine)).commands
    await subject.wait(timedelta(seconds=LEASE_SECONDS + 1))

    assert (await subject.queue.acknowledge(command.id, error=None, engine=engine)).ended_as == "done"
    assert await subject.taken() == []


async def test_release_does_not_touch_what_was_delivered_since(subject: Subject) -> None:
    """A delivery that got lost is given back late, when the same commands have reached the engine by another one."""
    await subject.connect(await subject.create())
    before = EnginePosition(engine=uuid4())
    lost = await subject.take(before)
    await subject.take(before)

    await subject.queue.release(lost)

    assert await subject.taken() == []


@pytest.mark.parametrize("what", ["qr", "pairing code", "device"])
async def test_only_the_engine_that_has_the_session_brings_codes_and_devices(subject: Subject, what: str) -> None:
    """An engine that has lost the session cannot show a code in it, if it says who it is."""
    session, engine = await subject.create(), uuid4()
    await subject.connect(session)
    await subject.take(engine)
    writes: dict[str, Callable[[UUID], Awaitable[object]]] = {
        "qr": lambda holder: subject.sessions.put_qr(ById(session), "code", 60, holder=holder),
        "pairing code": lambda holder: subject.sessions.put_pairing_code(ById(session), "ABCD", 60, holder=holder),
        "device": lambda holder: subject.sessions.put_credential(ById(session), "a@b", holder=holder),
    }

    await writes[what](engine)
    with pytest.raises(SessionNotHeld):
        await writes[what](uuid4())
    await subject.disconnect(session)
    with pytest.raises(SessionNotHeld):
        await writes[what](engine)

    found = await subject.sessions.find(ById(session), frozenset({Entity.QR}))
    assert found is not None
    assert (found.qr.code, found.qr.pairing_code) == (None, None)


async def test_an_engine_that_says_who_it_is_learns_that_the_session_is_gone(subject: Subject) -> None:
    """What is not there is not found, whoever asks."""
    with pytest.raises(SessionNotFound):
        await subject.sessions.put_qr(ById(uuid4()), "code", 60, holder=uuid4())
