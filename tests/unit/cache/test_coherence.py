"""Coherence: what is cached is believed only when this process would know of every change it has not seen."""

import pytest

from tests.unit.cache.cache_bench import JOIN_SECONDS
from zpmeow.cache.coherence import Belief, Coherence
from zpmeow.cache.floors import Floors
from zpmeow.cache.policy import LoadMark
from zpmeow.cache.position import Position

EPOCH, OTHER_EPOCH = b"e" * 16, b"f" * 16
DATABASE, OTHER_DATABASE = b"d" * 16, b"D" * 16
START_SECONDS = 1_000.0
START_MS = 1_000_000
MAX_LAG_SECONDS = 20.0  # Floors are kept for 30 s, less the margin of 10 s.


class Bench:
    """A coherence with one clock for both of its own, and a feed that opened at the start."""

    def __init__(self, *, max_floors: int = 100) -> None:
        """Begin at the start, in an epoch, with a live feed."""
        self.seconds = START_SECONDS
        self.floors = Floors(max_floors=max_floors, monotonic=self.monotonic)
        self.coherence = Coherence(
            floors=self.floors, now_ms=self.now_ms, join_seconds=JOIN_SECONDS, monotonic=self.monotonic
        )
        self.coherence.set_epoch(EPOCH)
        self.coherence.feed_opened(database=DATABASE, since_ms=START_MS, heard_at=self.seconds)

    def now_ms(self) -> int:
        """Return the database's clock."""
        return round(self.seconds * 1000)

    def monotonic(self) -> float:
        """Return this process' clock."""
        return self.seconds

    def pass_time(self, seconds: float, *, feed_lives: bool = True) -> None:
        """Let time pass, and the feed be heard at its end."""
        self.seconds += seconds
        if feed_lives:
            self.coherence.feed_confirmed(self.seconds)

    def judge(self, position: bytes | None) -> Belief:
        """Return what entries are worth that were read with this position."""
        return self.coherence.judge(position).belief

    def reason(self, position: bytes | None) -> str | None:
        """Return why they are not believed."""
        return self.coherence.judge(position).reason


@pytest.fixture
def bench() -> Bench:
    """A fresh bench."""
    return Bench()


def position(at_ms: int = START_MS, *, xmax: int = 10, epoch: bytes = EPOCH, database: bytes = DATABASE) -> bytes:
    """Encode a position."""
    return Position(
        epoch=epoch, database=database, at_ms=at_ms, snapshot=(xmax, xmax, ()), anchor=(1, 1, "00" * 16)
    ).encode()


def test_judge_trusts_when_the_position_is_new_and_the_feed_lives(bench: Bench) -> None:
    """The normal state: nothing stands in the way."""
    assert bench.judge(position()) is Belief.TRUSTED
    assert bench.reason(position()) is None


def test_judge_doubts_when_the_epoch_is_not_known(bench: Bench) -> None:
    """Before the database was asked for its epoch, nothing can be compared with it."""
    fresh = Coherence(floors=bench.floors, now_ms=bench.now_ms, join_seconds=JOIN_SECONDS, monotonic=bench.monotonic)
    fresh.feed_opened(database=DATABASE, since_ms=START_MS, heard_at=bench.seconds)

    verdict = fresh.judge(position())

    assert (verdict.belief, verdict.reason) == (Belief.DOUBTFUL, "the epoch is not known yet")


@pytest.mark.parametrize("data", [None, b"", b"garbage", position()[:-1], b"\0" + position()[1:]])
def test_judge_doubts_when_there_is_no_sound_position(bench: Bench, data: bytes | None) -> None:
    """A tier that is empty, or whose position was damaged, says nothing of its age."""
    assert bench.judge(data) is Belief.DOUBTFUL
    assert bench.reason(data) == "Redis has no position"


def test_judge_doubts_when_the_position_is_of_another_epoch(bench: Bench) -> None:
    """What another epoch has seen means nothing in this one."""
    found = position(epoch=OTHER_EPOCH)

    assert bench.judge(found) is Belief.DOUBTFUL
    assert bench.reason(found) == "Redis is of another epoch"


def test_judge_doubts_when_the_position_is_of_another_database(bench: Bench) -> None:
    """Transactions of a restored or failed-over database cannot be compared."""
    found = position(database=OTHER_DATABASE)

    assert bench.judge(found) is Belief.DOUBTFUL
    assert bench.reason(found) == "Redis is of another database"


