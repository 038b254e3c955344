"""The change log and the change feed, as the rest of the service sees them.

The log holds one line for each record or look-up that a transaction touched, written by triggers in that very
transaction. The feed tells the same at once, to whoever listens, and may break off.
"""

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

LogSnapshot = tuple[int, int, tuple[int, ...]]
"""Which transactions were visible at a moment, as PostgreSQL's pg_snapshot has it: (xmin, xmax, those in between that
still ran)."""


@dataclass(slots=True, frozen=True, kw_only=True)
class Change:
    """Something was changed: what is below `version` is outdated.

    `entity` is an Entity's value, with the session's id as the key; or `name` or `key` for a look-up, with the name or
    the hash of the API key in hexadecimal digits; or something else, which concerns no cached entry.
    """

    entity: str
    key: str
    version: int


@dataclass(slots=True, frozen=True, kw_only=True)
class LogLine:
    """A line: a change, and what makes the line unique. `nonce` differs even where a restored log repeats the rest."""

    txid: int
    seq: int
    nonce: str
    change: Change


@dataclass(slots=True, frozen=True, kw_only=True)
class LogPage:
    """Some of the lines that became visible after an earlier snapshot, in the order of (txid, seq).

    `snapshot` is the one in which they were read, taken at or after `read_at` (the database's clock). `pruned_txid`:
    lines of this transaction and of earlier ones may have been removed. `is_last`: no more lines were visible.
    """

    lines: Sequence[LogLine]
    snapshot: LogSnapshot
    read_at: datetime
    pruned_txid: int
    is_last: bool


@dataclass(slots=True, frozen=True, kw_only=True)
class LogState:
    """Which log this is. `database` are 16 bytes that differ for every database, and after every failover.

    `epoch` (16 bytes) began with `epoch_snapshot`: what was visible in that is seen by every load that knows of the
    epoch. `newest` is the log's newest line, as (txid, seq, nonce), if it has any. `pruned_txid` as in `LogPage`.
    """

    database: bytes
    epoch: bytes
    epoch_snapshot: LogSnapshot
    newest: tuple[int, int, str] | None
    pruned_txid: int


class LogReader(Protocol):
    """Reads the log for the one process that leads. Every method raises Unavailable, and then the lead is lost."""

    async def state(self) -> LogState:
        """Return which log this is."""
        ...

    async def has_line(self, txid: int, seq: int, nonce: str) -> bool:
        """Tell whether the log has this very line."""
        ...

    async def read(self, after: LogSnapshot, *, limit: int, from_line: tuple[int, int] = (0, 0)) -> LogPage:
        """Return lines that are visible now and were not in `after`, at most `limit`, beyond `from_line`."""
        ...

    async def raise_epoch(self) -> None:
        """Begin a new epoch: everything cached becomes void."""
        ...


class ChangeLog(Protocol):
    """The log in the database."""

    def lead(self) -> AbstractAsyncContextManager[LogReader]:
        """Wait until this process is the one that reads the log, and read it while the block runs.

        Raises Unavailable. Whoever leads and says nothing for two seconds has lost the lead.
        """
        ...

    async def prune(self, *, older_than_seconds: float) -> int:
        """Remove old lines, a bounded number; return how many. Raises Unavailable."""
        ...


class ChangeFollower(Protocol):
    """Someone who is told by the feed. Nothing here waits, and nothing raises."""

    def opened(self, *, database: bytes, since: datetime, heard_at: float) -> None:
        """From `since` on (the database's clock) every change in this database is told.

        `heard_at`: the monotonic clock, seconds, before that moment was asked for.
        """
        ...

    def changed(self, changes: Sequence[Change]) -> None:
        """These were committed."""
        ...

    def confirmed(self, sent_at: float) -> None:
        """Everything that was committed before `sent_at` (monotonic, seconds) has been told."""
        ...

    def lost(self, reason: str | None) -> None:
        """The feed has broken off: changes may be missing until it is opened again. None: it was closed on purpose."""
        ...
