"""The schedule of faults."""

from itertools import islice

import pytest

from tests.coherence.faults import KINDS
from tests.coherence.schedule import Round, make_schedule
from tests.coherence.timeline import SETTLING_SECONDS


def first_cycle(seed: int) -> list[Round]:
    """Return the rounds up to the end of the first cycle."""
    rounds = []
    for planned in make_schedule(tuple(KINDS), seed=seed):
        rounds.append(planned)
        if planned.ends_cycle:
            break
    return rounds


@pytest.mark.parametrize("seed", range(20))
def test_every_kind_comes_once_when_a_cycle_is_over(seed: int) -> None:
    """A run of one cycle misses no kind of fault."""
    kinds = [planned.kind for one in first_cycle(seed) for lane in one.lanes for planned in lane]

    assert sorted(kinds) == sorted(KINDS)


@pytest.mark.parametrize("seed", range(20))
def test_normal_state_comes_after_every_round_when_there_is_calm(seed: int) -> None:
    """The calm outlasts the settling of the last fault by a second and a half at least."""
    for planned in first_cycle(seed):
        assert planned.calm_seconds >= SETTLING_SECONDS + 1.5
        assert len(planned.lanes) == 2


def test_schedule_is_the_same_when_the_seed_is_and_another_when_it_is_not() -> None:
    """A seed reproduces a run's faults."""
    first, again, other = (list(islice(make_schedule(tuple(KINDS), seed=seed), 10)) for seed in (7, 7, 8))

    assert first == again
    assert first != other


def test_nothing_is_scheduled_when_there_are_no_kinds() -> None:
    """A run without faults has no rounds."""
    assert list(make_schedule((), seed=1)) == []
