"""Rounds: every subject in turn, again and again, so that what the machine does meanwhile meets them all alike.

Figures of one subject are medians with their least and largest. A ratio of two subjects is the median of the ratios of
their rounds: what disturbs a whole round disturbs both. Within a round the two are as far apart in time as in the list,
so who are compared stand near each other in it; every other round goes through the list backwards, so that neither is
always the first.
"""

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")


@dataclass(slots=True, frozen=True)
class Spread:
    """A median, with the least and the largest of so many values."""

    median: float
    least: float
    largest: float
    many: int

    def text(self, *, digits: int, unit: float = 1.0) -> str:
        """Return it for a table, in this unit; what was measured once has no spread to show."""
        median, least, largest = (f"{value / unit:,.{digits}f}" for value in (self.median, self.least, self.largest))
        return median if self.many == 1 else f"{median} ({least} to {largest})"


class Rounds(Generic[T]):
    """What was measured, by subject and round."""

    def __init__(self, names: Sequence[str]) -> None:
        """Begin with nothing measured of these."""
        self._measured: dict[str, list[T]] = {name: [] for name in names}

    def run(self, many: int, measure: Callable[[str], T], *, tell: Callable[[str], None]) -> None:
        """Measure every subject so often, interleaved, every other time from the last to the first."""
        for number in range(many):
            in_turn = list(self._measured)
            for name in reversed(in_turn) if number % 2 else in_turn:
                tell(f"round {number + 1} of {many}: {name}")
                self._measured[name].append(measure(name))

    def spread(self, name: str, figure: Callable[[T], float]) -> Spread:
        """Return a figure of a subject."""
        return spread([figure(one) for one in self._measured[name]])

    def ratio(self, name: str, other: str, figure: Callable[[T], float]) -> Spread:
        """Return a figure of a subject, divided by that of another one."""
        pairs = zip(self._measured[name], self._measured[other], strict=True)
        return spread([figure(one) / figure(two) for one, two in pairs])

    @property
    def names(self) -> Sequence[str]:
        """The subjects."""
        return list(self._measured)

    @property
    def measured(self) -> Mapping[str, Sequence[T]]:
        """All that was measured."""
        return self._measured


def spread(values: Sequence[float]) -> Spread:
    """Return median, least and largest."""
    return Spread(statistics.median(values), min(values), max(values), len(values))
