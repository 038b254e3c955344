"""What the feed's word does to this process' part of the cache."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from uuid import UUID

import pytest

from tests.fakes.cached_sessions import LIFETIMES
from tests.fakes.memory_tier import MemoryTier
from zpmeow.cache.coherence import FEED_SILENCE_SECONDS, Coherence
from zpmeow.cache.entry_codec import EntryCodec
from zpmeow.cache.floors import Floors
from zpmeow.cache.loads import LoadLimits
from zpmeow.cache.local_tier import LocalTier
from zpmeow.cache.pending_changes import PendingChanges
from zpmeow.cache.policy import TruthState
from zpmeow.cache.tiered_cache import TieredCache
from zpmeow.domain.changes import Change
from zpmeow.domain.errors import Unavailable
from zpmeow.domain.records import Entity
from zpmeow.events import Event, FeedChanged, InvalidationSent
from zpmeow.repositories.cache_feed import CacheFeed
from zpmeow.repositories.cache_policies import CachePolicies
from zpmeow.repositories.change_keys import ChangeKeys

ID = UUID(int=1)
DATABASE = b"d" * 16
SINCE = datetime(2026, 1, 1, tzinfo=UTC)
HEARD_AT = 100.0
NOW_MS = int(SINCE.timestamp() * 1000)


@dataclass
class Bench:
    """A feed's follower, and what it informs."""

    seconds: float = 100.0
    events: list[Event] = field(default_factory=list)
    wakes: int = 0
    control_changes: int = 0

    def __post_init__(self) -> None:
        """Put together; the feed is not open yet."""
        self.policies = CachePolicies(LIFETIMES)
        codec = EntryCodec(now_ms=self.now_ms)
        self.pending = PendingChanges(now_ms=self.now_ms)
        self.coherence = Coherence(
            floors=Floors(monotonic=self.monotonic),
            now_ms=self.now_ms,
            join_seconds=1.0,
            monotonic=self.monotonic,
        )
        self.coherence.set_epoch(b"e" * 16)
        self.local = LocalTier(max_bytes=1_000_000, ttl_seconds=5, monotonic=self.monotonic)
        cache = TieredCache(
            tier=MemoryTier(),
            local=self.local,
            codec=codec,
            coherence=self.coherence,
            now_ms=self.now_ms,
            truth_state=lambda: TruthState.ANSWERS,
            unavailable=Unavailable,
            limits=LoadLimits(),
            grace_seconds=5,
            observer=self.events.append,
        )
        self.feed = CacheFeed(
            cache=cache,
            coherence=self.coherence,
            keys=ChangeKeys(policies=self.policies, codec=codec),
            pending=self.pending,
            wake_relay=self._wake,
            control_changed=self._control_changed,
            observer=self.events.append,
        )
        self.key = self.policies.entry_key(ID, Entity.STATUS).text

    def open(self) -> None:
        """Open the feed, and forget what that did."""
        self.feed.opened(database=DATABASE, since=SINCE, heard_at=HEARD_AT)
        self.events.clear()
        self.control_changes = 0

    def tell(self, *changes: tuple[str, str, int]) -> None:
        """Let the feed tell of changes."""
        told: Sequence[Change] = [Change(entity=entity, key=key, version=version) for entity, key, version in changes]
        self.feed.changed(told)

    def now_ms(self) -> int:
        """Return the database's time."""
        return NOW_MS + int(self.seconds * 1000)

    def monotonic(self) -> float:
        """Return the time in seconds."""
        return self.seconds

    def _wake(self) -> None:
        self.wakes += 1

    def _control_changed(self) -> None:
        self.control_changes += 1


@pytest.fixture
def bench() -> Bench:
    """A bench."""
    return Bench()


def test_what_is_kept_is_forgotten_when_the_feed_opens(bench: Bench) -> None:
    """Changes may have been missed until now: values of before go, the settings are read, and it is told once."""
    bench.local.put(bench.key, "old", version=1, size_bytes=1)

    bench.feed.opened(database=DATABASE, since=SINCE, heard_at=HEARD_AT)

    assert bench.local.get(bench.key) is None
    assert bench.coherence.is_whole
    assert bench.control_changes == 1
    assert bench.events == [FeedChanged(live=True)]


