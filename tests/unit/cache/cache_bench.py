"""A tiered cache with everything around it in a test's hand: clock, change feed, position, tier and truth."""

import asyncio
import json
from collections.abc import Collection, Mapping, Sequence

from tests.fakes.failing_tier import FailingTier
from tests.fakes.memory_tier import MemoryTier
from tests.fakes.slow_tier import SlowTier
from zpmeow.cache.coherence import Coherence
from zpmeow.cache.entry_codec import EntryCodec
from zpmeow.cache.floors import Floors
from zpmeow.cache.loads import LoadLimits
from zpmeow.cache.local_tier import LocalTier
from zpmeow.cache.policy import (
    Answer,
    EntryKey,
    EntryPolicy,
    HintKey,
    HintPolicy,
    Loaded,
    LoadFailure,
    Origin,
    TruthState,
)
from zpmeow.cache.position import POSITION_KEY, Position
from zpmeow.cache.tiered_cache import TieredCache
from zpmeow.events import CacheLookedUp, Event, LoadFinished, LookupOutcome, Tier

FRESH_SECONDS = 60
STALE_SECONDS = 3600
GRACE_SECONDS = 5.0
JOIN_SECONDS = 1.0
LOCAL_TTL_SECONDS = 5.0
LOCAL_BYTES = 100_000
EPOCH = b"e" * 16
OTHER_EPOCH = b"f" * 16
DATABASE = b"d" * 16

POLICY = EntryPolicy(
    entity="thing",
    kind=9,
    schema=1,
    fresh_seconds=FRESH_SECONDS,
    stale_seconds=STALE_SECONDS,
    encode=lambda value: json.dumps(value).encode(),
    decode=json.loads,
    weigh=len,
)
A = EntryKey("zpmeow:{1}:a", POLICY)
B = EntryKey("zpmeow:{1}:b", POLICY)
HINT = HintKey("zpmeow:name:x", HintPolicy(entity="name", lifetime_seconds=60))


class TruthAwayError(Exception):
    """The source of truth cannot answer."""


class Truth:
    """Rows with versions, how often they were asked for, and an error when it is away."""

    def __init__(self) -> None:
        """Hold two rows."""
        self.rows: dict[EntryKey, Loaded] = {A: Loaded(value="a", version=1), B: Loaded(value="b", version=2)}
        self.asked: list[list[EntryKey]] = []
        self.error: Exception | None = None
        self.state = TruthState.ANSWERS
        self.release: asyncio.Event | None = None
        self.unreadable: set[EntryKey] = set()

    async def load(self, keys: Sequence[EntryKey], /) -> Mapping[EntryKey, Loaded | LoadFailure]:
        """Read the rows as they are when the load begins; hand them out when released."""
        self.asked.append(list(keys))
        rows = {key: self.rows[key] for key in keys if key in self.rows}
        if self.release is not None:
            await self.release.wait()
        if self.error is not None:
            raise self.error
        return rows | {key: LoadFailure(ValueError(key.text)) for key in keys if key in self.unreadable}

    def hold(self) -> asyncio.Event:
        """Hold the answers of all loads from now on back, until the returned event is set."""
        self.release = asyncio.Event()
        return self.release

    def go_away(self, state: TruthState = TruthState.SILENT) -> None:
        """Answer nobody any more."""
        self.error = TruthAwayError()
        self.state = state


