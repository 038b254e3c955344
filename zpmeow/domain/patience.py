"""For how long the caller of a request still waits for the truth, where an earlier question took some of that time.

A request that asks twice (whose key is this? then the write) would otherwise wait twice as long as any question may.
"""

import asyncio
import math
import time
from collections.abc import Awaitable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TypeVar

from zpmeow.domain.errors import Overloaded

T = TypeVar("T")

_GRACE_SECONDS = 0.1
_ends_at: ContextVar[float] = ContextVar("zpmeow_patience_ends_at", default=math.inf)


@contextmanager
def patience_until(instant: float) -> Iterator[None]:
    """Let what is asked in this block, and in tasks made in it, be answered by then (time.monotonic)."""
    token = _ends_at.set(instant)
    try:
        yield
    finally:
        _ends_at.reset(token)


def patience_left(now: float) -> float:
    """Return the seconds that are left at `now` (time.monotonic): less than 0 if none are, infinite without a limit."""
    return _ends_at.get() - now


async def wait_patiently(answer: Awaitable[T]) -> T:
    """Wait for what is asked for several callers, with nobody's patience. Raises Overloaded when ours has ended.

    A little later, in fact: a question that was asked at the beginning of our patience ends with it, by itself.
    """
    left = patience_left(time.monotonic())
    if left == math.inf:
        return await answer
    try:
        async with asyncio.timeout(max(left, 0.0) + _GRACE_SECONDS) as limit:
            return await answer
    except TimeoutError as error:
        if not limit.expired():
            raise
        message = "the request's time for the database is used up"
        raise Overloaded(message) from error
