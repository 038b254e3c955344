"""What this process knows to be outdated: below a key's floor, no entry and no load is good enough.

A committed write raises the floor of its key before anyone is told of the write. Three actors:

    1. a reader's load asks the database and gets version 6
    2. a writer commits version 7, raises the floor to 7, answers its caller
    3. that caller reads again and joins the load of 1: its 6 is below the floor, so it loads once more

The same floor turns an old entry, which Redis still has since the write could not reach it, into a miss.
Floors are kept longer than any load lives. When there are too many, this process stops trusting the tier
until they have aged.
"""

import time
from collections import OrderedDict
from collections.abc import Callable

FLOOR_SECONDS = 75.0  # A load lives DB_TIMEOUT at most, which is a minute at most.
MAX_FLOORS = 100_000  # About 20 MB. Reached by 1,300 writes/s, one key each, sustained for 75 s.


class Floors:
    """Version floors by key, each for a while, bounded in number."""

    def __init__(
        self,
        *,
        max_floors: int = MAX_FLOORS,
        keep_seconds: float = FLOOR_SECONDS,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """Keep at most `max_floors`, each for `keep_seconds` after it was last raised."""
        self._max_floors = max_floors
        self._keep_seconds = keep_seconds
        self._monotonic = monotonic
        self._floors: OrderedDict[str, tuple[int, float]] = OrderedDict()
        self._overflown_until = float("-inf")

    def raise_to(self, key: str, version: int) -> None:
        """Declare everything under `key` below `version` outdated. Never lowers a floor."""
        now = self._monotonic()
        self._forget_aged(now)
        current = self._floors.get(key)
        if current is not None:
            version = max(version, current[0])
        self._floors[key] = (version, now + self._keep_seconds)
        self._floors.move_to_end(key)
        if len(self._floors) > self._max_floors:
            _, (_, kept_until) = self._floors.popitem(last=False)
            self._overflown_until = max(self._overflown_until, kept_until)

    def allows(self, key: str, version: int) -> bool:
        """Tell whether `version` is not known to be outdated."""
        floor = self._floors.get(key)
        return floor is None or version >= floor[0] or floor[1] <= self._monotonic()

    @property
    def overflown(self) -> bool:
        """Whether a floor was dropped that would still be needed."""
        return self._monotonic() < self._overflown_until

    def _forget_aged(self, now: float) -> None:
        while self._floors:
            key, (_, kept_until) = next(iter(self._floors.items()))
            if kept_until > now:
                return
            del self._floors[key]
