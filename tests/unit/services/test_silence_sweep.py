"""The sweep that records which promises have ended."""

import asyncio

from typing_extensions import override

from zpmeow.domain.errors import DatabaseUnavailable
from zpmeow.domain.ports import OverduePromises
from zpmeow.events import Event, PromisesEnded
from zpmeow.services.silence_sweep import SilenceSweep


class Overdue(OverduePromises):
    """So many promises have ended; the first call fails if a test says so."""

    def __init__(self, count: int, *, fails_once: bool = False) -> None:
        """Begin with `count`."""
        self.left = count
        self.fails_once = fails_once

    @override
    async def record_silence(self, *, limit: int) -> int:
        if self.fails_once:
            self.fails_once = False
            message = "away"
            raise DatabaseUnavailable(message)
        recorded = min(limit, self.left)
        self.left -= recorded
        return recorded


async def sweep(promises: Overdue, rounds: int) -> list[Event]:
    """Let the sweep come round so often; return what it told."""
    events: list[Event] = []
    pauses = 0

    async def pause(seconds: float) -> None:
        nonlocal pauses
        assert 0.5 <= seconds <= 1
        pauses += 1
        if pauses > rounds:
            raise asyncio.CancelledError

    try:
        await SilenceSweep(promises=promises, observer=events.append, sleep=pause).run()
    except asyncio.CancelledError:
        return events


async def test_sweep_records_all_that_is_overdue_in_one_round() -> None:
    """More than a portion is recorded portion by portion, without a pause between."""
    promises = Overdue(250)

    events = await sweep(promises, rounds=1)

    assert promises.left == 0
    assert events == [PromisesEnded(100), PromisesEnded(100), PromisesEnded(50)]


async def test_sweep_tells_nothing_when_nothing_is_overdue() -> None:
    """A round that finds nothing is no news."""
    assert await sweep(Overdue(0), rounds=3) == []


async def test_sweep_goes_on_when_the_database_was_away() -> None:
    """What could not be recorded is recorded in a later round."""
    promises = Overdue(3, fails_once=True)

    assert await sweep(promises, rounds=2) == [PromisesEnded(3)]
