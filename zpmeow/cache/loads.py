"""Asks the truth for what no tier could answer: once for however many ask, and never older than known.

wanted ── single flight ── load ── a newer version known? a change since it began? ── yes: load again
                                                                                  └─ no: answer
"""

import math
from collections.abc import Awaitable, Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from zpmeow.cache.coherence import Coherence
from zpmeow.cache.policy import LoadMark
from zpmeow.cache.single_flight import SingleFlight, Wait

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")

MAX_LOADS = 3
"""A load that is too old is repeated; the second begins after the change was committed. A value whose version stays
below its floor is the truth's all the same: a backup was restored, and the floor is of what was lost."""


@dataclass(slots=True, frozen=True)
class _Flown(Generic[V]):
    """What a flight brought for one key, and when it began."""

    value: V
    mark: LoadMark


class Loads(Generic[K, V]):
    """Loads by key, one flight a key, repeated while what they bring is outdated."""

    def __init__(
        self,
        *,
        coherence: Coherence,
        is_outdated: Callable[[K, V, LoadMark], bool],
        on_coalesced: Callable[[K], None],
        wait: Wait,
    ) -> None:
        """Join flights as `coherence` allows.

        Args:
            coherence: knows when changes may be missing here, so that only young flights are joined.
            is_outdated: tells whether what a load brought, that began at the mark, is known to be outdated.
            on_coalesced: is called for each key that a caller finds under way.
            wait: waits for a flight as long as the caller has time; may give it up.
        """
        self._coherence = coherence
        self._is_outdated = is_outdated
        self._flights: SingleFlight[K, _Flown[V]] = SingleFlight(
            on_coalesced=on_coalesced,
            join_since=coherence.join_since,
            wait=wait,
            monotonic=coherence.monotonic,
        )

    async def load(
        self,
        keys: Sequence[K],
        load: Callable[[Sequence[K], LoadMark], Awaitable[Mapping[K, V]]],
        *,
        asked: LoadMark | None,
    ) -> dict[K, V]:
        """Return what `load` finds for the keys. It is given those that nobody is loading, and the mark of its begin.

        `asked`: when the caller began to ask others first; None: he did not, and nobody else does now. Raises what
        `load` raises. After a cancellation the loads go on.
        """

        async def fly(wanted: Sequence[K]) -> Mapping[K, _Flown[V]]:
            mark = self._coherence.begin_load()
            return {key: _Flown(value, mark) for key, value in (await load(wanted, mark)).items()}

        found: dict[K, V] = {}
        wanted = keys
        asked_at = math.inf if asked is None else asked.began_at
        for _ in range(MAX_LOADS):
            flown = await self._flights.load(wanted, fly, asked_at=asked_at, lingers=asked is not None)
            found.update((key, one.value) for key, one in flown.items())
            wanted = [key for key, one in flown.items() if self._is_outdated(key, one.value, one.mark)]
            if not wanted:
                break
            asked_at = math.inf
        return found

    async def close(self, *, grace_seconds: float) -> None:
        """Let loads end."""
        await self._flights.close(grace_seconds=grace_seconds)