@pytest.mark.parametrize(
    ("xmax", "at_ms", "belief"),
    [
        (10, START_MS + 1_500, Belief.TRUSTED),
        (10, START_MS + 1_501, Belief.TRUSTED),
        (11, START_MS, Belief.TRUSTED),
        (9, START_MS + 500, Belief.TRUSTED),
        (10, START_MS + 499, Belief.DOUBTFUL),
        (9, START_MS, Belief.DOUBTFUL),
    ],
    ids=["equal", "later", "newer transaction", "overtaken", "earlier", "older transaction"],
)
def test_judge_doubts_when_the_position_is_older_than_one_seen_before(
    bench: Bench, xmax: int, at_ms: int, belief: Belief
) -> None:
    """A server that lost what it had told is not believed; answers that overtake each other within a second are."""
    bench.pass_time(2)
    bench.judge(position(START_MS + 1_500, xmax=10))

    assert bench.judge(position(at_ms, xmax=xmax)) is belief


def test_judge_gives_the_reason_when_the_tier_was_set_back(bench: Bench) -> None:
    """An operator is told what happened, and it lasts until the tier has caught up."""
    bench.pass_time(2)
    bench.judge(position(START_MS + 2_000, xmax=10))

    assert bench.reason(position(xmax=9)) == "Redis is set back: its position is older than one seen before"
    assert bench.judge(position(xmax=9)) is Belief.DOUBTFUL
    assert bench.judge(position(START_MS + 2_000, xmax=10)) is Belief.TRUSTED


def test_judge_begins_anew_when_epoch_or_database_has_changed(bench: Bench) -> None:
    """Positions seen in another epoch, or of another database, set no mark for this one."""
    bench.judge(position(xmax=10))

    bench.coherence.set_epoch(OTHER_EPOCH)
    in_other_epoch = bench.judge(position(xmax=5, epoch=OTHER_EPOCH))
    bench.coherence.feed_opened(database=OTHER_DATABASE, since_ms=START_MS, heard_at=bench.seconds)
    in_other_database = bench.judge(position(xmax=3, epoch=OTHER_EPOCH, database=OTHER_DATABASE))

    assert (in_other_epoch, in_other_database) == (Belief.TRUSTED, Belief.TRUSTED)


def test_judge_keeps_the_highest_position_when_the_feed_of_the_same_database_opens_again(bench: Bench) -> None:
    """A feed that broke off for a moment is no reason to believe a server that was set back meanwhile."""
    bench.pass_time(2)
    bench.judge(position(START_MS + 2_000, xmax=10))

    bench.coherence.feed_opened(database=DATABASE, since_ms=START_MS, heard_at=bench.seconds)

    assert bench.judge(position(xmax=9)) is Belief.DOUBTFUL


@pytest.mark.parametrize(("ahead_ms", "belief"), [(2_000, Belief.TRUSTED), (2_001, Belief.DOUBTFUL)])
def test_judge_doubts_when_the_position_is_in_the_future(bench: Bench, ahead_ms: int, belief: Belief) -> None:
    """Up to two seconds are the clocks' error; more means that one of them cannot be relied on."""
    assert bench.judge(position(START_MS + ahead_ms)) is belief


@pytest.mark.parametrize(("silent_seconds", "belief"), [(1.0, Belief.TRUSTED), (1.001, Belief.CURRENT)])
def test_judge_trusts_no_longer_when_the_feed_is_silent_for_more_than_a_second(
    bench: Bench, silent_seconds: float, belief: Belief
) -> None:
    """After a second without word, changes may be missing here."""
    bench.pass_time(silent_seconds, feed_lives=False)

    assert bench.judge(position(bench.now_ms())) is belief


@pytest.mark.parametrize(
    ("age_ms", "belief"), [(0, Belief.CURRENT), (2_000, Belief.CURRENT), (2_001, Belief.LAST_KNOWN)]
)
def test_judge_tells_current_from_last_known_when_the_feed_is_silent(bench: Bench, age_ms: int, belief: Belief) -> None:
    """A young position shows that somebody else still brings the changes; an old one that nobody does."""
    bench.pass_time(3, feed_lives=False)
    found = position(bench.now_ms() - age_ms)

    assert bench.judge(found) is belief
    assert bench.reason(found) == "no word from the change feed"


def test_judge_trusts_again_when_the_feed_is_heard(bench: Bench) -> None:
    """A silence ends with the next word."""
    bench.pass_time(3, feed_lives=False)
    silent = bench.judge(position(bench.now_ms()))

    bench.coherence.feed_confirmed(bench.seconds)

    assert silent is Belief.CURRENT
    assert bench.judge(position(bench.now_ms())) is Belief.TRUSTED


