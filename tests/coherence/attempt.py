"""One change under way: histories are told when it is sent, and again when its outcome is known or never will be."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from tests.coherence.changes import Change, made_id
from tests.coherence.history import ANYTHING, UNKNOWN_SECONDS
from tests.coherence.ledger import Doubt, Ledger

SQL = "sql"


@dataclass(slots=True)
class WriteCounts:
    """What became of the changes, by kind. `refused` and `rolled_back` did not happen, `unknown` nobody was told of."""

    done_by_http: Counter[str] = field(default_factory=Counter)
    done_by_sql: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    rolled_back: Counter[str] = field(default_factory=Counter)
    unknown: Counter[str] = field(default_factory=Counter)


class Attempt:
    """A change that was begun. Exactly one of `done`, `refused`, `unknown` follows."""

    def __init__(
        self, change: Change, *, by: str, ledger: Ledger, counts: WriteCounts, clock: Callable[[], float]
    ) -> None:
        """Tell the histories that the change is sent now, by this process or by SQL."""
        self._change = change
        self._by = by
        self._ledger = ledger
        self._counts = counts
        self._clock = clock
        now = clock()
        self._writes = [(register, register.begin(value, at=now, by=by)) for register, value in change.writes]

    def done(self, data: dict[str, Any]) -> None:
        """Take over that it was acknowledged just now, with this answer."""
        at = self._clock()
        for register, write in self._writes:
            register.acknowledge(write, at=at, value=made_id(data) if write.value is ANYTHING else write.value)
        change = self._change
        change.finish(data, at, self._by)
        (self._counts.done_by_sql if self._by == SQL else self._counts.done_by_http)[change.kind] += 1
        self._ledger.wrote(change.slot, "webhook" if change.is_structural else change.kind.partition(" ")[0])

    def refused(self) -> None:
        """Take over that it did not happen."""
        for register, write in self._writes:
            register.refuse(write)
        self._counts.refused[self._change.kind] += 1

    def unknown(self) -> None:
        """Take over that nobody will tell what became of it. What it left open is looked into by SQL."""
        at = self._clock()
        for register, write in self._writes:
            register.give_up(write, at=at)
        change = self._change
        self._counts.unknown[change.kind] += 1
        session = change.slot.session
        if session is not None:
            self._ledger.in_question.append(session)
        if change.is_structural:
            doubt = change.slot.doubt or Doubt(until=at)
            doubt.until = at + UNKNOWN_SECONDS
            doubt.names.update(change.names)
            doubt.keys.update(change.keys)
            change.slot.doubt = doubt
