"""Commands on their way to engines that wait: what is asked for when, and what becomes of those who hang up."""

import asyncio
from datetime import UTC, datetime
from uuid import UUID, uuid4

import pytest
from typing_extensions import override

from tests.fakes.in_memory_command_queue import InMemoryCommandQueue
from zpmeow.domain.commands import CommandAction, Delivery, EnginePosition, NewCommand
from zpmeow.domain.errors import DatabaseUnavailable
from zpmeow.events import CommandDelivered, CommandEnded, Event
from zpmeow.services.commands import CommandService, read_cursor, write_cursor

CONNECT = NewCommand(action=CommandAction.CONNECT)


class HeldQueue(InMemoryCommandQueue):
    """A queue whose answers to `take` wait until a test lets them go: the command is lent, the answer on its way."""

    def __init__(self) -> None:
        """Let answers go."""
        super().__init__()
        self.gate = asyncio.Event()
        self.gate.set()
        self.released: list[Delivery] = []

    @override
    async def take(self, position: EnginePosition, *, sessions: int, lease_seconds: float) -> Delivery:
        delivery = await super().take(position, sessions=sessions, lease_seconds=lease_seconds)
        await self.gate.wait()
        return delivery

    @override
    async def release(self, delivery: Delivery) -> None:
        self.released.append(delivery)
        await super().release(delivery)


class Desk:
    """The service over a queue, and engines that ask it."""

    def __init__(self) -> None:
        """Begin without commands."""
        self.queue = HeldQueue()
        self.events: list[Event] = []
        self.service = CommandService(queue=self.queue, observer=self.events.append)
        self.queue.told = self.service.changed

    def ask(self, wait_seconds: float = 60, engine: UUID | None = None) -> "asyncio.Task[Delivery]":
        """Let an engine ask."""
        position = EnginePosition(engine=engine or uuid4())
        return asyncio.create_task(self.service.next(position, sessions=10, wait_seconds=wait_seconds))


async def settle() -> None:
    """Let everything happen that can."""
    for _ in range(50):
        await asyncio.sleep(0)


async def test_commands_that_are_there_are_answered_at_once() -> None:
    """Nobody waits for what is there, and it is told as delivered."""
    desk = Desk()
    desk.queue.leave(uuid4(), CONNECT)

    delivery = await desk.ask(wait_seconds=0)

    assert [command.action for command in delivery.commands] == ["connect"]
    assert desk.events == [CommandDelivered("connect", again=False)]
    await desk.service.close()


async def test_an_engine_that_does_not_wait_is_answered_with_nothing() -> None:
    """Without a wait one question is all."""
    desk = Desk()

    assert (await desk.ask(wait_seconds=0)).commands == []
    assert desk.queue.takes == 1


async def test_one_of_many_who_wait_gets_a_new_command() -> None:
    """A thousand engines wait without asking anything, and a command costs two questions."""
    desk = Desk()
    asked = [desk.ask() for _ in range(1000)]
    await settle()
    before = desk.queue.takes

    desk.queue.leave(uuid4(), CONNECT)
    await settle()

    assert before == 1000
    assert desk.queue.takes == before + 2
    assert sum(task.done() for task in asked) == 1
    desk.service.end_waits()
    await asyncio.gather(*asked)
    await desk.service.close()


async def test_a_wait_ends_with_nothing_when_its_time_is_over() -> None:
    """The end of a wait is an empty answer, with the position to ask with next time."""
    desk = Desk()
    engine = uuid4()

    delivery = await desk.ask(wait_seconds=0.01, engine=engine)

    assert delivery == Delivery(commands=[], position=EnginePosition(engine=engine), due_in_seconds=None)


async def test_waits_end_at_once_when_the_service_stops() -> None:
    """Who waits goes with nothing; who comes later still gets what is there, and does not wait."""
    desk = Desk()
    waiting = desk.ask()
    await settle()

    desk.service.end_waits()

    assert (await asyncio.wait_for(waiting, 1)).commands == []
    assert (await asyncio.wait_for(desk.ask(), 1)).commands == []
    desk.queue.leave(uuid4(), CONNECT)
    assert len((await desk.ask()).commands) == 1
    await desk.service.close()


