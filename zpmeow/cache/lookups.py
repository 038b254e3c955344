"""Asks the tier, judges what it says, and knows what may be answered when the truth is silent.

one MGET: position and entries ── believed, sound, fresh, not below a floor? ──→ answer
                │ else
                └── Unanswered: why, and what could be answered if the truth cannot be asked
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

from zpmeow.cache.background import BackgroundTasks
from zpmeow.cache.coherence import Belief, Coherence
from zpmeow.cache.counted import looked_up
from zpmeow.cache.entry_codec import EntryCodec, Reading
from zpmeow.cache.envelope import Corruption
from zpmeow.cache.errors import CacheBypassed, CacheError, CacheTimeout
from zpmeow.cache.policy import Answer, EntryKey, Origin, TruthState
from zpmeow.cache.position import POSITION_KEY
from zpmeow.cache.tier import CacheTier
from zpmeow.events import CorruptEntryFound, LookupOutcome, Observer, Tier


@dataclass(slots=True, frozen=True)
class Unanswered:
    """A key that the tier could not answer: why, and what it has all the same, worth that much."""

    outcome: LookupOutcome
    reading: Reading | None = None
    belief: Belief = Belief.DOUBTFUL


@dataclass(slots=True)
class Found:
    """What became of a look-up. `readings` are those behind the answers; `was_asked`: the tier was not left alone."""

    answers: dict[EntryKey, Answer]
    readings: dict[EntryKey, Reading]
    unanswered: dict[EntryKey, Unanswered]
    was_asked: bool = True


class Lookups:
    """Reads the tier of bytes. Counts each look-up once, when its outcome is known."""

    def __init__(
        self,
        *,
        tier: CacheTier,
        codec: EntryCodec,
        coherence: Coherence,
        now_ms: Callable[[], int],
        truth_state: Callable[[], TruthState],
        grace_seconds: float,
        background: BackgroundTasks,
        observer: Observer,
    ) -> None:
        """Read `tier`. `grace_seconds`: how long after the last word of the feed all that is fresh may be answered
        while the truth is silent.
        """
        self._tier = tier
        self._codec = codec
        self._coherence = coherence
        self._now_ms = now_ms
        self._truth_state = truth_state
        self._grace_seconds = grace_seconds
        self._background = background
        self._observer = observer

    async def look_up(self, keys: Sequence[EntryKey]) -> Found:
        """Ask the tier for the keys, in one round trip. Raises nothing."""
        found = Found({}, {}, {})
        if self._coherence.epoch is None:
            found.was_asked = False
            found.unanswered = self._fail(keys, LookupOutcome.BYPASS)
            return found
        try:
            position, *stored = await self._tier.get_many([POSITION_KEY, *(key.text for key in keys)])
        except CacheError as error:
            found.was_asked = not isinstance(error, CacheBypassed)
            found.unanswered = self._fail(keys, outcome_of(error))
            return found
        self._judge(found, keys, stored, self._coherence.judge(position).belief)
        return found

    async def peek(self, key: EntryKey) -> int | None:
        """Return the version that the tier would answer with now, if it would; counts nothing. Raises CacheError."""
        epoch = self._coherence.epoch
        if epoch is None:
            return None
        position, data = await self._tier.get_many([POSITION_KEY, key.text])
        trusted = self._coherence.judge(position).belief is Belief.TRUSTED
        if data is None or not trusted:
            return None
        now_ms = self._now_ms()
        reading = self._codec.read(key, data, epoch=epoch, now_ms=now_ms)
        if not isinstance(reading, Reading) or now_ms >= reading.fresh_until_ms:
            return None
        return reading.version if self._coherence.allows(key.text, reading.version) else None

    def fall_back(
        self, unanswered: Mapping[EntryKey, Unanswered], may_be_stale: Collection[EntryKey]
    ) -> dict[EntryKey, Answer] | None:
        """Return what may be answered while the truth is silent, or None if that is not enough for all keys.

        The readings may have been waiting for a load that failed: all is judged by the time of now.
        """
        answers = {}
        for key, one in unanswered.items():
            origin = self._fallback_origin(key, one, may_be_stale)
            if origin is None:
                return None
            assert one.reading is not None
            answers[key] = Answer(value=one.reading.value, version=one.reading.version, origin=origin)
        return answers

    @property
    def should_fall_back_at_once(self) -> bool:
        """Whether asking the truth would only cost time: it is known not to answer."""
        return not self._coherence.feed_is_live and self._truth_state() is not TruthState.ANSWERS

    def settle(self, unanswered: Mapping[EntryKey, Unanswered], answers: Mapping[EntryKey, Answer] | None) -> None:
        """Count the look-ups that had something to fall back on: by what became of them."""
        for key, one in unanswered.items():
            if one.reading is None:
                continue
            answer = None if answers is None else answers.get(key)
            outcome = one.outcome
            if answer is not None and answer.origin is Origin.STALE:
                outcome = LookupOutcome.STALE
            elif answer is not None and answer.origin is Origin.TIER:
                outcome = LookupOutcome.HIT
            self._observer(looked_up(key.policy.entity, Tier.REDIS, outcome))

    def _fail(self, keys: Sequence[EntryKey], outcome: LookupOutcome) -> dict[EntryKey, Unanswered]:
        for key in keys:
            self._observer(looked_up(key.policy.entity, Tier.REDIS, outcome))
        return dict.fromkeys(keys, Unanswered(outcome))

    def _judge(self, found: Found, keys: Sequence[EntryKey], stored: Sequence[bytes | None], belief: Belief) -> None:
        epoch, now_ms = self._coherence.epoch, self._now_ms()
        assert epoch is not None
        trusted = belief is Belief.TRUSTED
        for key, data in zip(keys, stored, strict=True):
            # That there is nothing needs no belief.
            missed = LookupOutcome.MISS if trusted or data is None else LookupOutcome.BYPASS
            reading = None if data is None else self._codec.read(key, data, epoch=epoch, now_ms=now_ms)
            if isinstance(reading, Corruption):
                assert data is not None
                self._tell_of_corrupt(key, data, reading)
                reading, missed = None, LookupOutcome.CORRUPT
            if reading is not None and not self._coherence.allows(key.text, reading.version):
                reading = None
            if reading is not None and trusted and now_ms < reading.fresh_until_ms:
                self._observer(looked_up(key.policy.entity, Tier.REDIS, LookupOutcome.HIT))
                found.answers[key] = Answer(value=reading.value, version=reading.version, origin=Origin.TIER)
                found.readings[key] = reading
                continue
            found.unanswered[key] = Unanswered(missed, reading, belief)
            if reading is None:
                self._observer(looked_up(key.policy.entity, Tier.REDIS, missed))

    def _tell_of_corrupt(self, key: EntryKey, data: bytes, corruption: Corruption) -> None:
        """Tell of what stands there, and have it removed."""
        self._observer(CorruptEntryFound(key.text, corruption))
        self._background.start(lambda: self._tier.discard(key.text, data), name="discard-corrupt")

    def _fallback_origin(self, key: EntryKey, one: Unanswered, may_be_stale: Collection[EntryKey]) -> Origin | None:
        now_ms = self._now_ms()
        if one.reading is None or now_ms >= one.reading.usable_until_ms:
            return None
        if not self._coherence.allows_at_any_age(key.text, one.reading.version):
            return None  # It was changed; and while the truth is silent, the change may not have reached the tier.
        may_be_old = key in may_be_stale and key.policy.stale_seconds > 0
        if now_ms < one.reading.fresh_until_ms:
            if one.belief is Belief.CURRENT:
                return Origin.TIER
            if one.belief is Belief.LAST_KNOWN and self._nothing_can_have_changed:
                return Origin.STALE if may_be_old else Origin.TIER
        return Origin.STALE if may_be_old else None

    @property
    def _nothing_can_have_changed(self) -> bool:
        """A truth that is down changes nothing. One that is silent may: not for longer than the bound, then."""
        return self._truth_state() is TruthState.DOWN or self._coherence.heard_within(self._grace_seconds)


def outcome_of(error: CacheError) -> LookupOutcome:
    """Name the outcome of a look-up that ended in this error."""
    match error:
        case CacheTimeout():
            return LookupOutcome.TIMEOUT
        case CacheBypassed():
            return LookupOutcome.BYPASS
        case _:
            return LookupOutcome.ERROR
