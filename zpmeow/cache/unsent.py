"""Committed changes that the tier should have and may not have: kept until it confirms them.

A change is noted here before it is sent and struck out when the tier has answered, so that neither a
timeout, a cancellation nor an open breaker loses it. Per key only the newest is kept. While a key is
noted here, what the tier has under it below that version is not believed.

This memory dies with the process: what survives that is the change log's affair.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from zpmeow.cache.tier import Entry

MAX_UNSENT = 50_000  # About 50 MB of entries. Beyond that, making the whole cache void is cheaper.


@dataclass(slots=True, frozen=True)
class Change:
    """An entry (a value or a fence) and the version in its envelope."""

    entry: Entry
    version: int


class UnsentChanges:
    """The newest unconfirmed change of each key."""

    def __init__(self, *, max_unsent: int = MAX_UNSENT) -> None:
        """Keep at most `max_unsent`; what comes beyond is dropped and `overflown` tells of it."""
        self._max_unsent = max_unsent
        self._by_key: dict[str, Change] = {}
        self.overflown = False

    def __len__(self) -> int:
        """How many keys have an unconfirmed change."""
        return len(self._by_key)

    def note(self, changes: Iterable[Change]) -> None:
        """Remember the changes until they are struck out; a newer one of the same key wins."""
        for change in changes:
            current = self._by_key.get(change.entry.key)
            if current is not None and current.version > change.version:
                continue
            if current is None and len(self._by_key) >= self._max_unsent:
                self.overflown = True
                continue
            self._by_key[change.entry.key] = change

    def strike(self, changes: Iterable[Change]) -> None:
        """Forget the changes that the tier has confirmed, unless a newer one took their place."""
        for change in changes:
            if self._by_key.get(change.entry.key) is change:
                del self._by_key[change.entry.key]

    def allows(self, key: str, version: int) -> bool:
        """Tell whether what the tier has under `key` with `version` is as new as what was not confirmed."""
        change = self._by_key.get(key)
        return change is None or version >= change.version

    def oldest(self, count: int) -> Sequence[Change]:
        """Return up to `count` of them, the longest noted first."""
        return [change for _, change in zip(range(count), self._by_key.values(), strict=False)]

    def clear(self) -> None:
        """Forget all: everything in the tier has become void."""
        self._by_key.clear()
        self.overflown = False
