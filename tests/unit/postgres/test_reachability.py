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


def test_database_is_down_when_a_call_said_so_and_until_it_answers() -> None:
    """Nobody listens at its address: then nobody can change anything. Any answer ends that."""
    reachability = Reachability(observer=lambda _event: None)
    told = [reachability.is_down]

    reachability.failed(reachability.begin(), "connection refused", is_down=True)
    told.append(reachability.is_down)
    reachability.answered()
    told.append(reachability.is_down)

    assert told == [False, True, False]


def test_database_is_not_down_when_the_newest_failure_does_not_say_so() -> None:
    """A refusal, then a silence: somebody may listen again, and answer others. It is told once all the same."""
    events: list[Event] = []
    reachability = Reachability(observer=events.append)

    reachability.failed(reachability.begin(), "connection refused", is_down=True)
    reachability.failed(reachability.begin(), "no answer within 5 s")

    assert not reachability.is_down
    assert events == [DatabaseReachabilityChanged("connection refused")]


def test_database_is_not_down_when_others_were_answered_since_that_call_began() -> None:
    """A refusal that is overtaken by an answer proves nothing."""
    reachability = Reachability(observer=lambda _event: None)

    began = reachability.begin()
    reachability.answered()
    reachability.failed(began, "connection refused", is_down=True)

    assert not reachability.is_down
