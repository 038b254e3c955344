"""What happened beside the reads and writes: faults, absences, deaths of processes, stalls of this machine.

Everything is noted with monotonic times, and asked for by the time of a read. A fault counts as on until some time
after its end, in which the service may still be busy with its consequences.
"""

import math
from collections import Counter, deque
from collections.abc import Collection, Iterator
from dataclasses import dataclass

SETTLING_SECONDS = 5.0
"""The local TTL: until then a process may still answer with what it took in during the fault."""

RETURN_SECONDS = 2.0
"""What is asked so long after the database or a process is back may still be refused: new connections take a moment."""

CHECKER = "the checker"
DATABASE = "the database"
"""Who can stall or be away, besides the service processes, which go by their names."""

_KEPT_STALLS = 4000
_KEPT_SPANS = 200


@dataclass(slots=True, eq=False)
class Span:
    """Something that lasts; `end` is infinite while it does."""

    what: str
    begin: float
    end: float = math.inf

    def overlaps(self, begin: float, end: float, *, settling: float = 0.0) -> bool:
        """Tell whether it was on at any time between the two."""
        return self.begin <= end and begin <= self.end + settling

    def __repr__(self) -> str:
        """Show what a report needs."""
        return f"{self.what} {self.begin:.2f} to {self.end:.2f}"


class Timeline:
    """The run's events besides its reads and writes."""

    def __init__(self) -> None:
        """Begin without any."""
        self.faults: Counter[str] = Counter()
        self.stalls: deque[Span] = deque(maxlen=_KEPT_STALLS)
        self._faults: deque[Span] = deque(maxlen=_KEPT_SPANS)
        self._absences: deque[Span] = deque(maxlen=_KEPT_SPANS)
        self._killed_at: dict[str, float] = {}

    def begin_fault(self, kind: str, *, at: float) -> Span:
        """Note that a fault begins."""
        self.faults[kind] += 1
        span = Span(kind, at)
        self._faults.append(span)
        return span

    def begin_absence(self, who: str, *, at: float) -> Span:
        """Note that the database or a process is away (down, starting, or frozen)."""
        span = Span(who, at)
        self._absences.append(span)
        return span

    def note_kill(self, process: str, *, at: float) -> None:
        """Note that a service process has lost its memory."""
        self._killed_at[process] = at

    def note_stall(self, who: str, begin: float, end: float) -> None:
        """Note that somebody did not come to work for a while."""
        self.stalls.append(Span(who, begin, end))

    def faults_on(self, begin: float, end: float) -> list[Span]:
        """Return the faults that were on, or settling, at any time between the two."""
        return [span for span in self._faults if span.overlaps(begin, end, settling=SETTLING_SECONDS)]

    def may_refuse(self, process: str, begin: float, end: float) -> bool:
        """Tell whether refusals and stale answers are what this process may give to what was asked then.

        What is asked while the database is away may be refused whenever its deadline is over.
        """
        return any(span.overlaps(begin, end, settling=RETURN_SECONDS) for span in self._absences_for(process))

    def returned_seconds(self, process: str, begin: float, end: float) -> float:
        """Return how long the database and this process had been back when something was asked that ended then.

        0: one was away, or went away before it ended; infinite: none ever was.
        """
        return min(
            (max(0.0, begin - span.end) for span in self._absences_for(process) if span.begin <= end), default=math.inf
        )

    def is_absent(self, who: str, begin: float, end: float) -> bool:
        """Tell whether somebody was away at any time between the two."""
        return any(span.what == who and span.overlaps(begin, end) for span in self._absences)

    def was_killed_since(self, process: str, at: float) -> bool:
        """Tell whether the process has lost what it knew at that moment."""
        return self._killed_at.get(process, -math.inf) >= at

    def stalled_seconds(self, who: str, begin: float, end: float) -> float:
        """Return for how much of the time between the two somebody did not come to work."""
        own = (span for span in self.stalls if span.what == who)
        return sum(max(0.0, min(span.end, end) - max(span.begin, begin)) for span in own)

    def longest_stall(self, who: Collection[str], begin: float, end: float) -> tuple[Span | None, float]:
        """Return the stall of any of these with the largest part between the two, and that part in seconds."""
        longest, seconds = None, 0.0
        for span in self.stalls:
            part = min(span.end, end) - max(span.begin, begin)
            if part > seconds and span.what in who:
                longest, seconds = span, part
        return longest, seconds

    def _absences_for(self, process: str) -> Iterator[Span]:
        return (span for span in self._absences if span.what in {DATABASE, process})
