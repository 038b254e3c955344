"""Floors: what is known to be outdated is refused, for as long as it matters."""

from hypothesis import given
from hypothesis import strategies as st

from zpmeow.cache.floors import Floors


class FakeTime:
    """A monotonic clock that is moved by hand."""

    def __init__(self) -> None:
        """Start at zero."""
        self.now = 0.0

    def __call__(self) -> float:
        """Return the time."""
        return self.now


def test_versions_are_refused_when_they_are_below_the_floor() -> None:
    """Older than known is not good enough, the same is."""
    floors = Floors(monotonic=FakeTime())

    floors.raise_to("a", 7)

    assert not floors.allows("a", 6)
    assert floors.allows("a", 7)
    assert floors.allows("b", 1)


def test_floor_stays_when_an_older_version_is_reported() -> None:
    """A late report of an older write changes nothing."""
    floors = Floors(monotonic=FakeTime())
    floors.raise_to("a", 7)

    floors.raise_to("a", 3)

    assert not floors.allows("a", 6)


def test_floor_is_forgotten_when_it_has_aged() -> None:
    """After its time no load can be that old any more."""
    time = FakeTime()
    floors = Floors(keep_seconds=30, monotonic=time)
    floors.raise_to("a", 7)

    time.now = 30.0

    assert floors.allows("a", 6)


def test_floors_are_overflown_until_the_dropped_one_has_aged_when_there_are_too_many() -> None:
    """Too many floors mean distrust, and distrust ends."""
    time = FakeTime()
    floors = Floors(max_floors=2, keep_seconds=30, monotonic=time)
    floors.raise_to("a", 1)
    time.now = 10.0
    floors.raise_to("b", 2)
    assert not floors.overflown

    floors.raise_to("c", 3)

    overflown_at = {}
    for time.now in (10.0, 29.9, 30.0):
        overflown_at[time.now] = floors.overflown
    assert overflown_at == {10.0: True, 29.9: True, 30.0: False}
    assert not floors.allows("c", 2)


def test_floors_are_not_overflown_when_the_oldest_have_aged() -> None:
    """What has aged does not count against the bound."""
    time = FakeTime()
    floors = Floors(max_floors=2, keep_seconds=30, monotonic=time)
    floors.raise_to("a", 1)
    floors.raise_to("b", 2)

    time.now = 31.0
    floors.raise_to("c", 3)

    assert not floors.overflown
    assert len(floors) == 1


def test_floor_is_kept_longer_when_it_is_raised_again() -> None:
    """Each report, a late one too, counts as a change at its time."""
    time = FakeTime()
    floors = Floors(keep_seconds=30, monotonic=time)
    floors.raise_to("a", 7)
    time.now = 20.0
    floors.raise_to("a", 3)

    time.now = 49.9

    assert not floors.allows("a", 6)


def test_change_is_told_when_it_came_at_or_after_the_moment() -> None:
    """A change at the very moment counts: which came first is not known."""
    time = FakeTime()
    floors = Floors(monotonic=time)
    time.now = 5.0
    floors.raise_to("a", 7)

    assert [floors.raised_since("a", moment) for moment in (4.9, 5.0, 5.1)] == [True, True, False]
    assert not floors.raised_since("b", 0.0)


def test_change_is_told_when_an_older_version_is_reported_late() -> None:
    """Versions do not matter for what is absent: any word of the key may mean that it was made."""
    time = FakeTime()
    floors = Floors(monotonic=time)
    floors.raise_to("a", 7)

    time.now = 5.0
    floors.raise_to("a", 3)

    assert floors.raised_since("a", 5.0)


@given(
    changes=st.lists(
        st.tuples(st.sampled_from("abcdefgh"), st.integers(1, 50), st.integers(0, 15)), min_size=1, max_size=40
    )
)
def test_floors_refuse_what_is_older_or_are_overflown_whatever_came(changes: list[tuple[str, int, int]]) -> None:
    """No change of the last thirty seconds is forgotten in silence, and the bound holds."""
    time = FakeTime()
    floors = Floors(max_floors=4, keep_seconds=30, monotonic=time)
    told: list[tuple[str, int, float]] = []

    for key, version, passed in changes:
        time.now += passed
        floors.raise_to(key, version)
        told.append((key, version, time.now))

        assert len(floors) <= 4
        recent = [change for change in told if time.now < change[2] + 30]
        assert floors.overflown or not any(floors.allows(key, version - 1) for key, version, _ in recent)
