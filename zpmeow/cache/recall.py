"""Entries of the local tier that answered one read together, so that the same read can be answered without looking
each of them up again.

An entry that was dropped, replaced or evicted is past its time from that moment (`LocalTier` sees to that), so that all
that is asked of entries is whose time is over. What led to them, a name or a key, may lead elsewhere by now: that is
asked of the floors (`Followed`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import starmap

from zpmeow.cache.coherence import Coherence
from zpmeow.cache.counted import looked_up
from zpmeow.cache.local_tier import LocalEntry, LocalTier
from zpmeow.cache.policy import Answer, EntryKey
from zpmeow.events import CacheLookedUp, LookupOutcome, Observer, Tier

_TOUCH_SECONDS = 0.5  # Arbitrary, small beside the 5 s that an entry lives: what is used is not evicted first.


@dataclass(slots=True, kw_only=True)
class Recall:
    """Entries by their keys, and the hits that each repetition counts as."""

    local: LocalTier
    coherence: Coherence
    keys: Sequence[str]
    entries: Sequence[LocalEntry]
    hits: Sequence[CacheLookedUp]
    observer: Observer
    _touch_at: float = field(default=0.0, init=False)

    def repeat(self) -> bool:
        """Look up again, if that would find these very entries; tell whether it did."""
        if not self.coherence.is_whole:
            return False
        now = self.local.monotonic()
        for entry in self.entries:
            if entry.use_until <= now:
                return False
        if now >= self._touch_at:
            self._touch_at = now + _TOUCH_SECONDS
            for key in self.keys:
                self.local.get(key)
        for hit in self.hits:
            self.observer(hit)
        return True


class Followed:
    """Hints that led to a record, with the version that it had."""

    __slots__ = ("_coherence", "_hints")

    def __init__(self, coherence: Coherence, hints: Sequence[tuple[str, int]]) -> None:
        """Ask `coherence` for what has become of them."""
        self._coherence = coherence
        self._hints = hints

    def may_still_lead(self) -> bool:
        """Tell whether none of them is known to lead elsewhere by now."""
        return all(starmap(self._coherence.allows_at_any_age, self._hints))


def make_recall(
    answers: Mapping[EntryKey, Answer],
    *,
    local: LocalTier,
    coherence: Coherence,
    observer: Observer,
) -> Recall | None:
    """Return the recall of what the local tier has answered; None if it would answer something else by now."""
    entries = []
    for key, answer in answers.items():
        entry = local.get(key.text)
        if entry is None or entry.value is not answer:
            return None
        entries.append(entry)
    return Recall(
        local=local,
        coherence=coherence,
        keys=tuple(key.text for key in answers),
        entries=tuple(entries),
        hits=tuple(looked_up(key.policy.entity, Tier.LOCAL, LookupOutcome.HIT) for key in answers),
        observer=observer,
    )
