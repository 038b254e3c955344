"""The cache as its users see it: values under keys, loaded once when missing, never older than known.

    get_or_load ── local tier ──────────────────────────── all there? ──→ answer
                        │ the feed is silent, or missing
                        └── tier: one MGET ──────────────── all there? ──→ answer; keep in the local tier
                                │ missing, corrupt, old, not believed, timeout, bypass
                                └── one load a key ──→ answer; keep in the local tier, fill the tier

No error of a tier leaves this class: a read that the tiers cannot answer is loaded. What loads raise is raised,
unless there is something that may be answered while the truth is silent (`lookups.py`).
"""

from collections.abc import Callable, Collection, Hashable, Mapping, Sequence
from typing import TypeVar

from zpmeow.cache.background import BackgroundTasks
from zpmeow.cache.call_budget import outside_budget
from zpmeow.cache.coherence import Coherence
from zpmeow.cache.counted import looked_up
from zpmeow.cache.entry_codec import EntryCodec
from zpmeow.cache.errors import CacheError
from zpmeow.cache.fills import Fills
from zpmeow.cache.hints import Hints
from zpmeow.cache.loads import Load, LoadLimits, Loads
from zpmeow.cache.local_tier import LocalTier
from zpmeow.cache.lookups import Lookups, Unanswered
from zpmeow.cache.policy import (
    Answer,
    EntryKey,
    HintKey,
    Loaded,
    Loader,
    LoadMark,
    TruthState,
)
from zpmeow.cache.recall import Followed, Recall, make_recall
from zpmeow.cache.tier import CacheTier
from zpmeow.cache.truth_loads import TruthLoads
from zpmeow.cache.updates import Updates
from zpmeow.events import LookupOutcome, Observer, Tier

