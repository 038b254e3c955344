"""Brings committed changes to the tier, and remembers them until they are there.

change ── raise the floor ── note as unsent ── put_many ──→ confirmed: strike out
             (no await up to here)                └── error, timeout, cancelled: stays noted
                                                          └── flush: every half second while the
                                                              breaker is closed, and before it closes
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from zpmeow.cache.errors import CacheDisabled, CacheError, CacheTimeout
from zpmeow.cache.floors import Floors
from zpmeow.cache.tier import CacheTier, PutOutcome
from zpmeow.cache.unsent import Change, UnsentChanges
from zpmeow.events import InvalidationSent, Observer

_FLUSH_BATCH = 500  # Changes per round trip: about 5 ms of Redis' time. Halved when that is too much for the deadline.
_RETRY_SECONDS = 0.5


class ChangePublisher:
    """Sends changes through a tier; knows what of this process' changes the tier may not have."""

    def __init__(self, *, tier: CacheTier, observer: Observer, floors: Floors, unsent: UnsentChanges) -> None:
        """Send through `tier`."""
        self._tier = tier
        self._observer = observer
        self._floors = floors
        self._unsent = unsent
        self._batch = _FLUSH_BATCH
        self._lost_track = False

    @property
    def unsent_count(self) -> int:
        """How many keys have a committed change that the tier has not confirmed."""
        return len(self._unsent)

    @property
    def overflown(self) -> bool:
        """Whether more was changed than can be remembered: the tier must not be believed for now."""
        return self.lost_changes or self._floors.overflown

    @property
    def lost_changes(self) -> bool:
        """Whether changes were dropped that the tier does not have: only a new epoch mends that."""
        return self._unsent.overflown or self._lost_track

    def lose_track(self) -> None:
        """Something was changed that nobody can name."""
        self._lost_track = True

    def allows(self, key: str, version: int) -> bool:
        """Tell whether no newer version of the key is known here."""
        return self._floors.allows(key, version) and self._unsent.allows(key, version)

    async def send(self, changes: Sequence[Change], *, source: str) -> None:
        """Send committed changes once; what the tier does not confirm is sent again by `flush`.

        Raises no CacheError. From the moment it is called, `allows` knows of the changes.
        """
        for change in changes:
            self._floors.raise_to(change.entry.key, change.version)
        self._unsent.note(changes)
        try:
            await self._put(self._tier, changes, source=source)
        except CacheDisabled:
            self._unsent.strike(changes)
        except CacheError:
            for _ in changes:
                self._observer(InvalidationSent(source, "failed"))

    async def flush(self, tier: CacheTier | None = None) -> None:
        """Send all that is unsent, oldest first, through `tier` if given. Raises CacheError."""
        while changes := self._unsent.oldest(self._batch):
            try:
                await self._put(tier or self._tier, changes, source="retry")
            except CacheTimeout:
                self._batch = max(1, self._batch // 2)
                raise
            self._batch = min(_FLUSH_BATCH, self._batch * 2)

    async def run(self, *, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep) -> None:
        """Flush for ever, whenever the tier takes calls."""
        while True:
            await sleep(_RETRY_SECONDS)
            try:
                await self.flush()
            except CacheError:
                continue  # Not now: counted by the tier; the changes stay noted.

    def begin_epoch(self) -> None:
        """Go on in a new epoch: what could not be remembered is void there, like everything in the tier.

        What is remembered is still sent, as it is. It may have been committed after another process began to fill
        in the new epoch; an entry of the old one takes the place of such a fill, and reads as a miss.
        """
        self._lost_track = False
        if self._unsent.overflown:
            self._unsent.clear()

    async def _put(self, tier: CacheTier, changes: Sequence[Change], *, source: str) -> None:
        outcomes = await tier.put_many([change.entry for change in changes])
        self._unsent.strike(changes)
        for outcome in outcomes:
            superseded = outcome is PutOutcome.SUPERSEDED
            self._observer(InvalidationSent(source, "superseded" if superseded else "applied"))
