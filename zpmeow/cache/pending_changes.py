"""How many changes are known to have been committed that the tier has not seen: for operators."""

from collections import deque
from collections.abc import Callable

_STEP_MS = 100  # Changes of one step are counted together.
_MAX_STEPS = 36_000  # An hour of an outage; what is older is counted with the oldest step.


class PendingChanges:
    """Changes that the feed has told of, by the time at which it did."""

    def __init__(self, *, now_ms: Callable[[], int]) -> None:
        """Go by `now_ms`, the database's clock."""
        self._now_ms = now_ms
        self._steps: deque[list[int]] = deque()

    def note(self, count: int) -> None:
        """Count changes that were committed just now."""
        now_ms = self._now_ms()
        if self._steps and now_ms - self._steps[-1][0] < _STEP_MS:
            self._steps[-1][1] += count
            return
        self._steps.append([now_ms, count])
        if len(self._steps) > _MAX_STEPS:
            _, lost = self._steps.popleft()
            self._steps[0][1] += lost

    def later_than(self, at_ms: int | None) -> int:
        """Return how many came after a position of that time; None: there is no position."""
        if at_ms is not None:
            while self._steps and self._steps[0][0] <= at_ms:
                self._steps.popleft()
        return sum(count for _, count in self._steps)
