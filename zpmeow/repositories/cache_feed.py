"""What the change feed tells, taken over by this process' part of the cache, within milliseconds of the commit."""

from collections.abc import Callable, Sequence
from datetime import datetime

from typing_extensions import override

from zpmeow.cache.coherence import Coherence
from zpmeow.cache.pending_changes import PendingChanges
from zpmeow.cache.tiered_cache import TieredCache
from zpmeow.domain.changes import Change, ChangeFollower
from zpmeow.events import FeedChanged, InvalidationSent, Observer
from zpmeow.repositories.change_keys import ChangeKeys

_CONTROL = frozenset({"epoch", "mode"})


class CacheFeed(ChangeFollower):
    """Raises floors, wakes the relay, and tells when the shared settings have changed."""

    def __init__(
        self,
        *,
        cache: TieredCache,
        coherence: Coherence,
        keys: ChangeKeys,
        pending: PendingChanges,
        wake_relay: Callable[[], None],
        control_changed: Callable[[], None],
        observer: Observer,
    ) -> None:
        """Keep `cache` and `coherence` informed."""
        self._cache = cache
        self._coherence = coherence
        self._keys = keys
        self._pending = pending
        self._wake_relay = wake_relay
        self._control_changed = control_changed
        self._observer = observer
        self._told_reasons: set[str] = set()

    @override
    def opened(self, *, database: bytes, since: datetime, heard_at: float) -> None:
        since_ms = int(since.timestamp() * 1000)
        self._coherence.feed_opened(database=database, since_ms=since_ms, heard_at=heard_at)
        self._cache.begin_anew()
        self._control_changed()
        self._told_reasons.clear()
        self._observer(FeedChanged(live=True))

    @override
    def changed(self, changes: Sequence[Change]) -> None:
        count = 0
        for change in changes:
            key = self._keys.key_of(change)
            if key is not None:
                self._cache.changed(key.text, change.version)
                count += 1
            elif change.entity in _CONTROL:
                self._control_changed()
        if count:
            self._pending.note(count)
            self._observer(InvalidationSent("feed", "applied", count))
        self._wake_relay()

    @override
    def confirmed(self, sent_at: float) -> None:
        self._coherence.feed_confirmed(sent_at)

    @override
    def lost(self, reason: str | None) -> None:
        self._coherence.feed_lost()
        # Tried again several times a second: each reason is told once, until the feed is open.
        if reason is not None and reason not in self._told_reasons:
            self._told_reasons.add(reason)
            self._observer(FeedChanged(live=False, reason=reason))
