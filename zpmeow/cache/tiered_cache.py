"""The cache as its users see it: values under keys, loaded once when missing, never older than known.

    get_or_load ── tier: one MGET ── every key fresh? ──→ answer
                        │ missing, corrupt, old, timeout, bypass
                        └── single flight ── load ── is a newer version known? ──→ answer
                                                        └── fill, in the background

Changes go to `ChangePublisher`. No error of the tier leaves this class: a read that the tier cannot
answer is loaded. What loads raise is raised.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

from zpmeow.cache.background import BackgroundTasks
from zpmeow.cache.call_budget import outside_budget
from zpmeow.cache.change_publisher import ChangePublisher
from zpmeow.cache.entry_codec import EntryCodec, Reading
from zpmeow.cache.envelope import Corruption
from zpmeow.cache.errors import CacheBypassed, CacheError, CacheTimeout
from zpmeow.cache.floors import FLOOR_SECONDS
from zpmeow.cache.policy import Answer, EntryKey, HintAnswer, HintKey, Loaded, Loader, LoadMark, Origin
from zpmeow.cache.single_flight import SingleFlight
from zpmeow.cache.tier import CacheTier, Hint, PutOutcome
from zpmeow.events import (
    CacheLookedUp,
    CorruptEntryFound,
    LoadCoalesced,
    LoadFinished,
    LoadOutcome,
    LookupOutcome,
    Observer,
)

_TIER = "redis"  # The label of the only tier so far.
_MAX_FILL_MS = int(FLOOR_SECONDS * 1000) // 2  # Half of it, since the sending takes time too.
_MAX_LOADS = 3  # A load that is too old is repeated; the second begins after the change was committed.


@dataclass(slots=True, frozen=True)
class _Unanswered:
    """A key that the tier could not answer: why, and its value past freshness, if there is one."""

    outcome: LookupOutcome
    expired: Reading | None = None


class TieredCache:
    """Values behind a tier of bytes."""

    def __init__(
        self,
        *,
        tier: CacheTier,
        codec: EntryCodec,
        publisher: ChangePublisher,
        now_ms: Callable[[], int],
        unavailable: type[Exception],
        observer: Observer,
    ) -> None:
        """Cache in `tier`. `unavailable` is what loads raise when the truth cannot answer.

        Until `set_epoch` was called, every read is loaded and nothing is sent.
        """
        self._tier = tier
        self._codec = codec
        self._publisher = publisher
        self._now_ms = now_ms
        self._unavailable = unavailable
        self._observer = observer
        self._background = BackgroundTasks(observer=observer, expected=CacheError)
        self._flights: SingleFlight[EntryKey, Loaded] = SingleFlight(
            on_coalesced=lambda key: observer(LoadCoalesced(key.policy.entity))
        )

    @property
    def epoch(self) -> bytes | None:
        """The epoch that is worked in, 16 bytes; None before it is known."""
        return self._codec.epoch

    @property
    def is_trusted(self) -> bool:
        """Whether the tier is believed: its epoch is known, and this process has not lost track of its changes."""
        return self._codec.epoch is not None and not self._publisher.overflown

    def set_epoch(self, epoch: bytes) -> None:
        """Work in this epoch (16 bytes). Entries of any other are void."""
        if epoch != self._codec.epoch:
            self._codec.epoch = epoch
            self._publisher.begin_epoch()

    async def get_or_load(
        self, keys: Sequence[EntryKey], load: Loader, *, may_be_stale: Collection[EntryKey] = ()
    ) -> dict[EntryKey, Answer]:
        """Return the value of each key; one that is missing in the answer does not exist.

        Args:
            keys: what is wanted. One round trip for all.
            load: asks the truth for those that the tier cannot answer, in one call.
            may_be_stale: for which of them a value past its freshness is good enough when the truth
                cannot answer.

        Raises:
            Exception: what `load` raises. After a cancellation the load goes on and fills the cache.
        """
        answers, unanswered = await self._look_up(keys)
        if not unanswered:
            return answers
        expired = {key: one.expired for key, one in unanswered.items() if one.expired is not None}
        expired_as = LookupOutcome.MISS
        try:
            answers.update(await self._load(unanswered, load))
        except self._unavailable:
            if not all(key in expired and key in may_be_stale for key in unanswered):
                raise
            if any(self.knows_newer(key, one.version) for key, one in expired.items()):
                raise  # It was changed while the load was tried.
            expired_as = LookupOutcome.STALE
            for key, one in expired.items():
                answers[key] = Answer(value=one.value, version=one.version, origin=Origin.STALE)
        finally:
            for key in expired:
                self._observer(CacheLookedUp(key.policy.entity, _TIER, expired_as))
        return answers

    async def publish(self, values: Mapping[EntryKey, Loaded]) -> None:
        """Take over committed values: from now on no read of this process is answered with older ones.

        Raises no error of the tier; what it does not confirm is sent again. After a cancellation the
        same holds.
        """
        if self._codec.epoch is not None:
            now = self._now_ms()
            changes = [self._codec.value(key, loaded, loaded_at_ms=now) for key, loaded in values.items()]
            await self._publisher.send(changes, source="write")

    async def remove(self, keys: Sequence[EntryKey], version: int) -> None:
        """Take over a committed removal: from now on nothing below `version` is answered."""
        if self._codec.epoch is not None:
            changes = [self._codec.fence(key, version, retire=False) for key in keys]
            await self._publisher.send(changes, source="write")

    async def retire(self, versions: Mapping[EntryKey, int]) -> None:
        """Make what the tier has up to these versions unreadable; the next read loads it anew."""
        if self._codec.epoch is not None:
            changes = [self._codec.fence(key, version, retire=True) for key, version in versions.items()]
            await self._publisher.send(changes, source="operator")

    def knows_newer(self, key: EntryKey, version: int) -> bool:
        """Tell whether this process knows of a committed version above this one."""
        return not self._publisher.allows(key.text, version)

    def begin_load(self) -> LoadMark:
        """Note that a load begins whose values will be given to `fill` or `warm`."""
        return LoadMark(began_at_ms=self._now_ms(), epoch=self._codec.epoch)

    def lose_track(self) -> None:
        """The tier may have what is outdated, and nobody knows where: it is not believed until a new epoch."""
        self._publisher.lose_track()

    async def warm(self, values: Mapping[EntryKey, Loaded], mark: LoadMark) -> int:
        """Send loaded values now; return how many the tier took, 0 when it takes no calls."""
        try:
            with outside_budget():
                return await self._fill(values, mark)
        except CacheError:
            return 0

    def fill(
        self, values: Mapping[EntryKey, Loaded], mark: LoadMark, *, known_corrupt: Collection[EntryKey] = ()
    ) -> None:
        """Send loaded values to the tier, in the background, unless they may be outdated.

        `known_corrupt`: what stands there has been found corrupt and counted; its removal may not be done yet.
        """
        if values and self._codec.epoch is not None:
            self._background.start(lambda: self._fill(values, mark, known_corrupt), name="fill")

    async def get_hint(self, key: HintKey) -> HintAnswer:
        """Return the hint, if there is one. It is a guess: the caller verifies it."""
        text = None
        try:
            self._require_trust()
            (text,) = await self._tier.get_many([key.text])
            outcome = LookupOutcome.MISS if text is None else LookupOutcome.HIT
        except CacheError as error:
            outcome = _outcome_of(error)
        self._observer(CacheLookedUp(key.policy.entity, _TIER, outcome))
        return HintAnswer(text=text, bypassed=outcome is LookupOutcome.BYPASS)

    def put_hint(self, key: HintKey, text: bytes) -> None:
        """Leave a hint, in the background; whether it arrives does not matter."""
        hint = Hint(key=key.text, text=text, lifetime_seconds=key.policy.lifetime_seconds)
        self._background.start(lambda: self._tier.put_many([hint]), name="put-hint")

    def discard_hint(self, key: HintKey, text: bytes) -> None:
        """Remove a hint that proved wrong, in the background, if it still says `text`."""
        self._background.start(lambda: self._tier.discard(key.text, text), name="discard-hint")

    async def close(self, *, grace_seconds: float) -> None:
        """Let loads and fills end, within their deadlines and the grace."""
        await self._flights.close(grace_seconds=grace_seconds)
        await self._background.close(grace_seconds=grace_seconds)

    async def _look_up(self, keys: Sequence[EntryKey]) -> tuple[dict[EntryKey, Answer], dict[EntryKey, _Unanswered]]:
        try:
            self._require_trust()
            stored = await self._tier.get_many([key.text for key in keys])
        except CacheError as error:
            outcome = _outcome_of(error)
            for key in keys:
                self._observer(CacheLookedUp(key.policy.entity, _TIER, outcome))
            return {}, {key: _Unanswered(outcome) for key in keys}
        answers: dict[EntryKey, Answer] = {}
        unanswered = {}
        for key, data in zip(keys, stored, strict=True):
            judged = self._judge(key, data)
            if isinstance(judged, Answer):
                self._observer(CacheLookedUp(key.policy.entity, _TIER, LookupOutcome.HIT))
                answers[key] = judged
            else:
                unanswered[key] = judged
                if judged.expired is None:
                    self._observer(CacheLookedUp(key.policy.entity, _TIER, judged.outcome))
        return answers, unanswered

    def _judge(self, key: EntryKey, data: bytes | None) -> Answer | _Unanswered:
        if data is None:
            return _Unanswered(LookupOutcome.MISS)
        reading = self._codec.read(key, data)
        if isinstance(reading, Corruption):
            self._observer(CorruptEntryFound(key.text, reading))
            self._background.start(lambda: self._tier.discard(key.text, data), name="discard-corrupt")
            return _Unanswered(LookupOutcome.CORRUPT)
        if reading is None or self.knows_newer(key, reading.version):
            return _Unanswered(LookupOutcome.MISS)
        if not reading.fresh:
            return _Unanswered(LookupOutcome.MISS, reading)
        return Answer(value=reading.value, version=reading.version, origin=Origin.TIER)

    async def _load(self, unanswered: Mapping[EntryKey, _Unanswered], load: Loader) -> dict[EntryKey, Answer]:
        corrupt = {key for key, one in unanswered.items() if one.outcome is LookupOutcome.CORRUPT}
        bypassed = all(one.outcome is LookupOutcome.BYPASS for one in unanswered.values())

        async def load_and_fill(keys: Sequence[EntryKey]) -> Mapping[EntryKey, Loaded]:
            mark = self.begin_load()
            loaded = await self._load_once(keys, load)
            if not bypassed:
                self.fill(loaded, mark, known_corrupt=corrupt)
            return loaded

        wanted: Sequence[EntryKey] = list(unanswered)
        answers: dict[EntryKey, Answer] = {}
        for _ in range(_MAX_LOADS):
            loaded = await self._flights.load(wanted, load_and_fill)
            for key in wanted:
                answers.pop(key, None)
            for key, one in loaded.items():
                tried = unanswered[key].outcome in {LookupOutcome.MISS, LookupOutcome.CORRUPT}
                origin = Origin.LOAD_AFTER_MISS if tried else Origin.LOAD_AFTER_BYPASS
                answers[key] = Answer(value=one.value, version=one.version, origin=origin)
            wanted = [key for key, one in loaded.items() if self.knows_newer(key, one.version)]
            if not wanted:
                break
        return answers

    async def _load_once(self, keys: Sequence[EntryKey], load: Loader) -> Mapping[EntryKey, Loaded]:
        try:
            loaded = await load(keys)
        except Exception:
            for key in keys:
                self._observer(LoadFinished(key.policy.entity, LoadOutcome.ERROR))
            raise
        for key in keys:
            outcome = LoadOutcome.FOUND if key in loaded else LoadOutcome.ABSENT
            self._observer(LoadFinished(key.policy.entity, outcome))
        return loaded

    async def _fill(
        self, values: Mapping[EntryKey, Loaded], mark: LoadMark, known_corrupt: Collection[EntryKey] = ()
    ) -> int:
        """Send what is neither of a past epoch, nor below a floor, nor so old that its floor may have aged."""
        if mark.epoch is None or mark.epoch != self._codec.epoch or self._now_ms() > mark.began_at_ms + _MAX_FILL_MS:
            return 0
        keys = [key for key, loaded in values.items() if not self.knows_newer(key, loaded.version)]
        if not keys:
            return 0
        changes = [self._codec.value(key, values[key], loaded_at_ms=mark.began_at_ms) for key in keys]
        outcomes = await self._tier.put_many([change.entry for change in changes])
        for key, outcome in zip(keys, outcomes, strict=True):
            if outcome is PutOutcome.REPLACED_CORRUPT and key not in known_corrupt:
                self._observer(CacheLookedUp(key.policy.entity, _TIER, LookupOutcome.CORRUPT))
                self._observer(CorruptEntryFound(key.text, "type"))
        return len(keys)

    def _require_trust(self) -> None:
        if not self.is_trusted:
            message = "untrusted"
            raise CacheBypassed(message)


def _outcome_of(error: CacheError) -> LookupOutcome:
    match error:
        case CacheTimeout():
            return LookupOutcome.TIMEOUT
        case CacheBypassed():
            return LookupOutcome.BYPASS
        case _:
            return LookupOutcome.ERROR
