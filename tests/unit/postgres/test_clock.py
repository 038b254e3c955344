"""The database's time, carried forward."""

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from zpmeow.domain.ports import ControlState
from zpmeow.postgres.clock import DatabaseClock

NOON = datetime(2026, 1, 1, 12, 0, tzinfo=UTC)


class Times:
    """Both clocks of a machine, moved by hand; its wall clock is an hour behind the database's."""

    def __init__(self) -> None:
        """Begin at zero."""
        self.monotonic = 0.0

    def clock(self) -> DatabaseClock:
        """Make the clock under test."""
        return DatabaseClock(
            monotonic=lambda: self.monotonic,
            wall_clock=lambda: NOON - timedelta(hours=1) + timedelta(seconds=self.monotonic),
        )


def sample(read_at: datetime) -> ControlState:
    """Make what a reading of the shared settings brings."""
    return ControlState(mode="normal", epoch=bytes(16), read_at=read_at)


def test_now_is_the_machines_time_when_the_database_was_never_asked() -> None:
    """Before the first sample there is nothing better than the wall clock."""
    times = Times()

    assert times.clock().now() == NOON - timedelta(hours=1)


def test_now_goes_on_when_the_database_was_asked_once() -> None:
    """A sample is carried forward by the monotonic clock, whatever the wall clock says."""
    times = Times()
    clock = times.clock()
    clock.synchronise(sample(NOON), 0.0, 0.0)

    times.monotonic = 90.0

    assert clock.now() == NOON + timedelta(seconds=90)


def test_now_is_never_behind_the_database_when_the_answer_took_long() -> None:
    """The time was read at some moment between question and answer: the clock takes the end that is not behind."""
    times = Times()
    clock = times.clock()

    times.monotonic = 3.0
    clock.synchronise(sample(NOON), 1.0, 3.0)

    assert clock.now() == NOON + timedelta(seconds=2)


def test_now_gets_nearer_when_a_later_answer_was_quicker() -> None:
    """A quick sample narrows what a slow one left open; a slow one after it takes nothing away."""
    times = Times()
    clock = times.clock()
    clock.synchronise(sample(NOON), 0.0, 2.0)
    clock.synchronise(sample(NOON + timedelta(seconds=9)), 10.0, 10.0)

    times.monotonic = 20.0
    clock.synchronise(sample(NOON + timedelta(seconds=18.5)), 18.0, 20.0)

    assert clock.now() == NOON + timedelta(seconds=19)


def test_now_stands_still_when_the_database_turns_out_to_be_behind() -> None:
    """After a failover to a server whose clock is behind, time does not go back: it waits until that has caught up."""
    times = Times()
    clock = times.clock()
    clock.synchronise(sample(NOON), 0.0, 0.0)
    seen = [clock.now()]

    clock.synchronise(sample(NOON - timedelta(seconds=5)), 0.0, 0.0)
    for times.monotonic in (1.0, 4.0, 6.0):
        seen.append(clock.now())

    assert seen == [NOON, NOON, NOON, NOON + timedelta(seconds=1)]


def test_now_jumps_when_the_database_turns_out_to_be_ahead() -> None:
    """What has expired by the database's clock has expired here."""
    times = Times()
    clock = times.clock()
    clock.synchronise(sample(NOON), 0.0, 0.0)

    clock.synchronise(sample(NOON + timedelta(seconds=5)), 0.0, 0.0)

    assert clock.now() == NOON + timedelta(seconds=5)


@given(st.lists(st.tuples(st.floats(0, 30), st.floats(0, 5), st.floats(-20, 20)), max_size=10))
def test_milliseconds_are_those_of_now_whatever_the_samples_say(samples: list[tuple[float, float, float]]) -> None:
    """Both tell the same time, before the first sample and after any, and neither goes back."""
    times = Times()
    clock = times.clock()
    last = 0
    for number, (pause, latency, drift) in enumerate([(0.0, 0.0, 0.0), *samples]):
        first = clock.now().timestamp() * 1000
        # Not each time: what is asked seldom must know what the other one has said.
        second = clock.now_ms() if number % 3 == 2 else last
        assert second >= last - 1
        assert number % 3 != 2 or abs(first - second) <= 1
        last = int(first)
        asked_at = times.monotonic = times.monotonic + pause
        times.monotonic += latency
        clock.synchronise(sample(NOON + timedelta(seconds=asked_at + drift)), asked_at, times.monotonic)
