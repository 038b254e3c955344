"""Asks the truth for what no tier could answer: once for however many ask, and never older than known.

wanted ── single flight ── load ── a newer version known? a change since it began? ── yes: load again
                                                                                  └─ no: answer
"""

import math
from collections.abc import Awaitable, Callable, Hashable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Generic, TypeAlias, TypeVar

from zpmeow.cache.coherence import Coherence
from zpmeow.cache.policy import LoadFailure, LoadMark
from zpmeow.cache.single_flight import MOST_KEYS, Flight, SingleFlight, Wait, wait_without_limit

J = TypeVar("J", bound=Hashable)
K = TypeVar("K", bound=Hashable)
V = TypeVar("V")

MAX_LOADS = 3
"""A load that is too old is repeated; the last one begins after the change was committed. A value whose version stays
below its floor is the truth's all the same: a backup was restored, and the floor is of what was lost."""


def _without_limit(_waited_seconds: float) -> AbstractContextManager[None]:
    return nullcontext()


@dataclass(slots=True, frozen=True, kw_only=True)
class LoadLimits:
    """How many loads there may be at once, and for how long they and their callers may wait.

    Attributes:
        wait: waits for a load as long as its caller has time; may give it up.
        most_keys, most_under_way, boarding_seconds: as in `SingleFlight`.
        within: bounds a load that begins after so many seconds in line.
    """

    wait: Wait = wait_without_limit
    most_keys: int = MOST_KEYS
    most_under_way: float = math.inf
    boarding_seconds: float = math.inf
    within: Callable[[float], AbstractContextManager[None]] = _without_limit


@dataclass(slots=True)
class _Brought(Generic[K, V]):
    """What a flight has brought, and when it began."""

    values: Mapping[K, V | LoadFailure]
    mark: LoadMark


Load: TypeAlias = Callable[[J, Sequence[K], LoadMark], Awaitable[Mapping[K, V | LoadFailure]]]
"""Asks the truth for the keys, and answers each; is given the job and the mark of its begin."""


class Loads(Generic[J, K, V]):
    """Loads by key, each by one flight at a time, repeated while what they bring is outdated."""

    def __init__(
        self,
        *,
        load: Load[J, K, V],
        coherence: Coherence,
        is_outdated: Callable[[K, V, LoadMark], bool],
        on_coalesced: Callable[[K], None],
        limits: LoadLimits,
    ) -> None:
        """Join flights as `coherence` allows.

        Args:
            load: asks the truth.
            coherence: knows when changes may be missing here, so that only young flights are joined.
            is_outdated: tells whether what a load brought, that began at the mark, is known to be outdated.
            on_coalesced: is called for each key that a caller finds under way.
            limits: how many at once, and for how long.
        """
        self._load = load
        self._coherence = coherence
        self._is_outdated = is_outdated
        self._within = limits.within
        self._flights: SingleFlight[J, K, _Brought[K, V]] = SingleFlight(
            fly=self._fly,
            on_coalesced=on_coalesced,
            join_since=coherence.join_since,
            wait=limits.wait,
            most_keys=limits.most_keys,
            most_under_way=limits.most_under_way,
            boarding_seconds=limits.boarding_seconds,
            # Who comes after a failure tries again.
            may_linger=lambda brought, key: not isinstance(brought.values[key], LoadFailure),
            monotonic=coherence.monotonic,
        )

    @property
    def waiting(self) -> int:
        """How many callers wait for a load that may not begin yet."""
        return self._flights.waiting

    async def load(self, keys: Sequence[K], job: J, *, asked: LoadMark | None) -> dict[K, V]:
        """Return what the truth has for the keys.

        `job`: what `load` is given; keys with equal ones may be loaded together. `asked`: when the caller began to ask
        others first; None: he did not, and nobody else does now. Raises what `load` raises. After a cancellation the
        loads go on.
        """
        found: dict[K, V] = {}
        wanted = keys
        asked_at = math.inf if asked is None else asked.began_at
        for _ in range(MAX_LOADS):
            flown = await self._flights.load(wanted, job, asked_at=asked_at, lingers=asked is not None)
            wanted = []
            for flight, its_keys in flown.items():
                brought = flight.brought
                for key in its_keys:
                    value = brought.values[key]
                    if isinstance(value, LoadFailure):
                        raise value.error()
                    found[key] = value
                    if self._is_outdated(key, value, brought.mark):
                        wanted.append(key)
            if not wanted:
                break
            asked_at = math.inf
        return found

    async def close(self, *, grace_seconds: float) -> None:
        """Let loads end."""
        await self._flights.close(grace_seconds=grace_seconds)

    async def _fly(self, flight: Flight[J, K, _Brought[K, V]]) -> _Brought[K, V]:
        mark = self._coherence.begin_load()
        with self._within(self._coherence.monotonic() - flight.opened_at):
            values = await self._load(flight.job, flight.keys, mark)
        if not values.keys() >= set(flight.keys):
            message = "a load has not answered all of its keys"
            raise RuntimeError(message)
        return _Brought(values, mark)
