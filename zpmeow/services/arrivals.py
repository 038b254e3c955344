"""Lets callers wait for something to appear in a session: the change feed wakes them, and they look.

    watch ── look ── not there ── wait ── the session's record was changed, by whomever ── look …

The watch begins before the first look, so that nothing falls between the two. Who waits holds a place in a dictionary
and nothing else; whoever goes away, for whatever reason, takes it along.
"""

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime

from typing_extensions import override

from zpmeow.domain.changes import Change, ChangeFollower
from zpmeow.domain.errors import Stopping
from zpmeow.services.pauses import pausing


class Watch:
    """Somebody's wait; use `Arrivals.watch`."""

    def __init__(self, arrivals: "Arrivals") -> None:
        """Begin with nothing to look at."""
        self._arrivals = arrivals
        self._woken = asyncio.Event()

    def wake(self) -> None:
        """Let it look."""
        self._woken.set()

    async def changed(self, deadline: float) -> bool:
        """Wait for a change since the last call, until the event loop's time `deadline`; tell whether there was one.

        Raises Stopping: the service is stopping, and nobody waits any more.
        """
        patience = deadline - asyncio.get_running_loop().time()
        if not self._arrivals.has_ended and patience > 0:
            try:
                with pausing():
                    # Not `wait_for`, which swallows a cancellation that comes in the turn in which it is woken.
                    async with asyncio.timeout(patience):
                        await self._woken.wait()
            except TimeoutError:
                return False
        if self._arrivals.has_ended:
            message = "the service is stopping"
            raise Stopping(message)
        was_changed = self._woken.is_set()
        self._woken.clear()
        return was_changed


class Arrivals(ChangeFollower):
    """Who waits for which record, and is woken by the change feed."""

    def __init__(self) -> None:
        """Begin with nobody."""
        self._watches: dict[tuple[str, str], set[Watch]] = {}
        self.has_ended = False

    def __len__(self) -> int:
        """How many wait."""
        return sum(len(watches) for watches in self._watches.values())

    @contextmanager
    def watch(self, entity: str, key: str) -> Iterator[Watch]:
        """Watch over a record while the block runs."""
        watch = Watch(self)
        watches = self._watches.setdefault((entity, key), set())
        watches.add(watch)
        try:
            yield watch
        finally:
            watches.discard(watch)
            if not watches:
                self._watches.pop((entity, key), None)

    def end_waits(self) -> None:
        """Send everybody away who waits, and let nobody wait from now on."""
        self.has_ended = True
        self._wake_all()

    @override
    def opened(self, *, database: bytes, since: datetime, heard_at: float) -> None:
        self._wake_all()

    @override
    def changed(self, changes: Sequence[Change]) -> None:
        if self._watches:
            for change in changes:
                for watch in self._watches.get((change.entity, change.key), ()):
                    watch.wake()

    @override
    def confirmed(self, sent_at: float) -> None:
        pass

    @override
    def lost(self, reason: str | None) -> None:
        pass

    def _wake_all(self) -> None:
        for watches in self._watches.values():
            for watch in watches:
                watch.wake()
