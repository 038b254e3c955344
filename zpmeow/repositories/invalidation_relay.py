"""Brings the change log to the tier: one process leads, and writes down with the entries how far it has come.

    lead ── which log, which position? ── fits? ──→ read what has become visible ── one batch, one round trip ──┐
      ▲           │ no: a new epoch                    ▲                                                        │
      │           └────────────────────────────────────┤ woken by the feed, or after half a second              │
      └── step down, pause ◄── error, another position ┴────────────────────────────────────────────────────────┘

The position lies in the tier, and is replaced only where it is the one expected: a second leader, one that was frozen
and wakes up, and a server that was set back all fail there, and begin with reading the position again. It says up
to which snapshot of the database every change has been applied *to the data that it lies beside*; so an old snapshot,
a lagging replica or a lost second only mean that more is applied again.

What cannot be told from the log makes everything cached void, by a new epoch: no position (the server is empty, or
has evicted it), a position of another database (a restored backup, a failover), one whose newest line is not in the
log, one from before the oldest line that is left.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Never, Protocol

from zpmeow.cache.change_sink import ChangeSink
from zpmeow.cache.errors import CacheError
from zpmeow.cache.position import Position, decode_position
from zpmeow.domain.changes import ChangeLog, LogPage, LogReader, LogSnapshot, LogState
from zpmeow.domain.errors import Unavailable
from zpmeow.events import EpochBegun, InvalidationSent, LeadChanged, Observer
from zpmeow.repositories.change_keys import ChangeKeys

Anchor = tuple[int, int, str]

BATCH = 500
"""Lines a round trip: 2.6 ms of Redis' one thread, during which nobody else is answered."""

BEAT_SECONDS = 0.5
"""How often the position is renewed when nothing changes. Readers believe it for twenty seconds."""

GATHER_SECONDS = 0.01
"""How long after a change the log is read, so that what is written together goes together. Nobody waits for it: every
process has heard of the change by the feed."""

_FIRST_PAUSE_SECONDS = 0.05
_LONGEST_PAUSE_SECONDS = 0.2
_LONGEST_DOUBT_SECONDS = 5.0
_STANDING_SECONDS = 10.0  # A position that stood for so long was no accident.


class Gate(Protocol):
    """Whether anything may be sent, as asyncio.Event has it."""

    def is_set(self) -> bool:
        """Tell whether it may."""
        ...

    async def wait(self) -> object:
        """Wait until it may."""
        ...


