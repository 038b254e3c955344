"""How many changes the tier has not seen: told to operators, bounded in memory."""

from zpmeow.cache.pending_changes import PendingChanges


class FakeClock:
    """Milliseconds that are moved by hand."""

    def __init__(self) -> None:
        """Start a second after 1970."""
        self.now_ms = 1_000

    def __call__(self) -> int:
        """Return the time."""
        return self.now_ms


def test_changes_are_pending_when_the_position_is_older() -> None:
    """What came after the position is counted, what came before or with it is not."""
    clock = FakeClock()
    pending = PendingChanges(now_ms=clock)
    for clock.now_ms in (1_000, 2_000, 3_000):
        pending.note(clock.now_ms // 1_000)

    counts = [pending.later_than(at_ms) for at_ms in (999, 1_000, 1_999, 2_500, 3_000)]

    assert counts == [6, 5, 5, 3, 0]


def test_all_changes_are_pending_when_there_is_no_position() -> None:
    """An empty tier has seen nothing; asking forgets nothing."""
    clock = FakeClock()
    pending = PendingChanges(now_ms=clock)
    before = pending.later_than(None)
    pending.note(2)
    clock.now_ms += 1_000
    pending.note(3)

    counts = [pending.later_than(None), pending.later_than(None)]

    assert (before, counts) == (0, [5, 5])


def test_changes_are_counted_together_when_they_come_within_a_step() -> None:
    """A burst takes one place, and none of it is lost from the count."""
    clock = FakeClock()
    pending = PendingChanges(now_ms=clock)

    for clock.now_ms in (1_000, 1_050, 1_099, 1_100):
        pending.note(1)

    assert pending.later_than(999) == 4
    assert pending.later_than(1_000) == 1


def test_changes_are_all_counted_when_an_outage_is_longer_than_steps_are_kept() -> None:
    """What is too old for a place of its own is counted with the oldest that has one."""
    clock = FakeClock()
    pending = PendingChanges(now_ms=clock)

    for _ in range(40_000):
        pending.note(1)
        clock.now_ms += 100

    assert pending.later_than(0) == 40_000
    assert pending.later_than(1_000) == 40_000
    assert pending.later_than(clock.now_ms) == 0
