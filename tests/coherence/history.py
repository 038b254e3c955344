"""What was written to one value: when it was sent, by whom, when it was acknowledged; and what may still be read.

A write lasts from the moment it was sent until its acknowledgement. A write that was sent after another one had ended
overtakes it, once it is acknowledged; writes whose times overlap are in no order, and either may be the last. That is
all that is assumed, so that any number of writers may write one value at the same time.

A write whose outcome nobody was told (503, killed, cancelled) may have happened, or may happen yet, for as long as a
service or a database can still be busy with it. Whoever is shown its value knows that it was committed: from then on it
counts as acknowledged.
"""

import math
from dataclasses import dataclass
from enum import Enum
from typing import Final, TypeAlias

UNKNOWN_SECONDS = 15.0
"""How long after its caller gave up a write may still happen: a process frozen for 4 s, then its deadline of 5 s and
the server's own of 1 s more, and some seconds for a machine that is busy."""

START: Final = "start"
SEEN: Final = "seen"
_KEPT_OF_ONE_VALUE = 8


class Anything(Enum):
    """The value of a write that is known only after its acknowledgement, such as a new session's id."""

    ANYTHING = "anything"


ANYTHING: Final = Anything.ANYTHING
Value: TypeAlias = str | Anything | None
"""None: nothing there (no session, no code, a key that opens nothing)."""


@dataclass(slots=True, eq=False)
class Write:
    """One write. Times are monotonic seconds; infinite: not yet, and never if the outcome stays unknown."""

    value: Value
    sent_at: float
    by: str
    acknowledged_at: float = math.inf
    ended_at: float = math.inf

    @property
    def is_unknown(self) -> bool:
        """Whether its caller gave up and nobody has seen its value so far."""
        return self.acknowledged_at == math.inf and self.ended_at < math.inf

    def __repr__(self) -> str:
        """Show what a report needs."""
        return f"{self.value} (by {self.by}, sent {self.sent_at:.4f}, acknowledged {self.acknowledged_at:.4f})"


class Register:
    """All writes to one value, which is named for reports."""

    def __init__(
        self, name: str, *, initial: Value, at: float = -math.inf, by: str = START, leads: bool = False
    ) -> None:
        """Begin with a value that was acknowledged at that moment. `leads`: it says which session a name or key means.

        What a name leads to changes by writes to several sessions: who gives it to one need not know of the other.
        """
        self.name = name
        self._leads = leads
        self._by_value: dict[Value, list[Write]] = {}
        self._acknowledged: list[Write] = []
        self.acknowledge(self.begin(initial, at=at, by=by), at=at)

    def begin(self, value: Value, *, at: float, by: str) -> Write:
        """Note that a write is sent."""
        write = Write(value, at, by)
        same = self._by_value.setdefault(value, [])
        same.append(write)
        if len(same) > _KEPT_OF_ONE_VALUE and same[0].ended_at < at:
            del same[0]
        return write

    def acknowledge(self, write: Write, *, at: float, value: Value = ANYTHING) -> None:
        """Note that the write is known to be committed; `value`: what it was, if that became known only now."""
        if value is not ANYTHING and write.value is ANYTHING:
            self._by_value[ANYTHING].remove(write)
            write.value = value
            self._by_value.setdefault(value, []).append(write)
        if write.acknowledged_at < math.inf:
            return  # Somebody has seen it before its caller was told.
        write.acknowledged_at = write.ended_at = at
        self._acknowledged.append(write)

    def give_up(self, write: Write, *, at: float) -> None:
        """Note that its caller will never know the outcome."""
        write.ended_at = at + UNKNOWN_SECONDS

    def refuse(self, write: Write) -> None:
        """Note that the write did not happen."""
        self._by_value[write.value].remove(write)

    def may_be_idle(self, write: Write) -> bool:
        """Tell whether the process that made the write may have changed nothing that it could remember.

        It removed what another one had removed, or gave a name to a session that another one had lost.
        """
        return self._leads or write.value is None

    def saw(self, value: Value, *, at: float) -> None:
        """Take it that a value which was shown was committed. Only of values that are written once."""
        if isinstance(value, str):
            for write in self._by_value.get(value, ()):
                if write.is_unknown:
                    write.by = SEEN
                    self.acknowledge(write, at=at)

    def find(self, value: Value) -> Write | None:
        """Return the write that wrote this value, the one that is overtaken last if there are several."""
        found = self._by_value.get(value, []) + self._by_value.get(ANYTHING, [])
        return max(found, key=lambda write: write.ended_at, default=None)

    def overtaking(self, write: Write) -> list[Write]:
        """Return the acknowledged writes that were sent after this one had ended, in the order of acknowledgement."""
        found = []
        for later in reversed(self._acknowledged):
            if later.acknowledged_at < write.ended_at:
                break
            if later is not write and later.sent_at >= write.ended_at:
                found.append(later)
        found.reverse()
        return found

    def find_other(self, value: Value) -> Write | None:
        """Return the write of any other value that is overtaken last."""
        found = (write for other, writes in self._by_value.items() if other != value for write in writes)
        return max(found, key=lambda write: write.ended_at, default=None)
