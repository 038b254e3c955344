"""Whether what is cached may be believed: the one place that knows epoch, change feed, floors and position.

What stands in the tier is believed when this process would know of every change that it has not seen:

    the tier has seen     |########################|  at: its position, by the database's clock
    floors here cover                       |##############|  since: the feed is without a gap; 30 s back at most
                                            └ overlap ┘     now

That is: `at` is not before `since`, and not further back than floors are kept. It does not matter why the tier is
behind, or what state it came back in: its position is as old as its entries. A position that is missing, of another
epoch or database, or older than one seen before is not believed either.

Without word from the feed for a second nothing cached is believed while the database answers. When the database does
not answer, `Belief` grades what is left.
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from zpmeow.cache.floors import Floors
from zpmeow.cache.policy import LoadMark
from zpmeow.cache.position import Position, decode_position

FEED_SILENCE_SECONDS = 1.0
"""The feed tells three times a second that it is there; after a second without, changes may be missing."""

CLOCK_MARGIN_SECONDS = 10.0
"""By how much floors outlive what they cover: the error of this process' idea of the database's clock, and more."""

_AHEAD_MS = 2_000  # A position from the future: the database's clock was set back, or this process' idea of it is off.
_CURRENT_MS = 2_000  # The relay renews its position twice a second.
_OVERTAKEN_MS = 1_000
"""By how much a position may be older than the newest seen: two answers on two connections can overtake each other. A
server that is set back by less is judged by the position's age, like any other."""


class Belief(Enum):
    """What a reading is worth.

    TRUSTED: it answers. The others only count when the database does not answer. CURRENT: another process keeps the
    tier up to date. LAST_KNOWN: it lacks nothing that was told before the feed fell silent. DOUBTFUL: it may be of any
    age.
    """

    TRUSTED = "trusted"
    CURRENT = "current"
    LAST_KNOWN = "last_known"
    DOUBTFUL = "doubtful"


@dataclass(slots=True, frozen=True)
class Verdict:
    """A belief, and why it is not TRUSTED (in a few words, for operators)."""

    belief: Belief
    reason: str | None = None


_TRUSTED = Verdict(Belief.TRUSTED)
_NO_EPOCH = Verdict(Belief.DOUBTFUL, "the epoch is not known yet")
_OVERFLOWN = Verdict(Belief.DOUBTFUL, "more changes at a time than can be remembered")
_NO_POSITION = Verdict(Belief.DOUBTFUL, "Redis has no position")
_OTHER_EPOCH = Verdict(Belief.DOUBTFUL, "Redis is of another epoch")
_OTHER_DATABASE = Verdict(Belief.DOUBTFUL, "Redis is of another database")
_SET_BACK = Verdict(Belief.DOUBTFUL, "Redis is set back: its position is older than one seen before")
_AHEAD = Verdict(Belief.DOUBTFUL, "Redis' position is in the future")
_BEHIND = Verdict(Belief.DOUBTFUL, "Redis is behind the change log")
_SILENT_BUT_CURRENT = Verdict(Belief.CURRENT, "no word from the change feed")
_SILENT = Verdict(Belief.LAST_KNOWN, "no word from the change feed")
_SILENT_AND_BEHIND = Verdict(Belief.DOUBTFUL, "no word from the change feed, and Redis was behind the change log")


