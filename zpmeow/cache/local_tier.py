"""The tier inside the process: values as they are, found in a microsecond, bounded in bytes and in time.

It is no `CacheTier`: it holds objects, not bytes, and never fails. Whether it may be believed at all (is the change
feed live?) is its user's question; what the feed tells of is dropped at once.
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from cachetools import LRUCache
from typing_extensions import override

_ENTRY_BYTES = 500
"""What an entry costs besides its value: key, entry, places in two dicts. Measured with 100,000 entries."""

NEGATIVE_SECONDS = 1.0
"""How long "there is no such thing" is kept, here alone. What makes the thing drops it."""


@dataclass(slots=True)
class LocalEntry:
    """A value, its row's version, and until when it may be used (monotonic, seconds). A value of None: absent.

    The time of an entry that is not kept any more is over, so that whoever still has it need not ask the tier; and its
    value is let go at once, whoever still has the entry.
    """

    value: Any
    version: int
    use_until: float
    size_bytes: int


class LocalTier:
    """Entries by key; the least recently used go when the bytes are used up."""

    def __init__(self, *, max_bytes: int, ttl_seconds: float, monotonic: Callable[[], float] = time.monotonic) -> None:
        """Keep at most `max_bytes`, each entry for at most `ttl_seconds`. With either at 0 nothing is kept."""
        self._is_on = max_bytes > 0 and ttl_seconds > 0
        self._ttl_seconds = ttl_seconds
        self.monotonic = monotonic
        self._entries = _Entries(max(1, max_bytes), getsizeof=_size)

    @property
    def is_on(self) -> bool:
        """Whether anything is kept at all."""
        return self._is_on

    @property
    def used_bytes(self) -> int:
        """How many bytes the entries take, as they were weighed."""
        return int(self._entries.currsize)

    def __len__(self) -> int:
        """How many entries there are, those past their time included that nobody has asked for since."""
        return len(self._entries)

    def get(self, key: str) -> LocalEntry | None:
        """Return the entry, unless its time is over."""
        entry = self._entries.get(key)
        if entry is None:
            return None
        if entry.use_until <= self.monotonic():
            del self._entries[key]
            return None
        return entry

    def put(self, key: str, value: object, *, version: int, size_bytes: int, seconds: float | None = None) -> None:
        """Keep a value for its time, and for `seconds` at most, unless a newer version is kept."""
        if not self._is_on:
            return
        current = self._entries.get(key)
        if current is not None and current.version > version:
            return
        self.drop(key)  # Whatever comes of the new value, the older one is none any more.
        keep_seconds = self._ttl_seconds if seconds is None else min(self._ttl_seconds, seconds)
        if keep_seconds <= 0:
            return
        entry = LocalEntry(
            value=value,
            version=version,
            use_until=self.monotonic() + keep_seconds,
            size_bytes=size_bytes + _ENTRY_BYTES,
        )
        if entry.size_bytes <= self._entries.maxsize:
            self._entries[key] = entry

    def drop_below(self, key: str, version: int) -> None:
        """Forget what is kept under the key if it is older than this version."""
        entry = self._entries.get(key)
        if entry is not None and (entry.version < version or entry.value is None):
            del self._entries[key]

    def drop(self, key: str) -> None:
        """Forget what is kept under the key."""
        self._entries.pop(key, None)

    def clear(self) -> None:
        """Forget all."""
        self._entries.clear()


class _Entries(LRUCache[str, LocalEntry]):
    """Ends each entry that goes, however it goes."""

    @override
    def __delitem__(self, key: str) -> None:
        entry = self[key]
        super().__delitem__(key)
        _end(entry)

    @override
    def clear(self) -> None:
        entries = list(self.values())
        super().clear()
        for entry in entries:
            _end(entry)


def _end(entry: LocalEntry) -> None:
    entry.use_until = -math.inf
    entry.value = None


def _size(entry: LocalEntry) -> int:
    return entry.size_bytes