class InvalidationRelay:
    """Leads when it can, and follows otherwise."""

    def __init__(
        self,
        *,
        log: ChangeLog,
        sink: ChangeSink,
        keys: ChangeKeys,
        gate: Gate,
        observer: Observer,
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """Bring `log` to `sink`, while `gate` is open (an operator's bypass closes it)."""
        self._log = log
        self._sink = sink
        self._keys = keys
        self._gate = gate
        self._observer = observer
        self._monotonic = monotonic
        self._sleep = sleep
        self._woken = asyncio.Event()
        self._leads = False
        self._begun_epoch: bytes | None = None
        self._told_reasons: set[str] = set()

    @property
    def leads(self) -> bool:
        """Whether this process brings the changes."""
        return self._leads

    def wake(self) -> None:
        """Something was changed, or somebody waits for a position: look at the log now."""
        self._woken.set()

    async def run(self) -> Never:
        """Lead again and again, until cancelled."""
        pause = _FIRST_PAUSE_SECONDS
        while True:
            await self._gate.wait()
            reason = "an operator's bypass"
            led = False
            try:
                await self._sink.read_position()  # Without Redis there is nothing to lead for.
                async with self._log.lead() as reader:
                    await self._lead(reader)
            except (Unavailable, CacheError) as error:
                reason = str(error)
            finally:
                led, self._leads = self._leads, False
            self._tell_end(reason, led=led)
            if led:
                pause = _FIRST_PAUSE_SECONDS
            await self._sleep(pause)
            pause = min(_LONGEST_PAUSE_SECONDS, pause * 2)

    async def _lead(self, reader: LogReader) -> None:
        """Bring changes until something goes wrong, or the gate is closed."""
        position: tuple[Position, bytes] | None = None
        pause = _FIRST_PAUSE_SECONDS
        stands_since = self._monotonic()
        while self._gate.is_set():
            if position is None:
                stands_since = self._monotonic()
                position = await self._find_position(reader)
            if position is not None:
                position = await self._catch_up(reader, *position)
            if position is not None:
                self._tell_begin()
                if self._monotonic() - stands_since > _STANDING_SECONDS:
                    pause = _FIRST_PAUSE_SECONDS
                await self._rest()
            else:
                # Somebody else writes positions, or what is found does not stand: no hurry to begin epoch after epoch.
                await self._sleep(pause)
                pause = min(_LONGEST_DOUBT_SECONDS, pause * 2)

    async def _rest(self) -> None:
        try:
            async with asyncio.timeout(BEAT_SECONDS):
                await self._woken.wait()
        except TimeoutError:
            return
        await self._sleep(GATHER_SECONDS)

    async def _find_position(self, reader: LogReader) -> tuple[Position, bytes] | None:
        """Return the position that stands in the tier, or one of a new epoch; None: somebody else was quicker."""
        state = await reader.state()
        stored = await self._sink.read_position()
        position = None if stored is None else decode_position(stored)
        doubt = await self._doubt(reader, state, position)
        if doubt is None:
            assert position is not None
            assert stored is not None
            return position, stored
        if self._begun_epoch is None or state.epoch != self._begun_epoch:
            await self._sink.probe()  # A server that takes no writes could not be told.
            # Never an epoch that was used before, by whatever the database was before it was restored.
            await reader.raise_epoch()
            self._observer(EpochBegun(doubt))
            state = await reader.state()
            self._begun_epoch = state.epoch
        if state.newest is None:
            return None  # The line of the new epoch is gone already: somebody empties the log.
        begun = Position(
            epoch=state.epoch,
            database=state.database,
            at_ms=0,
            snapshot=_durable(state.epoch_snapshot, state.newest),
            anchor=state.newest,
        )
        data = begun.encode()
        if not await self._sink.apply([], expected=stored, position=data):
            return None
        self._begun_epoch = None  # It is used from now on.
        return begun, data

    async def _doubt(self, reader: LogReader, state: LogState, position: Position | None) -> str | None:
        """Say why the position that stands in the tier cannot be gone on from; None if it can."""
        if position is None:
            return "Redis has no position: it is empty, or has lost it"
        if position.epoch != state.epoch:
            return "the database has begun another epoch"
        if position.database != state.database:
            return "Redis' position is of another database: a failover, or a restored backup"
        if state.pruned_txid >= position.snapshot[0]:
            return "Redis was away for longer than the change log is kept"
        if not await reader.has_line(*position.anchor):
            return "the change log does not have the line of Redis' position: a restored backup"
        return None

    async def _catch_up(self, reader: LogReader, position: Position, stored: bytes) -> tuple[Position, bytes] | None:
        """Apply all that has become visible since; None: the position must be found anew."""
        self._woken.clear()
        first = page = await reader.read(position.snapshot, limit=BATCH)
        anchor = position.anchor
        while True:
            if page.pruned_txid >= position.snapshot[0]:
                return None
            if await self._is_of_past_epoch(reader, page, position):
                return None
            anchor = _newer(anchor, page)
            reached = Position(
                epoch=position.epoch,
                database=position.database,
                at_ms=int(first.read_at.timestamp() * 1000) if page.is_last else position.at_ms,
                snapshot=_durable(first.snapshot, anchor) if page.is_last else position.snapshot,
                anchor=anchor,
            )
            data = reached.encode()
            fences = self._keys.fences([line.change for line in page.lines], epoch=position.epoch)
            if not await self._sink.apply(fences, expected=stored, position=data):
                return None
            if page.lines:
                self._observer(InvalidationSent("relay", "applied", len(page.lines)))
            if page.is_last:
                return reached, data
            stored = data
            last = page.lines[-1]
            page = await reader.read(position.snapshot, limit=BATCH, from_line=(last.txid, last.seq))

    async def _is_of_past_epoch(self, reader: LogReader, page: LogPage, position: Position) -> bool:
        """Tell whether the log says that all is void that is cached in the position's epoch."""
        own = position.epoch.hex()
        if not any(line.change.entity == "epoch" and line.change.key != own for line in page.lines):
            return False
        return (await reader.state()).epoch != position.epoch  # Else a past epoch was told of late.

    def _tell_begin(self) -> None:
        self._told_reasons.clear()
        if not self._leads:
            self._leads = True
            self._observer(LeadChanged(leads=True))

    def _tell_end(self, reason: str, *, led: bool) -> None:
        """Tell each reason once: while it lasts, the lead is sought several times a second."""
        if led or reason not in self._told_reasons:
            self._told_reasons.add(reason)
            self._observer(LeadChanged(leads=False, reason=reason))


def _durable(snapshot: LogSnapshot, anchor: Anchor) -> LogSnapshot:
    """Cut a snapshot behind the newest line: what it says of later transactions may not outlive a crash.

    After a crash PostgreSQL gives out again the numbers of transactions that left nothing durable behind (rolled back,
    or committed without waiting for the disk). Whoever takes them for seen never reads what is written under them. The
    newest line is durable: no number up to its own comes again. No line is visible above it: none is read twice.
    """
    xmin, xmax, running = snapshot
    end = min(xmax, anchor[0] + 1)
    return (min(xmin, end), end, tuple(txid for txid in running if txid < end))


def _newer(anchor: Anchor, page: LogPage) -> Anchor:
    """Return the newest of the anchor and the page's lines, which are in order."""
    if not page.lines:
        return anchor
    last = page.lines[-1]
    return max(anchor, (last.txid, last.seq, last.nonce))