def test_judge_trusts_only_a_feed_that_is_open_when_it_was_lost(bench: Bench) -> None:
    """A word that comes after the feed broke off does not mend it; only opening it again does."""
    bench.coherence.feed_lost()
    bench.coherence.feed_confirmed(bench.seconds)
    lost = bench.judge(position())

    bench.coherence.feed_opened(database=DATABASE, since_ms=START_MS, heard_at=bench.seconds)

    assert lost is Belief.CURRENT
    assert bench.judge(position()) is Belief.TRUSTED


def test_judge_doubts_when_more_changes_came_than_floors_are_kept() -> None:
    """Floors that were dropped could have been needed; the doubt ends when they would have aged."""
    bench = Bench(max_floors=1)
    bench.coherence.raise_floor("a", 1)
    bench.coherence.raise_floor("b", 2)
    found = position()
    overflown, reason = bench.judge(found), bench.reason(found)

    bench.pass_time(30)

    assert (overflown, reason) == (Belief.DOUBTFUL, "more changes at a time than can be remembered")
    assert bench.judge(position(bench.now_ms())) is Belief.TRUSTED


@pytest.mark.parametrize(("before_ms", "belief"), [(0, Belief.TRUSTED), (1, Belief.DOUBTFUL)])
def test_judge_knows_a_gap_when_the_position_is_from_before_the_feed(
    bench: Bench, before_ms: int, belief: Belief
) -> None:
    """Changes between the position and the feed's beginning are known to nobody here."""
    assert bench.judge(position(START_MS - before_ms)) is belief


@pytest.mark.parametrize(("over_ms", "belief"), [(0, Belief.TRUSTED), (1, Belief.DOUBTFUL)])
def test_judge_knows_a_lag_when_the_position_is_older_than_floors_are_kept(
    bench: Bench, over_ms: int, belief: Belief
) -> None:
    """Floors cover the last seconds only; what the tier has missed before is not known any more."""
    bench.pass_time(100)
    found = position(bench.now_ms() - round(MAX_LAG_SECONDS * 1000) - over_ms)

    assert bench.judge(found) is belief
    assert bench.reason(found) == (None if belief is Belief.TRUSTED else "Redis is behind the change log")


@pytest.mark.parametrize(
    ("lag_before_ms", "belief"), [(20_000, Belief.LAST_KNOWN), (20_001, Belief.DOUBTFUL)], ids=["covered", "behind"]
)
def test_judge_knows_what_was_behind_when_the_feed_fell_silent(
    bench: Bench, lag_before_ms: int, belief: Belief
) -> None:
    """However long the silence: what counts is whether floors covered the tier's lag when it began."""
    bench.pass_time(100)
    found = position(bench.now_ms() - lag_before_ms)

    bench.pass_time(600, feed_lives=False)

    assert bench.judge(found) is belief


def test_verdict_ages_when_nothing_is_read_anew(bench: Bench) -> None:
    """The position that was read last is worth less with every second."""
    bench.judge(position())
    before = bench.coherence.verdict.belief

    bench.pass_time(MAX_LAG_SECONDS + 1)

    assert (before, bench.coherence.verdict.belief) == (Belief.TRUSTED, Belief.DOUBTFUL)


def test_lag_is_told_when_a_position_was_read(bench: Bench) -> None:
    """It is never negative, and None without a position."""
    without = bench.coherence.lag_seconds
    bench.judge(position(START_MS + 1_000))
    ahead = bench.coherence.lag_seconds
    bench.pass_time(3)
    behind = bench.coherence.lag_seconds
    bench.judge(None)

    assert (without, ahead, behind) == (None, 0.0, 2.0)
    assert bench.coherence.lag_seconds is None
    assert bench.coherence.position is None


def test_set_epoch_tells_when_it_is_another_one(bench: Bench) -> None:
    """Only a change makes everything void."""
    told = [bench.coherence.set_epoch(epoch) for epoch in (EPOCH, OTHER_EPOCH, OTHER_EPOCH)]

    assert told == [False, True, False]
    assert bench.coherence.epoch == OTHER_EPOCH


def test_process_memory_is_believed_when_epoch_feed_and_floors_are_there(bench: Bench) -> None:
    """Silence and an operator's bypass each end it, and it comes back by itself."""
    seen = [bench.coherence.is_whole]
    bench.coherence.bypassed = True
    seen.append(bench.coherence.is_whole)
    bench.coherence.bypassed = False
    bench.pass_time(1.001, feed_lives=False)
    seen.append(bench.coherence.is_whole)
    bench.coherence.feed_confirmed(bench.seconds)
    seen.append(bench.coherence.is_whole)

    assert seen == [True, False, False, True]


