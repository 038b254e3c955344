"""Between values and what stands in the tier: enveloping what is written, judging what is read."""

import random
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from zpmeow.cache.envelope import HEADER_BYTES, Corruption, Envelope, decode
from zpmeow.cache.policy import FENCE_SECONDS, EntryKey, EntryPolicy, Loaded
from zpmeow.cache.tier import Entry

JITTER_RATIO = 0.1
"""Freshness is shortened by up to this share, so that what was cached together is not loaded again together."""

_UNREADABLE = (ValueError, KeyError, TypeError, AttributeError)
_REMEMBERED = 4096
_REMEMBERED_BYTES = 2048  # A record has some 400; 16 MB at the very most, then.


@dataclass(slots=True, frozen=True, kw_only=True)
class Reading:
    """A sound value from the tier, the same for all who read the same bytes.

    Until the first moment it may be served; until the second, marked, if the truth cannot be asked. Milliseconds since
    1970, the database's clock.
    """

    value: Any
    version: int
    fresh_until_ms: int
    usable_until_ms: int


class EntryCodec:
    """Knows the time."""

    def __init__(
        self,
        *,
        now_ms: Callable[[], int],
        lifetime_seconds: float = FENCE_SECONDS,
        chance: Callable[[], float] = random.random,
    ) -> None:
        """Go by `now_ms`: milliseconds since 1970, the database's clock.

        Args:
            now_ms: the clock.
            lifetime_seconds: how long every entry lives in the tier at least, fences and values alike: as long as the
                longest-lived value, so that a server which evicts what ends first evicts the oldest.
            chance: 0 to 1, spread evenly.
        """
        self._now_ms = now_ms
        self._lifetime_seconds = lifetime_seconds
        self._chance = chance
        self._open_again = lru_cache(maxsize=_REMEMBERED)(_open)

    def fresh_until_ms(self, key: EntryKey, loaded: Loaded, *, loaded_at_ms: int) -> int:
        """Return until when a value is fresh that was read from the truth at `loaded_at_ms`."""
        fresh_ms = key.policy.fresh_seconds * 1000 * (1 - JITTER_RATIO * self._chance())
        fresh_until = loaded_at_ms + int(fresh_ms)
        return fresh_until if loaded.expires_at_ms is None else min(fresh_until, loaded.expires_at_ms)

    def value(self, key: EntryKey, loaded: Loaded, *, epoch: bytes, loaded_at_ms: int) -> Entry:
        """Envelope a value that was read from the truth at `loaded_at_ms`, in this epoch.

        A value too large for an entry becomes a fence: it is not cached, and what was cached before goes.
        """
        policy = key.policy
        fresh_until = self.fresh_until_ms(key, loaded, loaded_at_ms=loaded_at_ms)
        envelope = Envelope(
            kind=policy.kind,
            schema=policy.schema,
            epoch=epoch,
            version=loaded.version,
            written_at_ms=loaded_at_ms,
            fresh_until_ms=fresh_until,
            usable_until_ms=fresh_until + int(policy.stale_seconds * 1000),
            payload=policy.encode(loaded.value),
        )
        try:
            data = envelope.encode(key.text)
        except ValueError:
            return self.fence(key, loaded.version, epoch=epoch, retire=True)
        lifetime_seconds = max(policy.lifetime_seconds, self._lifetime_seconds)
        return Entry(key=key.text, envelope=data, lifetime_seconds=lifetime_seconds)

    def fence(self, key: EntryKey, version: int, *, epoch: bytes, retire: bool) -> Entry:
        """Envelope "nothing below this version"; `retire`: not this version either."""
        now = self._now_ms()
        envelope = Envelope(
            kind=key.policy.kind,
            schema=key.policy.schema,
            epoch=epoch,
            version=version,
            written_at_ms=now,
            fresh_until_ms=now,
            usable_until_ms=now,
            payload=None,
        )
        return Entry(
            key=key.text, envelope=envelope.encode(key.text), lifetime_seconds=self._lifetime_seconds, retire=retire
        )

    def read(self, key: EntryKey, data: bytes, *, epoch: bytes, now_ms: int) -> Reading | Corruption | None:
        """Judge the bytes that stood under the key at `now_ms`; None: sound, but nothing to serve.

        That is so for a fence, for an entry of another epoch, and for one past all use. The same bytes of a value are
        opened once: whoever reads them gets the same.
        """
        policy = key.policy
        is_worth_it = HEADER_BYTES < len(data) <= _REMEMBERED_BYTES  # A fence is no more than a header.
        opened = (self._open_again if is_worth_it else _open)(key, policy, data)
        if isinstance(opened, Corruption):
            return opened
        envelope, reading = opened
        if reading is None or envelope.epoch != epoch or now_ms >= envelope.usable_until_ms:
            return None
        return reading


def _open(key: EntryKey, policy: EntryPolicy, data: bytes) -> tuple[Envelope, Reading | Corruption | None] | Corruption:
    """Check and decode the bytes that stood under the key; the value may be a Corruption of its own."""
    envelope = decode(data, key=key.text, kind=policy.kind, schema=policy.schema)
    if isinstance(envelope, Corruption):
        return envelope
    if envelope.payload is None:
        return envelope, None
    try:
        value = policy.decode(envelope.payload)
    except _UNREADABLE:
        return envelope, Corruption.SCHEMA
    reading = Reading(
        value=value,
        version=envelope.version,
        fresh_until_ms=envelope.fresh_until_ms,
        usable_until_ms=envelope.usable_until_ms,
    )
    return envelope, reading
