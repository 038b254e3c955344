"""Keeps this process in step with the settings that all processes share: cache mode, epoch, the time.

One small query every half second, and one at once when the change feed tells of a change. While the database is
away, the last known state holds.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

from zpmeow.domain.errors import Unavailable
from zpmeow.domain.ports import ControlState, ControlStore
from zpmeow.events import CacheModeChanged, Observer

_PERIOD_SECONDS = 0.5  # A mode change must reach every process within 1 s: two tries.


class Follower(Protocol):
    """Someone who must follow the shared settings."""

    def __call__(self, state: ControlState, asked_at: float, answered_at: float, /) -> None:
        """Take over the state; the times are of the monotonic clock, seconds, around the query."""
        ...


class ControlWatch:
    """Reads the shared settings again and again and hands them on."""

    def __init__(
        self,
        *,
        store: ControlStore,
        followers: Sequence[Follower],
        observer: Observer,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """Read from the store; tell each follower every time."""
        self._store = store
        self._followers = followers
        self._observer = observer
        self._sleep = sleep
        self._woken = asyncio.Event()
        self._mode = "normal"

    @property
    def mode(self) -> str:
        """The cache mode that this process follows now."""
        return self._mode

    async def refresh(self) -> None:
        """Read once, now. Raises Unavailable."""
        asked_at = time.monotonic()
        state = await self._store.read()
        answered_at = time.monotonic()
        for follower in self._followers:
            follower(state, asked_at, answered_at)
        if state.mode != self._mode:
            self._mode = state.mode
            self._observer(CacheModeChanged(state.mode))

    def look_now(self) -> None:
        """Read soon: somebody has changed something."""
        self._woken.set()

    async def _rest(self) -> None:
        waiting = asyncio.ensure_future(self._woken.wait())
        resting = asyncio.ensure_future(self._sleep(_PERIOD_SECONDS))
        try:
            await asyncio.wait([waiting, resting], return_when=asyncio.FIRST_COMPLETED)
        finally:
            waiting.cancel()
            resting.cancel()

    async def run(self) -> None:
        """Read for ever."""
        while True:
            await self._rest()
            self._woken.clear()  # Before the reading: who calls during it means a later one.
            try:
                await self.refresh()
            except Unavailable:
                continue  # The database's own observers tell of it; here the last known state holds.
