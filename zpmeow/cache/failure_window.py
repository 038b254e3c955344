"""A sliding count of calls and failures, in constant memory whatever the rate of calls."""

from collections import deque

WINDOW_SLICES = 20
"""The window slides in steps of a twentieth; arbitrary, fine enough for a rate."""


class FailureWindow:
    """How many calls ended and how many failed, in about the last `length_seconds`."""

    def __init__(self, *, length_seconds: float) -> None:
        """Begin empty."""
        self._slice_seconds = length_seconds / WINDOW_SLICES
        self._slices: deque[list[int]] = deque()  # [number of the slice, calls, failures]
        self.calls = 0
        self.failures = 0

    def add(self, now: float, *, failed: bool) -> None:
        """Count one call; forget what has left the window."""
        number = int(now / self._slice_seconds)
        while self._slices and self._slices[0][0] <= number - WINDOW_SLICES:
            _, calls, failures = self._slices.popleft()
            self.calls -= calls
            self.failures -= failures
        if not self._slices or self._slices[-1][0] != number:
            self._slices.append([number, 0, 0])
        self._slices[-1][1] += 1
        self._slices[-1][2] += failed
        self.calls += 1
        self.failures += failed

    def clear(self) -> None:
        """Forget everything: the tier is judged anew."""
        self._slices.clear()
        self.calls = self.failures = 0
