"""Look-ups that lead to an entry's key: guesses, which whoever asks verifies against the entry.

They have no versions, and need none: a hint that is wrong is a miss. Only "there is nothing" cannot be verified. It
is kept for a second, in this process alone, and the change feed drops it as soon as there is something.
"""

from zpmeow.cache.background import BackgroundTasks
from zpmeow.cache.coherence import Coherence
from zpmeow.cache.counted import looked_up
from zpmeow.cache.errors import CacheError
from zpmeow.cache.local_tier import NEGATIVE_SECONDS, LocalTier
from zpmeow.cache.lookups import outcome_of
from zpmeow.cache.policy import HintAnswer, HintKey, LoadMark
from zpmeow.cache.tier import CacheTier, Hint
from zpmeow.events import LookupOutcome, Observer, Tier


class Hints:
    """Hints in both tiers."""

    def __init__(
        self,
        *,
        tier: CacheTier,
        local: LocalTier,
        coherence: Coherence,
        background: BackgroundTasks,
        observer: Observer,
    ) -> None:
        """Keep them in `local` and `tier`."""
        self._tier = tier
        self._local = local
        self._coherence = coherence
        self._background = background
        self._observer = observer

    async def get(self, key: HintKey) -> HintAnswer:
        """Return the hint, if there is one. It is a guess: the caller verifies it."""
        if self._local.is_on:
            is_whole = self._coherence.is_whole
            entry = self._local.get(key.text) if is_whole else None
            missed = LookupOutcome.MISS if is_whole else LookupOutcome.BYPASS
            outcome = missed if entry is None else LookupOutcome.HIT
            self._observer(looked_up(key.policy.entity, Tier.LOCAL, outcome))
            if entry is not None:
                return HintAnswer(text=entry.value, leads_nowhere=entry.value is None)
        text = None
        try:
            (text,) = await self._tier.get_many([key.text])
            outcome = LookupOutcome.MISS if text is None else LookupOutcome.HIT
        except CacheError as error:
            outcome = outcome_of(error)
        self._observer(looked_up(key.policy.entity, Tier.REDIS, outcome))
        if text is not None:
            self._local.put(key.text, text, version=0, size_bytes=len(text))
        return HintAnswer(text=text, bypassed=outcome is LookupOutcome.BYPASS)

    def put(self, key: HintKey, text: bytes) -> None:
        """Leave a hint, in the background; whether it arrives does not matter."""
        self._local.put(key.text, text, version=0, size_bytes=len(text))
        hint = Hint(key=key.text, text=text, lifetime_seconds=key.policy.lifetime_seconds)
        self._background.start(lambda: self._tier.put_many([hint]), name="put-hint")

    def deny(self, key: HintKey, mark: LoadMark) -> None:
        """Note for a second that a load which began at `mark` found nothing under the key."""
        if self._coherence.covers(mark) and not self._coherence.changed_since(key.text, mark):
            self._local.put(key.text, None, version=0, size_bytes=0, seconds=NEGATIVE_SECONDS)

    def changed_since(self, key: HintKey, mark: LoadMark) -> bool:
        """Tell whether something was made, renamed or removed under the key since a load began, as far as is known."""
        return self._coherence.changed_since(key.text, mark)

    def discard(self, key: HintKey, text: bytes) -> None:
        """Remove a hint that proved wrong, in the background, if it still says `text`."""
        self._local.drop(key.text)
        self._background.start(lambda: self._tier.discard(key.text, text), name="discard-hint")
