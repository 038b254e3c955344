"""What this process knows to be outdated: below a key's floor, no entry and no load is good enough.

A floor is raised by a write of this process before anyone is told of the write, and by the change feed for every
other change. Three actors:

    1. a reader's load asks the database and gets version 6
    2. a writer commits version 7, raises the floor to 7, answers its caller
    3. that caller reads again and joins the load of 1: its 6 is below the floor, so it loads once more

The same floor turns an old entry, which Redis still has since the change has not reached it, into a miss, and keeps
it out of the local tier: without floors, a read between the change and its way to Redis brought the old value back,
and 24 of 50 hot keys stayed old.

Floors are kept longer than any load lives and longer than Redis may lag behind the log before it is not believed any
more. When there are too many, nothing cached is believed until they have aged.
"""

import time
from collections import OrderedDict
from collections.abc import Callable

FLOOR_SECONDS = 30.0
"""The least: Redis is believed while it is less than 20 s behind the log, and both ends are told by clocks."""

MAX_FLOORS = 200_000  # About 40 MB. Reached by 6,600 changed keys a second, sustained for 30 s.


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
        self.keep_seconds = keep_seconds
        self._monotonic = monotonic
        self._floors: OrderedDict[str, tuple[int, float]] = OrderedDict()
        self._overflown_until = float("-inf")

    def __len__(self) -> int:
        """How many floors are kept, aged ones included that are not yet forgotten."""
        return len(self._floors)

    def raise_to(self, key: str, version: int) -> None:
        """Declare everything under `key` below `version` outdated. Never lowers a floor."""
        now = self._monotonic()
        self._forget_aged(now)
        current = self._floors.get(key)
        if current is not None:
            version = max(version, current[0])
        self._floors[key] = (version, now)
        self._floors.move_to_end(key)
        if len(self._floors) > self._max_floors:
            _, (_, raised_at) = self._floors.popitem(last=False)
            self._overflown_until = max(self._overflown_until, raised_at + self.keep_seconds)

    def allows(self, key: str, version: int) -> bool:
        """Tell whether `version` is not known to be outdated."""
        floor = self._floors.get(key)
        return floor is None or version >= floor[0] or floor[1] + self.keep_seconds <= self._monotonic()

    def allows_at_any_age(self, key: str, version: int) -> bool:
        """Tell whether `version` is not known to be outdated by any floor that is still here, aged or not."""
        floor = self._floors.get(key)
        return floor is None or version >= floor[0]

    def raised_since(self, key: str, moment: float) -> bool:
        """Tell whether the key was changed at or after a moment of the monotonic clock, as far as is remembered."""
        floor = self._floors.get(key)
        return floor is not None and floor[1] >= moment

    @property
    def overflown(self) -> bool:
        """Whether a floor was dropped that would still be needed."""
        return self._monotonic() < self._overflown_until

    def _forget_aged(self, now: float) -> None:
        while self._floors:
            key, (_, raised_at) = next(iter(self._floors.items()))
            if raised_at + self.keep_seconds > now:
                return
            del self._floors[key]
