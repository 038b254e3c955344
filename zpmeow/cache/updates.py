"""Sends values and fences to the tier, set-if-newer: what a write has changed, and what a load has brought.

write, removal ──→ once; counted, and what does not arrive is brought by the relay
load ──→ what is not known to be outdated; the tier refuses what may be older than what it remembers
"""

from collections.abc import Collection, Mapping, Sequence

from zpmeow.cache.coherence import Coherence
from zpmeow.cache.entry_codec import EntryCodec
from zpmeow.cache.errors import CacheDisabled, CacheError
from zpmeow.cache.policy import EntryKey, Loaded, LoadMark
from zpmeow.cache.tier import CacheTier, Entry, PutOutcome
from zpmeow.events import CacheLookedUp, CorruptEntryFound, InvalidationSent, LookupOutcome, Observer, Tier


class Updates:
    """Writes the tier of bytes. Before the epoch is known nothing is sent."""

    def __init__(self, *, tier: CacheTier, codec: EntryCodec, coherence: Coherence, observer: Observer) -> None:
        """Write to `tier`."""
        self._tier = tier
        self._codec = codec
        self._coherence = coherence
        self._observer = observer

    async def send_written(self, values: Mapping[EntryKey, Loaded], mark: LoadMark) -> None:
        """Send committed values; `mark` was made before the write. Raises no error of the tier."""
        if mark.epoch is not None:
            await self._send(self._enveloped(values, mark.epoch, mark), source="write")

    async def send_removed(self, keys: Sequence[EntryKey], version: int) -> None:
        """Send a committed removal: nothing below `version` is put there any more. Raises no error of the tier."""
        if (epoch := self._coherence.epoch) is not None:
            fences = [self._codec.fence(key, version, epoch=epoch, retire=False) for key in keys]
            await self._send(fences, source="write")

    async def send_retired(self, versions: Mapping[EntryKey, int]) -> None:
        """Make what stands there up to these versions unreadable. Raises no error of the tier."""
        if (epoch := self._coherence.epoch) is not None:
            fences = [self._codec.fence(key, version, epoch=epoch, retire=True) for key, version in versions.items()]
            await self._send(fences, source="operator")

    async def fill(
        self, values: Mapping[EntryKey, Loaded], mark: LoadMark, *, known_corrupt: Collection[EntryKey] = ()
    ) -> int:
        """Send what a load brought that began at `mark`; return how many the tier took. Raises CacheError.

        `known_corrupt`: what stands there has been found corrupt and counted; its removal may not be done yet.
        """
        keys = [key for key, loaded in values.items() if self._coherence.allows(key.text, loaded.version)]
        if not keys or mark.epoch is None or mark.epoch != self._coherence.epoch:
            return 0
        outcomes = await self._tier.put_many(self._enveloped({key: values[key] for key in keys}, mark.epoch, mark))
        for key, outcome in zip(keys, outcomes, strict=True):
            if outcome is PutOutcome.REPLACED_CORRUPT and key not in known_corrupt:
                self._observer(CacheLookedUp(key.policy.entity, Tier.REDIS, LookupOutcome.CORRUPT))
                self._observer(CorruptEntryFound(key.text, "type"))
        return sum(outcome is not PutOutcome.REFUSED for outcome in outcomes)

    def _enveloped(self, values: Mapping[EntryKey, Loaded], epoch: bytes, mark: LoadMark) -> list[Entry]:
        return [
            self._codec.value(key, loaded, epoch=epoch, loaded_at_ms=mark.began_at_ms) for key, loaded in values.items()
        ]

    async def _send(self, entries: Sequence[Entry], *, source: str) -> None:
        try:
            outcomes = await self._tier.put_many(entries)
        except CacheDisabled:
            return
        except CacheError:
            for _ in entries:
                self._observer(InvalidationSent(source, "failed"))
            return
        for outcome in outcomes:
            told = PutOutcome.APPLIED if outcome is PutOutcome.REPLACED_CORRUPT else outcome
            self._observer(InvalidationSent(source, told))
