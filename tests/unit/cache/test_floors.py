"""Floors: what is known to be outdated is refused, for as long as it matters."""

from zpmeow.cache.floors import Floors


class FakeTime:
    """A monotonic clock that is moved by hand."""

    def __init__(self) -> None:
        """Start at zero."""
        self.now = 0.0

    def __call__(self) -> float:
        """Return the time."""
        return self.now


def test_versions_below_the_floor_are_refused() -> None:
    """Older than known is not good enough, the same is."""
    floors = Floors(monotonic=FakeTime())

    floors.raise_to("a", 7)

    assert not floors.allows("a", 6)
    assert floors.allows("a", 7)
    assert floors.allows("b", 1)


def test_floor_never_sinks() -> None:
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


def test_floors_overflow_until_the_dropped_one_has_aged() -> None:
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


def test_aged_floors_make_room() -> None:
    """What has aged does not count against the bound."""
    time = FakeTime()
    floors = Floors(max_floors=2, keep_seconds=30, monotonic=time)
    floors.raise_to("a", 1)
    floors.raise_to("b", 2)

    time.now = 31.0
    floors.raise_to("c", 3)

    assert not floors.overflown