J = TypeVar("J", bound=Hashable)
K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class TieredCache:
    """Values behind a local tier and a tier of bytes."""

    def __init__(
        self,
        *,
        tier: CacheTier,
        local: LocalTier,
        codec: EntryCodec,
        coherence: Coherence,
        now_ms: Callable[[], int],
        truth_state: Callable[[], TruthState],
        unavailable: type[Exception],
        limits: LoadLimits,
        grace_seconds: float,
        observer: Observer,
    ) -> None:
        """Cache in `local` and `tier`, as far as `coherence` believes them.

        Args:
            tier: bytes, in another place that may fail.
            local: values, in this process.
            codec: between the two.
            coherence: knows epoch, feed, floors and position.
            now_ms: the database's clock.
            truth_state: whether the truth answers, as far as is known without asking.
            unavailable: what loads raise when the truth cannot answer.
            limits: of the loads; who gives up waiting raises `unavailable`.
            grace_seconds: how long after the last word of the feed all that is fresh may be answered while the truth
                is silent.
            observer: is told of each look-up, load and change sent.
        """
        self._local = local
        self._codec = codec
        self._coherence = coherence
        self._now_ms = now_ms
        self._unavailable = unavailable
        self._observer = observer
        self._background = BackgroundTasks(observer=observer, expected=CacheError)
        self.hints = Hints(tier=tier, local=local, coherence=coherence, background=self._background, observer=observer)
        self._updates = Updates(tier=tier, codec=codec, coherence=coherence, observer=observer)
        self._fills = Fills(
            local=local,
            updates=self._updates,
            codec=codec,
            coherence=coherence,
            now_ms=now_ms,
            background=self._background,
        )
        self._loads = TruthLoads(coherence=coherence, fills=self._fills, limits=limits, observer=observer)
        self._lookups = Lookups(
            tier=tier,
            codec=codec,
            coherence=coherence,
            now_ms=now_ms,
            truth_state=truth_state,
            grace_seconds=grace_seconds,
            background=self._background,
            observer=observer,
        )

    async def get_or_load(
        self, keys: Sequence[EntryKey], load: Loader, *, may_be_stale: Collection[EntryKey] = ()
    ) -> dict[EntryKey, Answer]:
        """Return the value of each key; one that is missing in the answer does not exist.

        Args:
            keys: what is wanted. One round trip for all.
            load: asks the truth for those that the tiers cannot answer, in one call; with those of other callers whose
                `load` is equal to this one.
            may_be_stale: for which of them a value past its freshness is good enough when the truth
                cannot answer.

        Raises:
            Exception: what `load` raises, or has in the place of a value. After a cancellation the load goes on and
                fills the cache.
        """
        answers, rest = self._look_locally(keys)
        if not rest:
            return answers
        mark = self._coherence.begin_load()
        found = await self._lookups.look_up(rest)
        self._fills.keep_found(found, mark)
        answers.update(found.answers)
        if found.unanswered:
            asked = mark if found.was_asked else None
            answers.update(await self._load(found.unanswered, load, may_be_stale, asked))
        return answers

    def peek(self, key: EntryKey) -> int | None:
        """Return the version that the local tier would answer with now, if it would."""
        entry = self._local.get(key.text) if self._coherence.is_whole else None
        return None if entry is None or entry.value is None else entry.version

    async def peek_tier(self, key: EntryKey) -> int | None:
        """Return the version that the tier would answer with now, if it would. Raises CacheError."""
        return await self._lookups.peek(key)

    def recall(self, answers: Mapping[EntryKey, Answer]) -> Recall | None:
        """Return what answers the same keys again, as long as it is the same; None: they are not kept here."""
        return make_recall(answers, local=self._local, coherence=self._coherence, observer=self._observer)

    def followed(self, hints: Mapping[HintKey, int]) -> Followed:
        """Return what tells whether these hints may still lead where a record of that version was found."""
        return Followed(self._coherence, tuple((key.text, version) for key, version in hints.items()))

    def begin_load(self) -> LoadMark:
        """Note that a load or a write begins whose values will be given to `publish`, `fill` or `warm`."""
        return self._coherence.begin_load()

    async def publish(self, values: Mapping[EntryKey, Loaded], mark: LoadMark) -> None:
        """Take over committed values: from now on no read of this process is answered with older ones.

        `mark` was made before the write. Raises no error of the tier; what the tier does not take is the relay's
        affair.
        """
        for key, loaded in values.items():
            self.changed(key.text, loaded.version)
        self.keep(values, mark)
        await self._updates.send_written(values, mark)

    async def remove(self, keys: Sequence[EntryKey], version: int) -> None:
        """Take over a committed removal: from now on nothing below `version` is answered."""
        for key in keys:
            self.changed(key.text, version)
        await self._updates.send_removed(keys, version)

    async def retire(self, versions: Mapping[EntryKey, int]) -> None:
        """Make what is cached up to these versions unreadable; the next read loads it anew."""
        for key in versions:
            self._local.drop(key.text)
        await self._updates.send_retired(versions)

    def changed(self, key_text: str, version: int) -> None:
        """Take note of a committed change: what is older is not answered from now on."""
        self._coherence.raise_floor(key_text, version)
        self._local.drop_below(key_text, version)

    def make_loads(
        self,
        *,
        load: Load[J, K, V],
        is_outdated: Callable[[K, V, LoadMark], bool],
        on_coalesced: Callable[[K], None],
        limits: LoadLimits,
    ) -> Loads[J, K, V]:
        """Make loads by other keys than entries', joined and repeated by the same rules."""
        return Loads(
            load=load,
            coherence=self._coherence,
            is_outdated=is_outdated,
            on_coalesced=on_coalesced,
            limits=limits,
        )

    def begin_anew(self) -> None:
        """Forget what is kept in this process: changes may be missing here."""
        self._local.clear()

    def knows_newer(self, key: EntryKey, version: int) -> bool:
        """Tell whether this process knows of a committed version above this one."""
        return not self._coherence.allows(key.text, version)

    async def warm(self, values: Mapping[EntryKey, Loaded], mark: LoadMark) -> int:
        """Send loaded values now; return how many the tier took, 0 when it takes no calls."""
        try:
            with outside_budget():
                return await self._updates.fill(values, mark)
        except CacheError:
            return 0

    def fill(self, values: Mapping[EntryKey, Loaded], mark: LoadMark) -> None:
        """Keep loaded values here, and send them to the tier in the background, unless they may be outdated."""
        self._fills.fill(values, mark, known_corrupt=())

    def keep(self, values: Mapping[EntryKey, Loaded], mark: LoadMark) -> None:
        """Keep loaded values in this process, unless they may be outdated."""
        self._fills.keep(values, mark)

    @property
    def waiting(self) -> int:
        """How many callers wait until the truth may be asked for them."""
        return self._loads.waiting

    async def close(self, *, grace_seconds: float) -> None:
        """Let loads and fills end, within their deadlines and the grace."""
        await self._loads.close(grace_seconds=grace_seconds)
        await self._background.close(grace_seconds=grace_seconds)

    def _look_locally(self, keys: Sequence[EntryKey]) -> tuple[dict[EntryKey, Answer], Sequence[EntryKey]]:
        """Return the answers, and the keys that are still wanted; a key known to be absent is in neither."""
        if not self._local.is_on:
            return {}, keys
        observer = self._observer
        if not self._coherence.is_whole:
            for key in keys:
                observer(looked_up(key.policy.entity, Tier.LOCAL, LookupOutcome.BYPASS))
            return {}, keys
        answers: dict[EntryKey, Answer] = {}
        rest = []
        for key in keys:
            entry = self._local.get(key.text)
            if entry is None:
                observer(looked_up(key.policy.entity, Tier.LOCAL, LookupOutcome.MISS))
                rest.append(key)
                continue
            observer(looked_up(key.policy.entity, Tier.LOCAL, LookupOutcome.HIT))
            if entry.value is not None:
                answers[key] = entry.value
        return answers, rest

    async def _load(
        self,
        unanswered: Mapping[EntryKey, Unanswered],
        load: Loader,
        may_be_stale: Collection[EntryKey],
        asked: LoadMark | None,
    ) -> dict[EntryKey, Answer]:
        answers: dict[EntryKey, Answer] | None = None
        try:
            if self._lookups.should_fall_back_at_once:
                answers = self._lookups.fall_back(unanswered, may_be_stale)
            if answers is None:
                answers = await self._loads.load(unanswered, load, asked=asked)
        except self._unavailable:
            answers = self._lookups.fall_back(unanswered, may_be_stale)
            if answers is None:
                raise
        finally:
            self._lookups.settle(unanswered, answers)
        return answers
