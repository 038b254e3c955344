"""Between values and what stands in the tier: enveloping what is written, judging what is read."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from zpmeow.cache.envelope import Corruption, Envelope, decode
from zpmeow.cache.policy import FENCE_SECONDS, EntryKey, Loaded
from zpmeow.cache.tier import Entry
from zpmeow.cache.unsent import Change

_UNREADABLE = (ValueError, KeyError, TypeError, AttributeError)


@dataclass(slots=True, kw_only=True)
class Reading:
    """A sound value from the tier; `fresh` tells whether it may be served while the truth can be asked."""

    value: Any
    version: int
    fresh: bool


class EntryCodec:
    """Knows the epoch and the time. `epoch` is None until the database has told it."""

    def __init__(self, *, now_ms: Callable[[], int]) -> None:
        """Go by `now_ms`: milliseconds since 1970, the database's clock."""
        self._now_ms = now_ms
        self.epoch: bytes | None = None

    def value(self, key: EntryKey, loaded: Loaded, *, loaded_at_ms: int) -> Change:
        """Envelope a value that was read from the truth at `loaded_at_ms`.

        A value too large for an entry becomes a fence: it is not cached, and what was cached before goes.
        """
        policy = key.policy
        fresh_until = loaded_at_ms + int(policy.fresh_seconds * 1000)
        if loaded.expires_at_ms is not None:
            fresh_until = min(fresh_until, loaded.expires_at_ms)
        envelope = self._envelope(
            key,
            version=loaded.version,
            written_at_ms=loaded_at_ms,
            fresh_until_ms=fresh_until,
            usable_until_ms=fresh_until + int(policy.stale_seconds * 1000),
            payload=policy.encode(loaded.value),
        )
        try:
            data = envelope.encode(key.text)
        except ValueError:
            return self.fence(key, loaded.version, retire=True)
        return Change(Entry(key=key.text, envelope=data, lifetime_seconds=policy.lifetime_seconds), loaded.version)

    def fence(self, key: EntryKey, version: int, *, retire: bool) -> Change:
        """Envelope "nothing below this version"; `retire`: not this version either."""
        now = self._now_ms()
        envelope = self._envelope(
            key, version=version, written_at_ms=now, fresh_until_ms=now, usable_until_ms=now, payload=None
        )
        entry = Entry(key=key.text, envelope=envelope.encode(key.text), lifetime_seconds=FENCE_SECONDS, retire=retire)
        return Change(entry, version)

    def read(self, key: EntryKey, data: bytes) -> Reading | Corruption | None:
        """Judge the bytes that stood under the key; None: sound, but nothing to serve.

        That is so for a fence, for an entry of another epoch, and for one past all use.
        """
        envelope = decode(data, key=key.text, kind=key.policy.kind, schema=key.policy.schema)
        if isinstance(envelope, Corruption):
            return envelope
        now = self._now_ms()
        if envelope.payload is None or envelope.epoch != self.epoch or now >= envelope.usable_until_ms:
            return None
        try:
            value = key.policy.decode(envelope.payload)
        except _UNREADABLE:
            return Corruption.SCHEMA
        return Reading(value=value, version=envelope.version, fresh=now < envelope.fresh_until_ms)

    def _envelope(
        self,
        key: EntryKey,
        *,
        version: int,
        written_at_ms: int,
        fresh_until_ms: int,
        usable_until_ms: int,
        payload: bytes | None,
    ) -> Envelope:
        assert self.epoch is not None, "nothing is enveloped before the epoch is known"
        return Envelope(
            kind=key.policy.kind,
            schema=key.policy.schema,
            epoch=self.epoch,
            version=version,
            written_at_ms=written_at_ms,
            fresh_until_ms=fresh_until_ms,
            usable_until_ms=usable_until_ms,
            payload=payload,
        )