class Coherence:
    """Judges positions, and keeps the floors. Not for use from several threads."""

    def __init__(
        self,
        *,
        floors: Floors,
        now_ms: Callable[[], int],
        join_seconds: float,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """Go by `now_ms`, the database's clock in milliseconds since 1970, and by `monotonic`, in seconds.

        `join_seconds`: how old a load may be to be joined while changes may be missing here. Nobody is told anything
        older than that then; a database that hangs is asked for a key so often.
        """
        self._join_seconds = join_seconds
        self._floors = floors
        self._now_ms = now_ms
        self._monotonic = monotonic
        self._max_lag_ms = int((floors.keep_seconds - CLOCK_MARGIN_SECONDS) * 1000)
        self._keep_within_seconds = floors.keep_seconds - CLOCK_MARGIN_SECONDS
        self.bypassed = False
        """Whether an operator wants nothing to be answered from what is kept."""
        self._epoch: bytes | None = None
        self._database: bytes | None = None
        self._since_ms = 0
        self._since = float("inf")
        self._epoch_since = float("-inf")
        self._confirmed_at = float("-inf")
        self._is_open = False
        self._data: bytes | None = None
        self._position: Position | None = None
        self._highest: tuple[int, int] = (0, 0)

    @property
    def epoch(self) -> bytes | None:
        """The epoch that is worked in, 16 bytes; None before it is known."""
        return self._epoch

    def set_epoch(self, epoch: bytes) -> bool:
        """Work in this epoch; tell whether it is another one: then all that is cached is void."""
        if epoch == self._epoch:
            return False
        self._epoch = epoch
        self._epoch_since = self._monotonic()
        self._highest = (0, 0)
        return True

    def feed_opened(self, *, database: bytes, since_ms: int, heard_at: float) -> None:
        """From `since_ms` on (the database's clock) the feed tells of every change in this database (16 bytes).

        `heard_at`: the monotonic clock before that moment was asked for.
        """
        if database != self._database:
            self._highest = (0, 0)
        self._database = database
        self._since_ms = since_ms
        self._since, self._confirmed_at = self._monotonic(), heard_at
        self._is_open = True

    def feed_confirmed(self, sent_at: float) -> None:
        """The feed has told of every change that was committed before `sent_at`, of the monotonic clock."""
        self._confirmed_at = max(self._confirmed_at, sent_at)

    def feed_lost(self) -> None:
        """The feed has broken off: from now on changes may be missing."""
        self._is_open = False

    @property
    def feed_is_live(self) -> bool:
        """Whether every change is known here that was committed more than a moment ago."""
        return self._is_open and self._monotonic() - self._confirmed_at <= FEED_SILENCE_SECONDS

    def heard_within(self, seconds: float) -> bool:
        """Tell whether the feed was whole at some time in the last `seconds`."""
        return self._monotonic() - self._confirmed_at <= seconds

    def heard_after(self, moment: float) -> bool:
        """Tell whether the feed was whole at some time after a moment of the monotonic clock."""
        return self._confirmed_at >= moment

    @property
    def is_whole(self) -> bool:
        """Whether what this process keeps itself may be believed: the epoch, the feed and all floors are there."""
        return self._epoch is not None and self.feed_is_live and not self._floors.overflown and not self.bypassed

    def join_since(self) -> float:
        """Return since when a load must run to be joined: all changes since are known here, or it is young."""
        return max(self._since, self._epoch_since) if self.is_whole else self._monotonic() - self._join_seconds

    def monotonic(self) -> float:
        """Return the time by which loads begin, in seconds."""
        return self._monotonic()

    def raise_floor(self, key: str, version: int) -> None:
        """Declare everything under `key` below `version` outdated."""
        self._floors.raise_to(key, version)

    def allows(self, key: str, version: int) -> bool:
        """Tell whether `version` is not known to be outdated."""
        return self._floors.allows(key, version)

    def allows_at_any_age(self, key: str, version: int) -> bool:
        """Tell whether `version` is not known to be outdated, by what is remembered longer than it need be, too."""
        return self._floors.allows_at_any_age(key, version)

    def changed_since(self, key: str, mark: LoadMark) -> bool:
        """Tell whether the key was changed since a load began, as far as is known."""
        return self._floors.raised_since(key, mark.began_at)

    def begin_load(self) -> LoadMark:
        """Note that a load begins."""
        return LoadMark(began_at_ms=self._now_ms(), began_at=self._monotonic(), epoch=self._epoch)

    def covers(self, mark: LoadMark) -> bool:
        """Tell whether every change since that load began is known here, so that floors can judge what it brought."""
        return (
            self.is_whole
            and mark.epoch == self._epoch
            and mark.began_at >= self._since
            and self._monotonic() - mark.began_at <= self._keep_within_seconds
        )

    @property
    def lag_seconds(self) -> float | None:
        """How far the position read last is behind now; None if there was none."""
        return None if self._position is None else max(0.0, (self._now_ms() - self._position.at_ms) / 1000)

    @property
    def position(self) -> Position | None:
        """The position that was read last."""
        return self._position

    @property
    def verdict(self) -> Verdict:
        """What the position that was read last is worth now."""
        return self.judge(self._data)

    def judge(self, data: bytes | None) -> Verdict:
        """Say what entries are worth that were read together with this position."""
        if self._epoch is None:
            return _NO_EPOCH
        if data != self._data:
            self._data = data
            self._position = None if data is None else decode_position(data)
        position = self._position
        if position is None:
            return _NO_POSITION
        if position.epoch != self._epoch:
            return _OTHER_EPOCH
        if self._database is not None and position.database != self._database:
            return _OTHER_DATABASE
        if position.order < self._highest and self._highest[1] - position.at_ms > _OVERTAKEN_MS:
            return _SET_BACK
        self._highest = max(self._highest, position.order)
        return self._judge_age(self._now_ms() - position.at_ms, position)

    def _judge_age(self, age_ms: int, position: Position) -> Verdict:
        if age_ms < -_AHEAD_MS:
            return _AHEAD
        if self._floors.overflown:
            return _OVERFLOWN
        if not self.feed_is_live:
            if age_ms <= _CURRENT_MS:
                return _SILENT_BUT_CURRENT
            silent_ms = (self._monotonic() - self._confirmed_at) * 1000  # Infinite before the first word.
            never_heard = self._since == math.inf
            was_behind = never_heard or position.at_ms < self._since_ms or age_ms - silent_ms > self._max_lag_ms
            return _SILENT_AND_BEHIND if was_behind else _SILENT
        if position.at_ms < self._since_ms or age_ms > self._max_lag_ms:
            return _BEHIND
        return _TRUSTED
