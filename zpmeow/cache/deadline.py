"""An instant by which a call must have ended, which does not blame the server for this process being late.

When the event loop itself was held up (a collection of garbage, a long computation, too little CPU), the
deadline's timer and the answer come up in the same turn of the loop, and the timer would win: a pause of
60 ms would fail every call under way although each had its answer. So a deadline that has come lets the
loop look at the sockets once more before it cancels. On a server that does not answer that costs four
turns of the loop, some microseconds.
"""

import asyncio
from types import TracebackType
from typing import Self

TURNS = 4
"""In the first turn after the timer the socket is read, in the second the task runs that waits for it, in the third the
caller whom that one tells; one is spare."""


class Deadline:
    """Raise TimeoutError from the block if it has not ended at `when` (the loop's clock); used once."""

    __slots__ = ("_handle", "_loop", "_scope", "_when")

    def __init__(self, when: float) -> None:
        """Take the instant, by the clock of the running loop."""
        self._when = when
        self._loop = asyncio.get_running_loop()
        self._scope = asyncio.timeout(None)
        self._handle: asyncio.Handle | None = None

    async def __aenter__(self) -> Self:
        """Start the timer."""
        await self._scope.__aenter__()
        self._handle = self._loop.call_at(self._when, self._come, TURNS)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Stop the timer; turn the cancellation that it caused, and no other, into TimeoutError."""
        if self._handle is not None:
            self._handle.cancel()
        await self._scope.__aexit__(kind, error, traceback)

    def _come(self, turns: int) -> None:
        if turns > 0:
            self._handle = self._loop.call_soon(self._come, turns - 1)
        else:
            self._scope.reschedule(self._loop.time())
