"""The sessions as the checker knows them: which slots there are, and the history of every value of every session.

A slot is a place for one session at a time. Most slots keep theirs; in a few, sessions are deleted and made anew, under
the same names, too. Names and keys have histories of their own: which session they lead to, if any.
"""

import asyncio
import itertools
import random
from collections import deque
from dataclasses import dataclass, field

from tests.coherence.history import Register

VALUES = ("webhook", "status", "qr", "device")
_REMEMBERED = 3
_RECENT_WRITES = 24


class KnownSession:
    """The histories of one session. Existence is written as its id."""

    def __init__(self, session_id: str, *, name: str, at: float, by: str) -> None:
        """Begin with a new session, whose making was acknowledged at that moment."""

        def register(what: str, initial: str | None) -> Register:
            return Register(f"{what} of {session_id}", initial=initial, at=at, by=by)

        self.id = session_id
        self.exists = register("existence", session_id)
        self.name = register("name", name)
        self.values = {value: register(value, None) for value in VALUES}


@dataclass(slots=True)
class Doubt:
    """Names and keys that may lead to a slot's session or not, and when nothing can change that any more."""

    until: float
    names: set[str] = field(default_factory=set)
    keys: set[str] = field(default_factory=set)


@dataclass(slots=True)
class Slot:
    """A place for a session. `lock`: one change at a time to its existence, its name and its key."""

    number: int
    is_mortal: bool
    name: str
    key: str
    session: KnownSession | None = None
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    doubt: Doubt | None = None
    past_names: deque[str] = field(default_factory=lambda: deque(maxlen=_REMEMBERED))
    past_keys: deque[str] = field(default_factory=lambda: deque(maxlen=_REMEMBERED))
    past_ids: deque[str] = field(default_factory=lambda: deque(maxlen=_REMEMBERED))


class Ledger:
    """All slots and all histories."""

    def __init__(self, *, slots: int, mortal: int, hot: int) -> None:
        """Make slots without sessions; the last ones are mortal, the first ones hot."""
        self._numbers = itertools.count(1)
        self.sessions: dict[str, KnownSession] = {}
        self.names: dict[str, Register] = {}
        self.keys: dict[str, Register] = {}
        self.slots = [
            Slot(number, is_mortal=number >= slots - mortal, name=f"slot-{number}", key=self.new_key())
            for number in range(slots)
        ]
        self.hot = self.slots[:hot]
        self.mortal = [slot for slot in self.slots if slot.is_mortal]
        self.in_question: deque[KnownSession] = deque()
        """Sessions with a write of unknown outcome, which the database is to be asked for."""
        self.recent: deque[tuple[Slot, str]] = deque(maxlen=_RECENT_WRITES)
        """What was written last, and which value: readers look there most."""

    def next_number(self) -> int:
        """Return a number that no value has carried yet."""
        return next(self._numbers)

    def new_name(self, slot: Slot, chance: random.Random) -> str:
        """Choose a new name for a slot's session: sometimes one that it had before."""
        past = [name for name in slot.past_names if name != slot.name]
        return chance.choice(past) if past and chance.random() < 0.3 else f"slot-{slot.number}-{self.next_number()}"

    def new_key(self) -> str:
        """Make an API key that nobody has used."""
        return f"key-{self.next_number()}-".ljust(40, "k")

    def name(self, name: str) -> Register:
        """Return the history of a name: the id of the session that has it, or None."""
        return _of(self.names, "name", name)

    def key(self, key: str) -> Register:
        """Return the history of a key: the id of the session that it opens, or None."""
        return _of(self.keys, "key", key)

    def wrote(self, slot: Slot, value: str) -> None:
        """Note what was written last."""
        self.recent.append((slot, value))


def _of(registers: dict[str, Register], what: str, key: str) -> Register:
    register = registers.get(key)
    if register is None:
        register = registers[key] = Register(f"{what} {key}", initial=None, leads=True)
    return register
