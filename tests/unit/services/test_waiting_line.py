"""The line of those who wait for news: one at a time looks, and somebody always does."""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from zpmeow.services.waiting_line import WaitingLine

LONG = 1e9


class Waiters:
    """Some who wait in a line; each takes turns until one is fruitful."""

    def __init__(self, line: WaitingLine) -> None:
        """Wait in this line."""
        self.line = line
        self.supply = 0
        self.looked: list[int] = []
        self.served: list[int] = []
        self.left: list[int] = []
        self.slow = asyncio.Event()
        self.slow.set()
        self.tasks: list[asyncio.Task[None]] = []

    async def run(self, number: int, deadline: float = LONG) -> None:
        """Wait for a turn again and again, look, and end when something was found or there was no turn."""
        while True:
            async with self.line.turn(deadline) as turn:
                if turn is None:
                    self.left.append(number)
                    return
                self.looked.append(number)
                await self.slow.wait()
                if self.supply:
                    self.supply -= 1
                    self.served.append(number)
                    turn.found = True
                    return

    async def start(self, count: int) -> None:
        """Let so many wait."""
        self.tasks = [asyncio.create_task(self.run(number)) for number in range(count)]
        await settle()


@asynccontextmanager
async def waiting(count: int) -> AsyncIterator[Waiters]:
    """Let so many wait until the block ends."""
    waiters = Waiters(WaitingLine())
    await waiters.start(count)
    try:
        yield waiters
    finally:
        for task in waiters.tasks:
            task.cancel()
        await asyncio.wait(waiters.tasks)


async def settle() -> None:
    """Let everything happen that can."""
    for _ in range(500):
        await asyncio.sleep(0)


async def test_news_makes_one_look_when_it_was_nothing() -> None:
    """A thousand who wait cost one look."""
    async with waiting(1000) as waiters:
        waiters.line.tell()
        await settle()

        assert waiters.looked == [0]
        assert len(waiters.line) == 1000


async def test_news_makes_as_many_look_as_find_something_and_one_more() -> None:
    """Whoever finds something lets the next one look."""
    async with waiting(10) as waiters:
        waiters.supply = 3
        waiters.line.tell()
        await settle()

        assert waiters.served == [0, 1, 2]
        assert waiters.looked == [0, 1, 2, 3]


async def test_news_during_a_look_makes_somebody_look_again() -> None:
    """What is told while somebody looks may have come too late for that look."""
    async with waiting(3) as waiters:
        waiters.slow.clear()
        waiters.line.tell()
        await settle()
        waiters.line.tell()
        waiters.line.tell()
        await settle()
        during = list(waiters.looked)

        waiters.slow.set()
        await settle()

        assert during == [0]
        assert waiters.looked == [0, 1]


async def test_news_is_kept_when_nobody_waits() -> None:
    """Who comes after the news looks at once."""
    async with waiting(1) as waiters:
        waiters.tasks.append(asyncio.create_task(asyncio.sleep(0)))
        line = WaitingLine()
        line.tell()
        late = Waiters(line)
        late.supply = 1

        await late.run(7)

        assert late.served == [7]


async def test_the_next_one_looks_when_a_look_is_cancelled() -> None:
    """An engine that hangs up in its turn does not take the news with it."""
    async with waiting(2) as waiters:
        waiters.slow.clear()
        waiters.supply = 1
        waiters.line.tell()
        await settle()

        waiters.tasks[0].cancel()
        waiters.slow.set()
        await settle()

        assert waiters.served == [1]


async def test_the_next_one_looks_when_a_turn_is_cancelled_before_it_begins() -> None:
    """A turn that was given and not taken goes to the next one."""
    async with waiting(2) as waiters:
        waiters.supply = 1
        waiters.line.tell()  # Number 0 has its turn now, and does not know of it yet.
        waiters.tasks[0].cancel()
        await settle()

        assert waiters.served == [1]


async def test_nobody_else_looks_when_a_look_fails() -> None:
    """A database that is away is not asked by everybody in turn; the news is not lost for that."""
    line = WaitingLine()
    looked: list[int] = []

    async def look(number: int) -> None:
        async with line.turn(LONG) as turn:
            assert turn is not None
            looked.append(number)
            message = "away"
            raise OSError(message)

    tasks = [asyncio.create_task(look(number)) for number in range(3)]
    await settle()
    line.tell()
    await settle()
    first = list(looked)
    line.tell()
    await settle()

    assert (first, looked) == ([0], [0, 1])
    tasks[2].cancel()
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [OSError, OSError, asyncio.CancelledError]


async def test_who_has_waited_long_enough_leaves_the_line() -> None:
    """A wait has its end, and leaves no place behind."""
    line = WaitingLine()
    now = asyncio.get_running_loop().time()

    async with line.turn(now + 0.01) as turn:
        assert turn is None
    async with line.turn(now) as late:
        assert late is None

    assert len(line) == 0


async def test_who_is_cancelled_leaves_the_line() -> None:
    """Who hangs up while waiting leaves no place behind."""
    async with waiting(2) as waiters:
        waiters.tasks[0].cancel()
        await settle()

        assert len(waiters.line) == 1


async def test_closing_sends_everybody_away() -> None:
    """After the close nobody waits, and nobody who comes later does."""
    async with waiting(3) as waiters:
        waiters.line.close()
        await settle()
        await asyncio.wait_for(waiters.run(9), 1)

        assert waiters.left == [0, 1, 2, 9]


@pytest.mark.parametrize("seed", range(5))
async def test_nothing_is_left_lying_when_waiters_come_and_go_at_random(seed: int) -> None:
    """Whatever is cancelled when: as long as somebody waits, what is there is found."""
    chance = random.Random(seed)
    waiters = Waiters(WaitingLine())
    running: list[asyncio.Task[None]] = []
    for number in range(300):
        match chance.randrange(4):
            case 0:
                running.append(asyncio.create_task(waiters.run(number)))
            case 1 if running:
                running.pop(chance.randrange(len(running))).cancel()
            case 2:
                waiters.supply += 1
                waiters.line.tell()
            case _:
                await asyncio.sleep(0)
    patient = [asyncio.create_task(waiters.run(1000 + number)) for number in range(waiters.supply + 1)]
    await settle()

    assert waiters.supply == 0
    for task in (*running, *patient):
        task.cancel()
    await asyncio.wait([*running, *patient])
