"""For how long a request still waits for the truth."""

import asyncio
import math
import time

import pytest

from zpmeow.domain.errors import Overloaded
from zpmeow.domain.patience import patience_left, patience_until, wait_patiently


async def _answer(after_seconds: float = 0.0) -> str:
    await asyncio.sleep(after_seconds)
    return "answer"


async def _raise() -> str:
    raise TimeoutError


def test_patience_is_endless_outside_a_request() -> None:
    """And it is so again after one."""
    with patience_until(5.0):
        assert (patience_left(3.0), patience_left(6.0)) == (2.0, -1.0)
        with patience_until(4.0):
            assert patience_left(3.0) == 1.0
        assert patience_left(3.0) == 2.0

    assert patience_left(3.0) == math.inf


async def test_patience_is_that_of_the_task_that_asks() -> None:
    """Tasks made in a request have its patience, others do not."""
    with patience_until(5.0):
        inside = asyncio.create_task(_left())
    outside = asyncio.create_task(_left())

    assert (await inside, await outside) == (2.0, math.inf)


async def _left() -> float:
    return patience_left(3.0)


async def test_waiting_ends_when_the_patience_does() -> None:
    """As overload, which may be tried again."""
    with patience_until(time.monotonic() + 0.01), pytest.raises(Overloaded):
        await wait_patiently(asyncio.get_running_loop().create_future())


@pytest.mark.parametrize("seconds", [60.0, math.inf])
async def test_waiting_ends_with_the_answer(seconds: float) -> None:
    """What ends before that ends as it does; a timeout of its own stays one."""
    with patience_until(time.monotonic() + seconds):
        assert await wait_patiently(asyncio.create_task(_answer())) == "answer"
        with pytest.raises(TimeoutError):
            await wait_patiently(asyncio.create_task(_raise()))


async def test_answer_that_comes_when_the_patience_has_ended_is_nobodys() -> None:
    """Who gave up has given up; whoever answers then need not know."""
    answer = asyncio.get_running_loop().create_future()
    with patience_until(time.monotonic()), pytest.raises(Overloaded):
        await wait_patiently(answer)

    assert answer.done()


async def test_waiter_that_is_cancelled_leaves_no_timer() -> None:
    """And his future ends with him."""
    answer = asyncio.get_running_loop().create_future()
    with patience_until(time.monotonic() + 60.0):
        waiting = asyncio.create_task(wait_patiently(answer))
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.wait([waiting])

    assert waiting.cancelled()
    assert answer.cancelled()