@pytest.mark.parametrize("lease_seconds", [0.02, 0.0004])
async def test_a_command_whose_lease_is_over_is_delivered_without_any_news(lease_seconds: float) -> None:
    """The timer knows when a command comes back, also in less than the millisecond that is the loop's shortest time."""
    desk = Desk()
    service = CommandService(queue=desk.queue, observer=desk.events.append, lease_seconds=lease_seconds)
    desk.queue.leave(uuid4(), CONNECT)
    first = await service.next(EnginePosition(engine=uuid4()), sessions=1, wait_seconds=0)

    second = await asyncio.wait_for(service.next(EnginePosition(engine=uuid4()), sessions=1, wait_seconds=60), 10)

    assert [command.id for command in first.commands] == [command.id for command in second.commands]
    assert desk.events[-1] == CommandDelivered("connect", again=True)
    await service.close()


async def test_what_is_lent_to_who_hangs_up_is_given_back() -> None:
    """An engine that hangs up while its commands are on their way leaves them free."""
    desk = Desk()
    desk.queue.gate.clear()
    desk.queue.leave(uuid4(), CONNECT)
    asked = desk.ask()
    await settle()

    asked.cancel()
    desk.queue.gate.set()
    await settle()

    assert len(desk.queue.released) == 1
    assert [command.deliveries for command in (await desk.ask(wait_seconds=0)).commands] == [1]
    await desk.service.close()


async def test_another_who_waits_gets_what_is_given_back() -> None:
    """The command that its first engine did not get goes to the next one in line."""
    desk = Desk()
    hangs_up, patient = desk.ask(), desk.ask()
    await settle()
    desk.queue.gate.clear()
    desk.queue.leave(uuid4(), CONNECT)
    await settle()

    hangs_up.cancel()
    desk.queue.gate.set()

    assert len((await asyncio.wait_for(patient, 1)).commands) == 1
    await desk.service.close()


async def test_only_one_learns_that_the_database_is_away() -> None:
    """The one whose turn it was is told; the others go on waiting, and look again soon."""
    desk = Desk()
    asked = [desk.ask() for _ in range(3)]
    await settle()
    desk.queue.failure = DatabaseUnavailable("away")
    desk.service._line.tell()
    await settle()

    with pytest.raises(DatabaseUnavailable):
        asked[0].result()
    assert not asked[1].done()

    desk.queue.failure = None
    desk.queue.told = lambda _changes: None  # Nobody tells of it.
    desk.queue.leave(uuid4(), CONNECT)
    assert len((await asyncio.wait_for(asked[1], 10)).commands) == 1
    desk.service.end_waits()
    await asked[2]
    await desk.service.close()


async def test_everybody_looks_again_when_the_feed_is_open_again() -> None:
    """What was told while the feed was broken off is looked for."""
    desk = Desk()
    asked = desk.ask()
    await settle()
    desk.queue.told = lambda _changes: None
    desk.queue.leave(uuid4(), CONNECT)
    await settle()
    before = asked.done()

    desk.service.lost("gone")
    desk.service.opened(database=bytes(16), since=datetime.now(UTC), heard_at=0.0)

    assert not before
    assert len((await asyncio.wait_for(asked, 1)).commands) == 1
    await desk.service.close()


async def test_an_acknowledgement_is_told_once() -> None:
    """The first word is an event, a repeated one is none."""
    desk = Desk()
    desk.queue.leave(uuid4(), CONNECT)
    (command,) = (await desk.ask(wait_seconds=0)).commands

    await desk.service.acknowledge(command.id, error="no")
    await desk.service.acknowledge(command.id, error="no")

    assert [event for event in desk.events if isinstance(event, CommandEnded)] == [CommandEnded("connect", "failed")]
    await desk.service.close()


def test_a_cursor_is_read_as_it_was_written() -> None:
    """A position survives its way to the engine and back; without one the engine is a new one."""
    position = EnginePosition(engine=uuid4(), delivery=123_456_789_012_345_678)

    assert read_cursor(write_cursor(position)) == position
    assert read_cursor("").engine != read_cursor("").engine
    assert read_cursor("").delivery == 0
