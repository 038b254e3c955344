"""Asks the truth for what no tier could answer: once for however many ask, and never older than known.

wanted ── single flight ── load ── a newer version known? a change since it began? ── yes: load again
                             │                                                     └─ no: answer
                             └── once a flight: keep what it brought (`keep`)
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from zpmeow.cache.coherence import Coherence
from zpmeow.cache.policy import EntryKey, Loaded, Loader, LoadMark
from zpmeow.cache.single_flight import SingleFlight
from zpmeow.events import LoadCoalesced, LoadFinished, LoadOutcome, Observer

MAX_LOADS = 3
"""A load that is too old is repeated; the second begins after the change was committed. A value whose version stays
below its floor is the truth's all the same: a backup was restored, and the floor is of what was lost."""

Keep = Callable[[Mapping[EntryKey, Loaded | None], LoadMark], None]
"""Takes over what a load has brought; None: it does not exist."""


@dataclass(slots=True, frozen=True)
class _Flown:
    """What a flight brought for one key, and when it began."""

    loaded: Loaded | None
    mark: LoadMark


class Loads:
    """Loads entries, one flight a key."""

    def __init__(self, *, coherence: Coherence, observer: Observer) -> None:
        """Hold what is loaded against what `coherence` knows."""
        self._coherence = coherence
        self._observer = observer
        self._flights: SingleFlight[EntryKey, _Flown] = SingleFlight(
            on_coalesced=lambda key: observer(LoadCoalesced(key.policy.entity)),
            join_since=coherence.join_since,
            monotonic=coherence.monotonic,
        )

    async def load(
        self, keys: Sequence[EntryKey], load: Loader, keep: Keep, *, asked: LoadMark
    ) -> dict[EntryKey, Loaded]:
        """Return what exists of the keys. `keep` is called once for each load that was made; the caller `asked` then.

        Raises what `load` raises. After a cancellation the loads go on, and are kept.
        """

        async def fly(wanted: Sequence[EntryKey]) -> Mapping[EntryKey, _Flown]:
            mark = self._coherence.begin_load()
            loaded = await self._load_once(wanted, load)
            brought = {key: loaded.get(key) for key in wanted}
            keep(brought, mark)
            return {key: _Flown(one, mark) for key, one in brought.items()}

        found: dict[EntryKey, Loaded] = {}
        wanted: Sequence[EntryKey] = keys
        asked_at = asked.began_at
        for _ in range(MAX_LOADS):
            flown = await self._flights.load(wanted, fly, asked_at=asked_at)
            for key, one in flown.items():
                found.pop(key, None)
                if one.loaded is not None:
                    found[key] = one.loaded
            wanted = [key for key, one in flown.items() if self._is_outdated(key, one)]
            if not wanted:
                break
            asked_at = math.inf
        return found

    async def close(self, *, grace_seconds: float) -> None:
        """Let loads end."""
        await self._flights.close(grace_seconds=grace_seconds)

    def _is_outdated(self, key: EntryKey, flown: _Flown) -> bool:
        if flown.loaded is None:
            return self._coherence.changed_since(key.text, flown.mark)
        return not self._coherence.allows(key.text, flown.loaded.version)

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
