"""The port `ChangeLog` in memory: lines by transaction, snapshots, one leader at a time, and faults on demand."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import takewhile
from secrets import token_bytes, token_hex

from typing_extensions import override

from zpmeow.domain.changes import Change, ChangeLog, LogLine, LogPage, LogReader, LogSnapshot, LogState
from zpmeow.domain.errors import DatabaseUnavailable


def _wall_clock() -> datetime:
    return datetime.now(UTC)


@dataclass
class InMemoryChangeLog(ChangeLog):
    """Each `commit` is a transaction; `begin` and `end` make one that stays open for a while.

    Whoever leads does so until he goes, or until a test calls `take_lead_away`. `fault`: None (works) or "away" (every
    call raises). `database`, `epoch` and `lines` may be changed by a test, to make another database of this one.
    """

    now: Callable[[], datetime] = _wall_clock
    database: bytes = b"d" * 16
    epoch: bytes = b"e" * 16
    epoch_snapshot: LogSnapshot = (1, 1, ())
    fault: str | None = None
    pruned_txid: int = 0
    lines: list[LogLine] = field(default_factory=list)
    epochs_raised: int = 0
    reads: int = 0

    def __post_init__(self) -> None:
        """Hold one line, as a new database does."""
        self._next_txid = 1
        self._running: set[int] = set()
        self._seq = 0
        self._lead = asyncio.Lock()
        self._term = 0
        self._written_at: dict[tuple[int, int], datetime] = {}
        self.commit([Change(entity="epoch", key=self.epoch.hex(), version=0)])

    def begin(self) -> int:
        """Begin a transaction; return its number."""
        txid, self._next_txid = self._next_txid, self._next_txid + 1
        self._running.add(txid)
        return txid

    def end(self, txid: int, changes: Sequence[Change]) -> None:
        """Commit a transaction that was begun."""
        self._running.discard(txid)
        for change in changes:
            self._seq += 1
            self._written_at[txid, self._seq] = self.now()
            self.lines.append(LogLine(txid=txid, seq=self._seq, nonce=token_hex(16), change=change))
        self.lines.sort(key=lambda line: (line.txid, line.seq))

    def commit(self, changes: Sequence[Change]) -> None:
        """Begin and commit at once."""
        self.end(self.begin(), changes)

    def snapshot(self) -> LogSnapshot:
        """Return what is visible now."""
        running = tuple(sorted(self._running))
        return (running[0] if running else self._next_txid, self._next_txid, running)

    def raise_epoch(self) -> None:
        """Begin another epoch."""
        self.epochs_raised += 1
        self.pruned_txid = 0
        self.epoch_snapshot = self.snapshot()
        self.epoch = token_bytes(16)
        self.commit([Change(entity="epoch", key=self.epoch.hex(), version=0)])

    def take_lead_away(self) -> None:
        """Free the lead, as the server does when the leader says nothing; who had it learns of that when he asks."""
        self._term += 1
        self._lead = asyncio.Lock()

    @property
    def is_led(self) -> bool:
        """Whether somebody has the lead."""
        return self._lead.locked()

    def age(self, seconds: float) -> None:
        """Let all lines be that much older."""
        for place in self._written_at:
            self._written_at[place] -= timedelta(seconds=seconds)

    def check(self) -> None:
        """Raise DatabaseUnavailable if a test wants it."""
        if self.fault is not None:
            raise DatabaseUnavailable(self.fault)

    @override
    @asynccontextmanager
    async def lead(self) -> AsyncIterator[LogReader]:
        self.check()
        async with self._lead:
            yield _Reader(self, self._term)

    @override
    async def prune(self, *, older_than_seconds: float) -> int:
        self.check()
        oldest_running = self.snapshot()[0]
        limit = self.now() - timedelta(seconds=older_than_seconds)
        old = list(
            takewhile(
                lambda line: line.txid < oldest_running and self._written_at[line.txid, line.seq] < limit,
                self.lines[:-1],
            )
        )
        self.lines = self.lines[len(old) :]
        self.pruned_txid = max((line.txid for line in old), default=self.pruned_txid)
        return len(old)


class _Reader(LogReader):
    def __init__(self, log: InMemoryChangeLog, term: int) -> None:
        self._log = log
        self._term = term

    def _check(self) -> None:
        self._log.check()
        if self._term != self._log._term:
            message = "the lead was lost"
            raise DatabaseUnavailable(message)

    @override
    async def state(self) -> LogState:
        self._check()
        newest = self._log.lines[-1]
        return LogState(
            database=self._log.database,
            epoch=self._log.epoch,
            epoch_snapshot=self._log.epoch_snapshot,
            newest=(newest.txid, newest.seq, newest.nonce),
            pruned_txid=self._log.pruned_txid,
        )

    @override
    async def has_line(self, txid: int, seq: int, nonce: str) -> bool:
        self._check()
        return any((line.txid, line.seq, line.nonce) == (txid, seq, nonce) for line in self._log.lines)

    @override
    async def read(self, after: LogSnapshot, *, limit: int, from_line: tuple[int, int] = (0, 0)) -> LogPage:
        self._check()
        self._log.reads += 1
        _, xmax, running = after
        lines = [
            line
            for line in self._log.lines
            if (line.txid >= xmax or line.txid in running) and (line.txid, line.seq) > from_line
        ][:limit]
        return LogPage(
            lines=lines,
            snapshot=self._log.snapshot(),
            read_at=self._log.now(),
            pruned_txid=self._log.pruned_txid,
            is_last=len(lines) < limit,
        )

    @override
    async def raise_epoch(self) -> None:
        self._check()
        self._log.raise_epoch()
