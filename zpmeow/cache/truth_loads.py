"""Entries from the truth: loaded with those of other callers, counted, kept, and answered.

unanswered ── loads (each key by one flight) ── load ── count ── fill the tiers
                        └────────────────────────────────────→ answers
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from zpmeow.cache.coherence import Coherence
from zpmeow.cache.fills import Fills
from zpmeow.cache.loads import LoadLimits, Loads
from zpmeow.cache.lookups import Unanswered
from zpmeow.cache.policy import Answer, EntryKey, Loaded, Loader, LoadFailure, LoadMark, Origin
from zpmeow.events import LoadCoalesced, LoadFinished, LoadOutcome, LookupOutcome, Observer

_TRIED = frozenset({LookupOutcome.MISS, LookupOutcome.CORRUPT})
_ONLY_BYPASSED = frozenset({LookupOutcome.BYPASS})


class _Job(NamedTuple):
    """By whom entries are loaded, and whether the tier was left alone, so that nothing is sent to it."""

    load: Loader
    bypassed: bool


class TruthLoads:
    """Loads entries that no tier could answer."""

    def __init__(self, *, coherence: Coherence, fills: Fills, limits: LoadLimits, observer: Observer) -> None:
        """Load within the limits, as often as `coherence` wants it, and give what was loaded to `fills`."""
        self._coherence = coherence
        self._fills = fills
        self._observer = observer
        self._known_corrupt: set[EntryKey] = set()
        self._loads: Loads[_Job, EntryKey, Loaded | None] = Loads(
            load=self._load_and_keep,
            coherence=coherence,
            is_outdated=self._is_outdated,
            on_coalesced=lambda key: observer(LoadCoalesced(key.policy.entity)),
            limits=limits,
        )

    @property
    def waiting(self) -> int:
        """How many callers wait until the truth may be asked for them."""
        return self._loads.waiting

    async def load(
        self, unanswered: Mapping[EntryKey, Unanswered], load: Loader, *, asked: LoadMark | None
    ) -> dict[EntryKey, Answer]:
        """Return what there is; `asked`: when the tier was asked, if it was. Raises what `load` raises."""
        outcomes = {one.outcome for one in unanswered.values()}
        corrupt = set()
        if LookupOutcome.CORRUPT in outcomes:
            corrupt = {key for key, one in unanswered.items() if one.outcome is LookupOutcome.CORRUPT}
            self._known_corrupt |= corrupt
        job = _Job(load, outcomes == _ONLY_BYPASSED)
        loaded = await self._loads.load(list(unanswered), job, asked=asked)
        self._known_corrupt -= corrupt  # Those that were loaded before. Else who loads them does that, be it later.
        answers = {}
        for key, one in loaded.items():
            if one is None:
                continue
            origin = Origin.LOAD_AFTER_MISS if unanswered[key].outcome in _TRIED else Origin.LOAD_AFTER_BYPASS
            answers[key] = Answer(value=one.value, version=one.version, origin=origin)
        return answers

    async def close(self, *, grace_seconds: float) -> None:
        """Let loads end."""
        await self._loads.close(grace_seconds=grace_seconds)

    async def _load_and_keep(
        self, job: _Job, keys: Sequence[EntryKey], mark: LoadMark
    ) -> Mapping[EntryKey, Loaded | LoadFailure | None]:
        """Load what is wanted by several callers, or by one; what is not there is None."""
        try:
            brought = await self._load_once(job.load, keys)
        finally:
            known_corrupt = self._known_corrupt.intersection(keys)
            self._known_corrupt -= known_corrupt
        loaded = {key: one for key, one in brought.items() if isinstance(one, Loaded)}
        if job.bypassed:
            self._fills.keep(loaded, mark)
        else:
            self._fills.fill(loaded, mark, known_corrupt=known_corrupt)
        for key in keys:
            if key not in brought:
                self._fills.keep_absent(key, mark)
        return {key: brought.get(key) for key in keys}

    async def _load_once(self, load: Loader, keys: Sequence[EntryKey]) -> Mapping[EntryKey, Loaded | LoadFailure]:
        try:
            brought = await load(keys)
        except Exception:
            self._count((key, LoadOutcome.ERROR) for key in keys)
            raise
        self._count((key, _outcome(brought.get(key))) for key in keys)
        return brought

    def _count(self, ended: Iterable[tuple[EntryKey, LoadOutcome]]) -> None:
        counts = Counter((key.policy.entity, outcome) for key, outcome in ended)
        for (entity, outcome), count in counts.items():
            self._observer(LoadFinished(entity, outcome, count))

    def _is_outdated(self, key: EntryKey, loaded: Loaded | None, mark: LoadMark) -> bool:
        if loaded is None:
            return self._coherence.changed_since(key.text, mark)
        return not self._coherence.allows(key.text, loaded.version)


def _outcome(one: Loaded | LoadFailure | None) -> LoadOutcome:
    match one:
        case None:
            return LoadOutcome.ABSENT
        case LoadFailure():
            return LoadOutcome.ERROR
        case Loaded():
            return LoadOutcome.FOUND
