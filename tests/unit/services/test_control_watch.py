"""The control watch: shared settings reach this process, within half a second or when it is told to look."""

import asyncio
from datetime import UTC, datetime

import pytest

from zpmeow.domain.errors import DatabaseUnavailable
from zpmeow.domain.ports import ControlState
from zpmeow.events import CacheModeChanged, Event
from zpmeow.services.control_watch import ControlWatch


class Store:
    """Shared settings in memory."""

    def __init__(self) -> None:
        """Begin in the first epoch."""
        self.mode = "normal"
        self.epoch = b"1" * 16
        self.error: Exception | None = None

    async def read(self) -> ControlState:
        """Return the settings, or raise what a test wants."""
        if self.error is not None:
            raise self.error
        return ControlState(mode=self.mode, epoch=self.epoch, read_at=datetime(2026, 1, 1, tzinfo=UTC))

    async def set_mode(self, mode: str) -> None:
        """Keep the mode."""
        self.mode = mode


class Bench:
    """A watch over a store, whose pauses are steps of the test."""

    def __init__(self) -> None:
        """Wire it up."""
        self.store = Store()
        self.states: list[ControlState] = []
        self.events: list[Event] = []
        self.step = asyncio.Semaphore(0)
        self.watch = ControlWatch(
            store=self.store,
            followers=(self.follow,),
            observer=self.events.append,
            sleep=self.sleep,
        )

    def follow(self, state: ControlState, asked_at: float, answered_at: float, /) -> None:
        """Note the state."""
        assert asked_at <= answered_at
        self.states.append(state)

    async def sleep(self, _seconds: float) -> None:
        """Wait for the test's next step."""
        await self.step.acquire()

    async def run_steps(self, count: int) -> None:
        """Let the watch read so many times."""
        running = asyncio.create_task(self.watch.run())
        for _ in range(count):
            self.step.release()
            for _ in range(5):
                await asyncio.sleep(0)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


@pytest.fixture
async def bench() -> Bench:
    """A fresh bench."""
    return Bench()


async def test_mode_reaches_followers_and_is_told_once(bench: Bench) -> None:
    """Every reading goes to the followers, every change to the observer."""
    await bench.run_steps(2)
    bench.store.mode = "bypass"
    await bench.run_steps(2)

    assert [state.mode for state in bench.states] == ["normal", "normal", "bypass", "bypass"]
    assert bench.events == [CacheModeChanged("bypass")]
    assert bench.watch.mode == "bypass"


async def test_last_state_holds_while_the_database_is_away(bench: Bench) -> None:
    """A failed reading changes nothing, and the next one is made."""
    bench.store.mode = "bypass"
    await bench.run_steps(1)
    bench.store.error = DatabaseUnavailable("away")
    await bench.run_steps(3)
    mode_meanwhile = bench.watch.mode
    bench.store.error = None
    bench.store.mode = "normal"
    await bench.run_steps(1)

    assert mode_meanwhile == "bypass"
    assert bench.watch.mode == "normal"


async def test_settings_are_read_at_once_when_the_watch_is_told_to_look(bench: Bench) -> None:
    """Whoever knows of a change need not wait for the next turn, however often he says so."""
    running = asyncio.create_task(bench.watch.run())
    await asyncio.sleep(0)

    bench.watch.look_now()
    bench.watch.look_now()
    for _ in range(10):
        await asyncio.sleep(0)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)

    assert len(bench.states) == 1