def test_older_values_are_outdated_when_a_change_is_told(bench: Bench) -> None:
    """The floor is raised, the old value here goes, the relay is woken, and the change counts as pending."""
    bench.open()
    bench.local.put(bench.key, "old", version=6, size_bytes=1)

    bench.tell(("status", str(ID), 7), ("qr", str(ID), 8))

    assert not bench.coherence.allows(bench.key, 6)
    assert bench.coherence.allows(bench.key, 7)
    assert bench.local.get(bench.key) is None
    assert bench.pending.later_than(None) == 2
    assert bench.wakes == 1
    assert bench.events == [InvalidationSent("feed", "applied", 2)]


def test_the_value_of_the_change_itself_stays_when_it_is_told(bench: Bench) -> None:
    """The writer's own process has it already."""
    bench.open()
    bench.local.put(bench.key, "new", version=7, size_bytes=1)

    bench.tell(("status", str(ID), 7))

    assert bench.local.get(bench.key) is not None


@pytest.mark.parametrize(("entity", "key"), [("name", "alpha"), ("key", "00" * 32)])
def test_denials_are_outdated_when_a_look_up_is_told(bench: Bench, entity: str, key: str) -> None:
    """That there is no such session is kept for a second, and ends as soon as there is one."""
    bench.open()
    hint_key = f"zpmeow:{entity}:{key}"
    bench.local.put(hint_key, None, version=0, size_bytes=0)

    bench.tell((entity, key, 7))

    assert bench.local.get(hint_key) is None


@pytest.mark.parametrize("entity", ["epoch", "mode"])
def test_settings_are_read_when_the_feed_says_that_they_changed(bench: Bench, entity: str) -> None:
    """At once, and the relay looks too; it is no change of an entry."""
    bench.open()

    bench.tell((entity, "whatever", 0))

    assert bench.control_changes == 1
    assert bench.wakes == 1
    assert bench.pending.later_than(None) == 0
    assert bench.events == []


@pytest.mark.parametrize("changes", [[], [("position", "", 0)], [("session", "garbage", 5)], [("later", "x", 1)]])
def test_only_the_relay_is_woken_when_no_entry_of_ours_is_told(
    bench: Bench, changes: list[tuple[str, str, int]]
) -> None:
    """Somebody waits for a position, or NOTIFYs garbage."""
    bench.open()

    bench.tell(*changes)

    assert bench.wakes == 1
    assert bench.control_changes == 0
    assert bench.events == []


def test_feed_is_live_as_long_as_it_is_confirmed(bench: Bench) -> None:
    """Each confirmation counts from when it was asked for."""
    bench.open()

    bench.seconds += FEED_SILENCE_SECONDS
    bench.feed.confirmed(bench.seconds)
    bench.seconds += FEED_SILENCE_SECONDS
    live = bench.coherence.feed_is_live
    bench.seconds += 0.001

    assert live
    assert not bench.coherence.feed_is_live


def test_nothing_is_believed_when_the_feed_is_lost_and_each_reason_is_told_once(bench: Bench) -> None:
    """However often the attempts to open it fail; whether or not it was open before."""
    for reason in ("refused", "refused"):
        bench.feed.lost(reason)
    at_the_start = list(bench.events)
    bench.open()

    for reason in ("broke off", "refused", "broke off", "refused"):
        bench.feed.lost(reason)

    assert not bench.coherence.is_whole
    assert at_the_start == [FeedChanged(live=False, reason="refused")]
    assert bench.events == [FeedChanged(live=False, reason="broke off"), FeedChanged(live=False, reason="refused")]


def test_nothing_is_believed_and_nobody_is_told_when_the_feed_is_closed_on_purpose(bench: Bench) -> None:
    """The service stops: that is no alarm."""
    bench.open()

    bench.feed.lost(None)

    assert not bench.coherence.is_whole
    assert bench.events == []
