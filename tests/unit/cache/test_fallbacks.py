"""What is answered when the truth is silent: by how far the cache may be believed, and who allows what."""

from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import product

import pytest

from tests.unit.cache.cache_bench import (
    FRESH_SECONDS,
    GRACE_SECONDS,
    OTHER_EPOCH,
    STALE_SECONDS,
    A,
    B,
    Bench,
    TruthAwayError,
    settle,
)
from zpmeow.cache.coherence import Belief
from zpmeow.cache.policy import Answer, EntryKey, Origin, TruthState
from zpmeow.events import LookupOutcome

STRICT = EntryKey("zpmeow:{1}:strict", replace(A.policy, stale_seconds=0))


@dataclass(frozen=True, kw_only=True)
class Case:
    """A state of the cache and the truth.

    `may_be_stale`: the caller allows it. `kept_stale`: the policy keeps values beyond their freshness. `heard`: the
    feed was whole within the grace.
    """

    belief: Belief
    truth: TruthState
    is_fresh: bool
    may_be_stale: bool
    kept_stale: bool = True
    heard: bool = True

    @property
    def key(self) -> EntryKey:
        """The key that is read, with the policy of the case."""
        return A if self.kept_stale else STRICT

    def __str__(self) -> str:
        """Name the case."""
        return "-".join(
            [
                self.belief.value,
                self.truth.value,
                "fresh" if self.is_fresh else "expired",
                "allowed" if self.may_be_stale else "forbidden",
                "kept" if self.kept_stale else "strict",
                "heard" if self.heard else "unheard",
            ]
        )


def expected_origin(case: Case) -> Origin | None:
    """Say who answers; None: nobody, the truth's error is raised."""
    may_be_old = case.may_be_stale and case.kept_stale
    if case.is_fresh:
        if case.belief in {Belief.TRUSTED, Belief.CURRENT}:
            return Origin.TIER
        if case.belief is Belief.LAST_KNOWN and (case.truth is TruthState.DOWN or case.heard):
            return Origin.STALE if may_be_old else Origin.TIER
    return Origin.STALE if may_be_old else None


def expected_outcome(case: Case, origin: Origin | None) -> LookupOutcome:
    """Say how the one look-up is counted."""
    match origin:
        case Origin.TIER:
            return LookupOutcome.HIT
        case Origin.STALE:
            return LookupOutcome.STALE
        case _:
            return LookupOutcome.MISS if case.belief is Belief.TRUSTED else LookupOutcome.BYPASS


CASES = [
    Case(belief=belief, truth=truth, is_fresh=is_fresh, may_be_stale=may_be_stale, kept_stale=kept_stale, heard=heard)
    for belief, truth, is_fresh, may_be_stale, kept_stale, heard in product(
        Belief, TruthState, [True, False], [True, False], [True, False], [True, False]
    )
    if heard or belief is not Belief.TRUSTED
]


async def make_bench(case: Case) -> Bench:
    """Let a value be cached and time pass until the case is there, with a truth that answers nobody."""
    bench = Bench()
    bench.truth.rows[case.key] = bench.truth.rows[A]
    await bench.read(case.key)
    if not case.is_fresh:
        bench.pass_time(FRESH_SECONDS)
    if case.belief is not Belief.TRUSTED:
        silent_seconds = GRACE_SECONDS if case.heard else GRACE_SECONDS + 0.001
        bench.pass_time(silent_seconds, feed_lives=False)
    match case.belief:
        case Belief.LAST_KNOWN:
            bench.place_position(age_seconds=GRACE_SECONDS)
        case Belief.DOUBTFUL:
            bench.place_position(epoch=OTHER_EPOCH)
        case _:
            bench.place_position()
    bench.events.clear()
    bench.truth.asked.clear()
    bench.truth.go_away(case.truth)
    return bench


@pytest.mark.parametrize("case", CASES, ids=str)
async def test_fallback_is_as_good_as_what_is_believed_when_the_truth_is_silent(case: Case) -> None:
    """For each state: the right answer with the right mark, or the truth's error, and one outcome counted."""
    bench = await make_bench(case)
    allowed = [case.key] if case.may_be_stale else []
    origin = expected_origin(case)

    try:
        answers = await bench.read(case.key, may_be_stale=allowed)
    except TruthAwayError:
        answers = {}

    assert answers == ({} if origin is None else {case.key: Answer(value="a", version=1, origin=origin)})
    assert bench.outcomes() == [expected_outcome(case, origin)]


