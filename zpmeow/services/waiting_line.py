"""A line of those who wait for news, of whom one at a time goes and looks.

    news ──→ the first in line looks ── found something? ──→ the next one looks
                                          │ no
                                          └── to the end of the line, until there is news again

Whatever happens to the one who looks, somebody looks after news: if it is interrupted, the next one does.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from zpmeow.services.pauses import pausing


@dataclass(slots=True)
class Turn:
    """Somebody's turn to look. `found`: there may be more for others."""

    found: bool = False


class WaitingLine:
    """Lets one at a time go. Not for use from several threads."""

    def __init__(self) -> None:
        """Begin empty, without news."""
        self._places: deque[asyncio.Future[None]] = deque()
        self._has_news = False
        self._somebody_looks = False
        self._is_closed = False

    def __len__(self) -> int:
        """How many wait."""
        return len(self._places)

    def tell(self) -> None:
        """Say that there is news."""
        self._has_news = True
        self._let_go()

    def close(self) -> None:
        """Send everybody away who waits, and let nobody wait from now on."""
        self._is_closed = True
        while self._places:
            self._places.popleft().set_result(None)

    @asynccontextmanager
    async def turn(self, deadline: float) -> AsyncIterator[Turn | None]:
        """Wait for a turn, until the event loop's time `deadline`; None: there was none, or the line is closed.

        The block is the turn: while it runs nobody else has one. If it is left by an error, others have none for that;
        if it is cancelled, the next one takes over.
        """
        if not await self._wait(deadline):
            yield None
            return
        turn = Turn()
        try:
            yield turn
        except asyncio.CancelledError:
            turn.found = True
            raise
        finally:
            self._end_turn(there_may_be_more=turn.found)

    async def _wait(self, deadline: float) -> bool:
        loop = asyncio.get_running_loop()
        patience = deadline - loop.time()
        if self._is_closed or patience <= 0:
            return False
        place = loop.create_future()
        self._places.append(place)
        self._let_go()
        try:
            with pausing():
                await asyncio.wait([place], timeout=patience)
        except asyncio.CancelledError:
            if not self._leave(place):
                self._end_turn(there_may_be_more=True)
            raise
        return not self._leave(place)

    def _leave(self, place: asyncio.Future[None]) -> bool:
        """Tell whether there was no turn; then the place is given up."""
        if self._is_closed:
            return True
        if place.done():
            return False
        self._places.remove(place)
        return True

    def _end_turn(self, *, there_may_be_more: bool) -> None:
        self._somebody_looks = False
        self._has_news = self._has_news or there_may_be_more
        self._let_go()

    def _let_go(self) -> None:
        if self._has_news and self._places and not self._somebody_looks:
            self._has_news, self._somebody_looks = False, True
            self._places.popleft().set_result(None)