def test_process_memory_is_not_believed_when_epoch_or_floors_are_missing() -> None:
    """Without the epoch, and with floors dropped, nothing kept here is sure."""
    bench = Bench(max_floors=1)
    fresh = Coherence(floors=Floors(), now_ms=bench.now_ms, join_seconds=JOIN_SECONDS, monotonic=bench.monotonic)
    fresh.feed_opened(database=DATABASE, since_ms=START_MS, heard_at=bench.seconds)
    bench.coherence.raise_floor("a", 1)
    bench.coherence.raise_floor("b", 2)

    assert not fresh.is_whole
    assert not bench.coherence.is_whole


def test_feed_counts_as_heard_when_its_last_word_is_recent(bench: Bench) -> None:
    """Also after it broke off; a word that is older than the last one changes nothing."""
    bench.pass_time(2, feed_lives=False)
    bench.coherence.feed_lost()
    bench.coherence.feed_confirmed(START_SECONDS - 50)

    assert bench.coherence.heard_within(2)
    assert not bench.coherence.heard_within(1.999)


def test_load_is_covered_when_it_began_after_the_feed_opened(bench: Bench) -> None:
    """One that began in the gap before may have missed a change that nobody told here."""
    bench.coherence.feed_lost()
    early = bench.coherence.begin_load()
    bench.pass_time(0.5)
    bench.coherence.feed_opened(database=DATABASE, since_ms=bench.now_ms(), heard_at=bench.seconds)
    late = bench.coherence.begin_load()

    assert not bench.coherence.covers(early)
    assert bench.coherence.covers(late)


@pytest.mark.parametrize(("age_seconds", "covered"), [(MAX_LAG_SECONDS, True), (MAX_LAG_SECONDS + 0.001, False)])
def test_load_is_not_covered_when_it_is_older_than_floors_are_kept(
    bench: Bench,
    age_seconds: float,
    covered: bool,  # noqa: FBT001  (a parameter)
) -> None:
    """Floors that could have judged it may be forgotten."""
    mark = bench.coherence.begin_load()

    bench.pass_time(age_seconds)

    assert bench.coherence.covers(mark) is covered


def test_load_is_not_covered_when_the_epoch_has_changed(bench: Bench) -> None:
    """What was loaded in another epoch is void."""
    mark = bench.coherence.begin_load()

    bench.coherence.set_epoch(OTHER_EPOCH)

    assert not bench.coherence.covers(mark)
    assert bench.coherence.covers(bench.coherence.begin_load())


def test_load_is_not_covered_when_the_feed_is_silent(bench: Bench) -> None:
    """Changes since it began may not have been told."""
    mark = bench.coherence.begin_load()

    bench.pass_time(1.001, feed_lives=False)

    assert not bench.coherence.covers(mark)


def test_load_mark_tells_both_clocks_and_the_epoch(bench: Bench) -> None:
    """What a load brings is as old as its beginning."""
    bench.pass_time(5)

    mark = bench.coherence.begin_load()

    assert mark == LoadMark(began_at_ms=START_MS + 5_000, began_at=START_SECONDS + 5, epoch=EPOCH)


def test_change_is_known_when_it_came_after_a_load_began(bench: Bench) -> None:
    """A change told before the load began is in what it brings; one told since may not be."""
    bench.coherence.raise_floor("a", 1)
    bench.pass_time(0.1)
    mark = bench.coherence.begin_load()
    before = bench.coherence.changed_since("a", mark)
    bench.coherence.raise_floor("a", 2)

    assert not before
    assert bench.coherence.changed_since("a", mark)
    assert not bench.coherence.changed_since("b", mark)


def test_load_may_be_joined_when_it_began_after_the_last_gap(bench: Bench) -> None:
    """All changes since are known; without the feed one is joined for a second only: that bounds what it may miss."""
    opened = bench.seconds
    bench.pass_time(100)
    whole = bench.coherence.join_since()
    bench.coherence.set_epoch(OTHER_EPOCH)
    in_new_epoch = bench.coherence.join_since()
    bench.pass_time(1.001, feed_lives=False)
    silent = bench.coherence.join_since()

    assert (whole, in_new_epoch) == (opened, opened + 100)
    assert silent == bench.seconds - JOIN_SECONDS
