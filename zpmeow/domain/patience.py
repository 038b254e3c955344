"""For how long the caller of a request still waits for the truth, where an earlier question took some of that time.

A request that asks twice (whose key is this? then the write) would otherwise wait twice as long as any question may.
"""

import asyncio
import math
import time
from contextvars import ContextVar, Token
from types import TracebackType
from typing import TypeVar

from zpmeow.domain.errors import Overloaded

T = TypeVar("T")

_GRACE_SECONDS = 0.1
_ends_at: ContextVar[float] = ContextVar("zpmeow_patience_ends_at", default=math.inf)


class patience_until:  # noqa: N801  (a context manager is called like a function)
    """Let what is asked in this block, and in tasks made in it, be answered by then (time.monotonic)."""

    __slots__ = ("_instant", "_token")
    _token: Token[float]

    def __init__(self, instant: float) -> None:
        """Set the instant."""
        self._instant = instant

    def __enter__(self) -> None:
        """Begin."""
        self._token = _ends_at.set(self._instant)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """End."""
        _ends_at.reset(self._token)


def extend_patience(seconds: float) -> None:
    """Let the questions of this task, in the block that bounds them, be answered so much later."""
    _ends_at.set(_ends_at.get() + seconds)


def patience_left(now: float) -> float:
    """Return the seconds that are left at `now` (time.monotonic): less than 0 if none are, infinite without a limit."""
    return _ends_at.get() - now


async def wait_patiently(answer: "asyncio.Future[T]") -> T:
    """Wait for what is asked for several callers, with nobody's patience; the future is this caller's own.

    Raises Overloaded when his patience has ended. A little later, in fact: a question that was asked at the beginning
    of our patience ends with it, by itself.
    """
    left = patience_left(time.monotonic())
    if left == math.inf:
        return await answer
    timer = answer.get_loop().call_later(max(left, 0.0) + _GRACE_SECONDS, _give_up, answer)
    try:
        return await answer
    finally:
        timer.cancel()


def _give_up(answer: "asyncio.Future[T]") -> None:
    if not answer.done():
        answer.set_exception(Overloaded("the request's time for the database is used up"))
