"""What a request waits for because its caller asked it to."""

import asyncio
import math
import time

import pytest

from zpmeow.cache.call_budget import open_budget
from zpmeow.domain.patience import patience_left, patience_until
from zpmeow.events import Event, WaitBegun, WaitEnded, ignore
from zpmeow.services.pauses import counting_pauses, pausing


async def test_pauses_add_up_and_work_does_not() -> None:
    """Only what is waited for counts."""
    began = time.perf_counter()
    with counting_pauses(ignore) as pauses:
        for _ in range(2):
            with pausing():
                await asyncio.sleep(0.02)
            before = pauses.seconds
            await asyncio.sleep(0.02)
            assert pauses.seconds == before
    took = time.perf_counter() - began

    assert 0.03 < pauses.seconds <= took - 0.03


@pytest.mark.parametrize("way", ["ends", "fails", "is cancelled"])
async def test_a_wait_that_was_told_of_is_told_to_have_ended(way: str) -> None:
    """However it ends: nobody waits for ever in the figures."""
    events: list[Event] = []

    async def wait() -> None:
        with counting_pauses(events.append), pausing():
            if way == "fails":
                raise TimeoutError
            await asyncio.sleep(0 if way == "ends" else 60)

    waiting = asyncio.create_task(wait())
    await asyncio.sleep(0)
    if way == "is cancelled":
        waiting.cancel()
    await asyncio.wait([waiting])

    assert [type(event) for event in events] == [WaitBegun, WaitEnded]


async def test_requests_do_not_count_each_others_pauses() -> None:
    """Each has its own, and outside of a request nobody counts."""

    async def request(seconds: float) -> float:
        with counting_pauses(ignore) as pauses, pausing():
            await asyncio.sleep(seconds)
        return pauses.seconds

    with pausing():
        short, long = await asyncio.gather(request(0.0), request(0.05))

    assert short < 0.04 < long


async def test_the_cache_may_be_asked_anew_after_a_pause() -> None:
    """Every look of a long wait has the time that the first one had."""
    with open_budget(0.05) as budget:
        budget.begin(0.0)
        budget.end(0.05)
        with pausing():
            pass

        assert budget.is_whole


async def test_patience_does_not_run_during_a_pause() -> None:
    """What a request asks of the database has its time, however long the request was told to wait."""
    with patience_until(10.0):
        with pausing():
            await asyncio.sleep(0.05)
        extended = patience_left(9.0)
        with pausing():
            await asyncio.sleep(0.05)
        twice = patience_left(9.0)

    assert 1.04 < extended < twice - 0.04
    assert patience_left(9.0) == math.inf