class Bench:
    """A cache over a memory tier that can be told to fail or to hang, in an epoch, with a live feed and a position.

    Both clocks are `seconds`. The local tier is off unless `local_bytes` are given, there is no jitter.
    """

    def __init__(self, *, local_bytes: int = 0, max_floors: int = 1_000) -> None:
        """Wire it up; the feed has been open for a minute."""
        self.seconds = 10_000.0
        self.events: list[Event] = []
        self.memory = MemoryTier()
        self.tier = FailingTier(self.memory)
        self.slow = SlowTier(self.tier)
        self.truth = Truth()
        self.codec = EntryCodec(now_ms=self.now_ms, chance=lambda: 0.0)
        self.floors = Floors(max_floors=max_floors, monotonic=self.monotonic)
        self.coherence = Coherence(
            floors=self.floors, now_ms=self.now_ms, join_seconds=JOIN_SECONDS, monotonic=self.monotonic
        )
        self.local = LocalTier(max_bytes=local_bytes, ttl_seconds=LOCAL_TTL_SECONDS, monotonic=self.monotonic)
        self.cache = TieredCache(
            tier=self.slow,
            local=self.local,
            codec=self.codec,
            coherence=self.coherence,
            now_ms=self.now_ms,
            truth_state=lambda: self.truth.state,
            unavailable=TruthAwayError,
            limits=LoadLimits(),
            grace_seconds=GRACE_SECONDS,
            observer=self.events.append,
        )
        self._snapshot = 100
        self.coherence.set_epoch(EPOCH)
        self.seconds -= 60
        self.open_feed()
        self.seconds += 60
        self.hear_feed()
        self.place_position()

    def now_ms(self) -> int:
        """Return the database's clock."""
        return round(self.seconds * 1000)

    def monotonic(self) -> float:
        """Return this process' clock."""
        return self.seconds

    def open_feed(self) -> None:
        """Let the feed begin now."""
        self.coherence.feed_opened(database=DATABASE, since_ms=self.now_ms(), heard_at=self.seconds)

    def hear_feed(self) -> None:
        """Let the feed say that it is there."""
        self.coherence.feed_confirmed(self.seconds)

    def place_position(self, *, age_seconds: float = 0, epoch: bytes = EPOCH) -> bytes:
        """Put a new position into the tier, of a time before now; return it."""
        self._snapshot += 1
        position = Position(
            epoch=epoch,
            database=DATABASE,
            at_ms=self.now_ms() - round(age_seconds * 1000),
            snapshot=(self._snapshot, self._snapshot, ()),
            anchor=(self._snapshot - 1, 1, "00" * 16),
        ).encode()
        self.memory.place(POSITION_KEY, position)
        return position

    def pass_time(self, seconds: float, *, feed_lives: bool = True, relay_lives: bool = True) -> None:
        """Let time pass; feed and relay do their work meanwhile unless told otherwise."""
        self.seconds += seconds
        if feed_lives:
            self.hear_feed()
        if relay_lives:
            self.place_position()

    def change(self, key: EntryKey, value: str, version: int, *, told: bool = True) -> None:
        """Let somebody else commit a new value of a row; the feed tells at once unless it is late."""
        self.truth.rows[key] = Loaded(value=value, version=version)
        if told:
            self.cache.changed(key.text, version)

    async def read(self, *keys: EntryKey, may_be_stale: Collection[EntryKey] | None = None) -> dict[EntryKey, Answer]:
        """Read the keys and let fills end; stale answers are allowed for all keys unless told otherwise."""
        allowed = keys if may_be_stale is None else may_be_stale
        answers = await self.cache.get_or_load(keys, self.truth.load, may_be_stale=allowed)
        await settle()
        return answers

    async def origin(self, key: EntryKey) -> Origin:
        """Read one key and tell who answered."""
        return (await self.read(key))[key].origin

    def begin_read(
        self, *keys: EntryKey, may_be_stale: Collection[EntryKey] = ()
    ) -> asyncio.Task[dict[EntryKey, Answer]]:
        """Begin to read the keys in a task of its own."""
        reading = self.cache.get_or_load(keys, self.truth.load, may_be_stale=may_be_stale)
        return asyncio.get_running_loop().create_task(reading)

    def outcomes(self, tier: Tier = Tier.REDIS) -> list[LookupOutcome]:
        """Return how the look-ups in a tier have ended so far."""
        return [event.outcome for event in self.events if isinstance(event, CacheLookedUp) and event.tier is tier]

    def load_count(self) -> int:
        """Return how many entries were loaded."""
        return sum(event.count for event in self.events if isinstance(event, LoadFinished))

    def stored_entries(self) -> dict[str, bytes | None]:
        """Return what stands in the tier besides the position."""
        return {key: data for key, data in self.memory.stored.items() if key != POSITION_KEY}


async def settle() -> None:
    """Let background work go as far as it can."""
    for _ in range(12):
        await asyncio.sleep(0)