@pytest.mark.parametrize("case", CASES, ids=str)
async def test_truth_is_not_asked_when_it_is_known_to_be_away_and_something_can_be_answered(case: Case) -> None:
    """Nobody waits for a database that is known not to answer, unless nothing else could be said."""
    bench = await make_bench(case)
    allowed = [case.key] if case.may_be_stale else []
    is_hit = case.belief is Belief.TRUSTED and case.is_fresh
    spared = case.belief is not Belief.TRUSTED and case.truth is not TruthState.ANSWERS and expected_origin(case)

    with suppress(TruthAwayError):
        await bench.read(case.key, may_be_stale=allowed)

    assert bench.truth.asked == ([] if is_hit or spared else [[case.key]])


@pytest.mark.parametrize("belief", [Belief.CURRENT, Belief.LAST_KNOWN, Belief.DOUBTFUL])
async def test_truth_is_asked_when_it_answers_though_the_feed_is_silent(belief: Belief) -> None:
    """A silent feed alone is no reason to answer anything that is not certain."""
    bench = await make_bench(Case(belief=belief, truth=TruthState.ANSWERS, is_fresh=True, may_be_stale=True))
    bench.truth.error = None
    bench.change(A, "new", 5, told=False)

    answers = await bench.read(A)

    assert answers == {A: Answer(value="new", version=5, origin=Origin.LOAD_AFTER_BYPASS)}
    assert bench.outcomes() == [LookupOutcome.BYPASS]


@pytest.mark.parametrize("belief", [Belief.CURRENT, Belief.LAST_KNOWN, Belief.DOUBTFUL])
async def test_nothing_is_answered_when_it_is_known_to_be_changed(belief: Belief) -> None:
    """What is below a floor is no fallback, for nobody."""
    bench = await make_bench(Case(belief=belief, truth=TruthState.SILENT, is_fresh=True, may_be_stale=True))
    bench.cache.changed(A.text, 5)

    with pytest.raises(TruthAwayError):
        await bench.read(A)


async def test_nothing_is_answered_when_it_was_changed_while_the_load_was_tried() -> None:
    """The floor came after the look-up and before the load failed."""
    bench = await make_bench(Case(belief=Belief.TRUSTED, truth=TruthState.ANSWERS, is_fresh=False, may_be_stale=True))
    error, bench.truth.error = bench.truth.error, None
    release = bench.truth.hold()
    reading = bench.begin_read(A, may_be_stale=[A])
    await settle()
    bench.cache.changed(A.text, 5)
    bench.truth.error = error

    release.set()

    with pytest.raises(TruthAwayError):
        await reading


async def test_nothing_is_answered_when_one_of_several_keys_cannot_be() -> None:
    """An answer is whole or none at all: without permission for every key that is missing, the error is raised."""
    bench = Bench()
    await bench.read(A, B)
    bench.pass_time(FRESH_SECONDS)
    bench.truth.go_away()

    with pytest.raises(TruthAwayError):
        await bench.read(A, B, may_be_stale=[A])


async def test_each_key_has_its_own_mark_when_several_are_answered() -> None:
    """A fresh hit stays a hit beside a stale answer."""
    bench = Bench()
    await bench.read(A)
    bench.pass_time(FRESH_SECONDS - 1)
    await bench.read(B)
    bench.pass_time(1)
    bench.truth.go_away()

    answers = await bench.read(A, B)

    assert (answers[A].origin, answers[B].origin) == (Origin.STALE, Origin.TIER)


@pytest.mark.parametrize(("over_seconds", "is_answered"), [(-0.001, True), (0.0, False)])
async def test_nothing_is_answered_when_the_value_is_past_all_use(
    over_seconds: float,
    is_answered: bool,  # noqa: FBT001  (a parameter)
) -> None:
    """Stale answers end too."""
    bench = Bench()
    await bench.read(A)
    bench.pass_time(FRESH_SECONDS + STALE_SECONDS + over_seconds, feed_lives=False, relay_lives=False)
    bench.truth.go_away(TruthState.DOWN)

    try:
        answers = await bench.read(A)
    except TruthAwayError:
        answers = {}

    assert bool(answers) is is_answered


async def test_other_errors_are_raised_when_something_could_be_answered() -> None:
    """Only the truth's silence is bridged; what else goes wrong is shown."""
    bench = Bench()
    await bench.read(A)
    bench.pass_time(FRESH_SECONDS)
    bench.truth.error = ValueError("bug")

    with pytest.raises(ValueError, match="bug"):
        await bench.read(A)

    assert bench.outcomes()[-1] is LookupOutcome.MISS
