"""What was loaded or found goes into the tiers: into this process' at once, into the other in the background.

Nothing is kept that may be outdated: what was loaded before the feed began, in another epoch, or below a floor.
"""

from collections.abc import Callable, Collection, Mapping

from zpmeow.cache.background import BackgroundTasks
from zpmeow.cache.coherence import Coherence
from zpmeow.cache.entry_codec import EntryCodec
from zpmeow.cache.local_tier import NEGATIVE_SECONDS, LocalTier
from zpmeow.cache.lookups import Found
from zpmeow.cache.policy import Answer, EntryKey, Loaded, LoadMark, Origin
from zpmeow.cache.updates import Updates

_PORTION = 30
"""Entries. Arbitrary: their conversation costs little more than one's, and on a narrow line they have a chance."""


class Fills:
    """Fills both tiers."""

    def __init__(
        self,
        *,
        local: LocalTier,
        updates: Updates,
        codec: EntryCodec,
        coherence: Coherence,
        now_ms: Callable[[], int],
        background: BackgroundTasks,
    ) -> None:
        """Fill `local`, and the tier of `updates`, as far as `coherence` allows; `now_ms` is the database's clock."""
        self._local = local
        self._updates = updates
        self._codec = codec
        self._coherence = coherence
        self._now_ms = now_ms
        self._background = background

    def fill(self, values: Mapping[EntryKey, Loaded], mark: LoadMark, *, known_corrupt: Collection[EntryKey]) -> None:
        """Keep loaded values, and send them to the tier.

        `known_corrupt`: what stands there has been found corrupt and counted; its removal may not be done yet.
        """
        self.keep(values, mark)
        if not values or mark.epoch is None:
            return
        self._background.start(lambda: self._send(values, mark, known_corrupt), name="fill", size=len(values))

    def keep(self, values: Mapping[EntryKey, Loaded], mark: LoadMark) -> None:
        """Keep loaded values in this process."""
        if not self._local.is_on or not self._coherence.covers(mark):
            return
        now_ms = self._now_ms()
        for key, loaded in values.items():
            if self._coherence.allows(key.text, loaded.version):
                fresh_until_ms = self._codec.fresh_until_ms(key, loaded, loaded_at_ms=mark.began_at_ms)
                self._put_locally(key, loaded.value, loaded.version, (fresh_until_ms - now_ms) / 1000)

    def keep_found(self, found: Found, mark: LoadMark) -> None:
        """Keep in this process what a look-up in the tier has found."""
        if not found.readings or not self._local.is_on or not self._coherence.covers(mark):
            return
        now_ms = self._now_ms()
        for key, reading in found.readings.items():
            self._put_locally(key, reading.value, reading.version, (reading.fresh_until_ms - now_ms) / 1000)

    def keep_absent(self, key: EntryKey, mark: LoadMark) -> None:
        """Keep in this process that there is nothing."""
        if self._coherence.covers(mark) and not self._coherence.changed_since(key.text, mark):
            self._local.put(key.text, None, version=0, size_bytes=0, seconds=NEGATIVE_SECONDS)

    async def _send(
        self, values: Mapping[EntryKey, Loaded], mark: LoadMark, known_corrupt: Collection[EntryKey]
    ) -> None:
        """Send one portion after the other: together they would be ten calls that fail at once on a narrow line."""
        entries = list(values.items())
        for start in range(0, len(entries), _PORTION):
            await self._updates.fill(dict(entries[start : start + _PORTION]), mark, known_corrupt=known_corrupt)

    def _put_locally(self, key: EntryKey, value: object, version: int, seconds: float) -> None:
        answer = Answer(value=value, version=version, origin=Origin.LOCAL)
        self._local.put(key.text, answer, version=version, size_bytes=key.policy.weigh(value), seconds=seconds)
