"""When the database counts as gone, and how often that is told."""

from zpmeow.events import DatabaseReachabilityChanged, Event
from zpmeow.postgres.reachability import Reachability


def test_a_change_is_told_once_when_many_calls_find_out() -> None:
    """One event for the going, one for the coming, however many calls fail in between."""
    events: list[Event] = []
    reachability = Reachability(observer=events.append)
    began = [reachability.begin() for _ in range(5)]

    for each in began:
        reachability.failed(each, "gone")
    problems = [reachability.problem]
    reachability.answered()
    reachability.answered()
    problems.append(reachability.problem)

    assert problems == ["gone", None]
    assert events == [DatabaseReachabilityChanged("gone"), DatabaseReachabilityChanged(None)]


def test_nothing_is_told_when_a_call_failed_while_another_was_answered() -> None:
    """A query that waits for a lock until its time is over does not prove that the database is gone."""
    events: list[Event] = []
    reachability = Reachability(observer=events.append)

    began = reachability.begin()
    reachability.answered()
    reachability.failed(began, "no answer within 5 s")

    assert reachability.problem is None
    assert events == []
