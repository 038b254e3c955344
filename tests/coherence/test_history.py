"""Histories and the judge: what may be read when, told without any server."""

import math

import pytest

from tests.coherence.history import ANYTHING, UNKNOWN_SECONDS, Register, Write
from tests.coherence.judge import Finding, Judge, Reading
from tests.coherence.timeline import CHECKER, DATABASE, Timeline


@pytest.fixture
def timeline() -> Timeline:
    """Nothing has happened besides reads and writes."""
    return Timeline()


@pytest.fixture
def judge(timeline: Timeline) -> Judge:
    """A judge with a local TTL of 5 s."""
    return Judge(timeline=timeline, local_ttl_seconds=5.0)


@pytest.fixture
def register() -> Register:
    """A value that was "1" before time 0."""
    return Register("value", initial="1")


def write(register: Register, value: str | None, *, sent: float, acknowledged: float, by: str = "A") -> Write:
    """Write and acknowledge."""
    begun = register.begin(value, at=sent, by=by)
    register.acknowledge(begun, at=acknowledged)
    return begun


def read_at(began: float, *, process: str = "B", seconds: float = 0.001) -> Reading:
    """Make a read that began then."""
    return Reading(process=process, began_at=began, ended_at=began + seconds, request="a read")


def findings(judge: Judge) -> dict[Finding, int]:
    """Return what was found."""
    return {finding: count for finding, count in judge.tally.violations.items() if count}


def test_old_value_passes_when_the_new_one_is_younger_than_the_bound(judge: Judge, register: Register) -> None:
    """Another process has 100 ms to hear of a write."""
    write(register, "2", sent=10.0, acknowledged=10.1)

    judge.shown(register, "1", read_at(10.19))

    assert findings(judge) == {}
    assert judge.tally.delays_normal == [pytest.approx(0.09)]


def test_old_value_is_late_when_the_bound_of_the_normal_state_has_passed(judge: Judge, register: Register) -> None:
    """Beyond 100 ms an old answer is a violation, with all that explains it."""
    write(register, "2", sent=10.0, acknowledged=10.1)

    judge.shown(register, "1", read_at(10.3))

    assert findings(judge) == {Finding.LATE: 1}
    (violation,) = judge.tally.first_violations
    for part in ("value is 1", "200.0 ms", "of 2 (by A", "process B", "begun 10.3000", "faults: none"):
        assert part in str(violation)


def test_old_value_passes_when_a_fault_was_on_since_the_write(
    judge: Judge, register: Register, timeline: Timeline
) -> None:
    """While a fault is on, and for 5 s after it, the local TTL is the bound."""
    timeline.begin_fault("redis_flushed", at=5.0).end = 5.2
    write(register, "2", sent=10.0, acknowledged=10.1)

    judge.shown(register, "1", read_at(12.0))

    assert findings(judge) == {}
    assert judge.tally.delays_under_fault == [pytest.approx(1.9)]


def test_old_value_is_late_when_the_fault_had_settled_before_a_later_write(
    judge: Judge, register: Register, timeline: Timeline
) -> None:
    """Of several writes that a read did not show, each is judged by its own time."""
    timeline.begin_fault("redis_flushed", at=5.0).end = 5.0
    write(register, "2", sent=9.0, acknowledged=9.5)
    write(register, "3", sent=10.5, acknowledged=10.6)

    judge.shown(register, "1", read_at(11.0))

    assert findings(judge) == {Finding.LATE: 1}


def test_old_value_is_too_old_when_even_the_local_ttl_has_passed(
    judge: Judge, register: Register, timeline: Timeline
) -> None:
    """No fault allows more than the local TTL."""
    timeline.begin_fault("redis_paused", at=5.0)
    write(register, "2", sent=10.0, acknowledged=10.1)

    judge.shown(register, "1", read_at(15.2))

    assert findings(judge) == {Finding.TOO_OLD: 1}


@pytest.mark.parametrize(("stalled_until", "found"), [(10.21, {}), (10.15, {Finding.LATE: 1})])
def test_late_answer_is_excused_only_when_a_stall_took_half_of_the_delay(
    judge: Judge, register: Register, timeline: Timeline, stalled_until: float, found: dict[Finding, int]
) -> None:
    """What this machine did not run cannot have been told of a write."""
    timeline.note_stall(CHECKER, 10.1, stalled_until)
    write(register, "2", sent=10.0, acknowledged=10.1)

    judge.shown(register, "1", read_at(10.3))

    assert findings(judge) == found
    assert judge.tally.excused == (not found)


def test_late_answer_is_not_excused_when_another_process_stalled(
    judge: Judge, register: Register, timeline: Timeline
) -> None:
    """Who neither wrote nor was asked has nothing to do with it."""
    timeline.note_stall("C", 10.1, 10.3)
    write(register, "2", sent=10.0, acknowledged=10.1)

    judge.shown(register, "1", read_at(10.3))

    assert findings(judge) == {Finding.LATE: 1}


def test_own_write_is_missing_when_the_same_process_shows_an_older_value(
    judge: Judge, register: Register, timeline: Timeline
) -> None:
    """A process shows at once what it acknowledged, whatever else is wrong."""
    timeline.begin_fault("redis_paused", at=5.0)
    write(register, "2", sent=10.0, acknowledged=10.1)

    judge.shown(register, "1", read_at(10.1001, process="A"))

    assert findings(judge) == {Finding.OWN_WRITE_MISSING: 1}


def test_own_write_counts_as_foreign_when_the_process_was_killed_since(
    judge: Judge, register: Register, timeline: Timeline
) -> None:
    """A new process knows no more than any other."""
    write(register, "2", sent=10.0, acknowledged=10.1)
    timeline.note_kill("A", at=10.12)

    judge.shown(register, "1", read_at(10.15, process="A"))

    assert findings(judge) == {}


def test_own_removal_counts_as_foreign_when_another_process_had_removed_before(
    judge: Judge, register: Register
) -> None:
    """Who removes what is gone already learns nothing of what was there."""
    write(register, None, sent=10.0, acknowledged=10.01, by="B")
    write(register, None, sent=10.02, acknowledged=10.03, by="A")

    judge.shown(register, "1", read_at(10.05, process="A"))

    assert findings(judge) == {}


def test_either_value_passes_when_two_writes_overlapped(judge: Judge, register: Register) -> None:
    """Of writes whose times overlap nobody knows which was the last."""
    write(register, "2", sent=10.0, acknowledged=10.2)
    write(register, "3", sent=10.1, acknowledged=10.3)

    judge.shown(register, "2", read_at(19.0))
    judge.shown(register, "3", read_at(19.0))

    assert findings(judge) == {}


def test_value_was_never_written_when_its_number_is_in_no_history(judge: Judge, register: Register) -> None:
    """What was rolled back, or belongs to another session, must not be shown."""
    judge.shown(register, "7", read_at(10.0))

    assert findings(judge) == {Finding.NEVER_WRITTEN: 1}


def test_value_was_never_written_when_its_write_was_refused(judge: Judge, register: Register) -> None:
    """A refusal means that nothing happened."""
    register.refuse(register.begin("2", at=10.0, by="A"))

    judge.shown(register, "2", read_at(11.0))

    assert findings(judge) == {Finding.NEVER_WRITTEN: 1}


def test_value_passes_when_its_write_is_under_way(judge: Judge, register: Register) -> None:
    """A write may be seen before its caller is told."""
    register.begin("2", at=10.0, by="A")

    judge.shown(register, "2", read_at(10.001))

    assert findings(judge) == {}


def test_both_values_pass_when_the_outcome_of_a_write_is_unknown(judge: Judge, register: Register) -> None:
    """Until it was seen, a write of unknown outcome may have happened or not."""
    register.give_up(register.begin("2", at=10.0, by="A"), at=10.5)

    judge.shown(register, "1", read_at(30.0))
    judge.shown(register, "2", read_at(31.0))

    assert findings(judge) == {}


def test_older_value_is_late_when_a_write_of_unknown_outcome_was_seen(judge: Judge, register: Register) -> None:
    """Whoever was shown a value knows that it was committed."""
    register.give_up(register.begin("2", at=10.0, by="A"), at=10.5)
    judge.shown(register, "2", read_at(11.0))

    judge.shown(register, "1", read_at(11.2, process="A"))

    assert findings(judge) == {Finding.LATE: 1}


@pytest.mark.parametrize(
    ("sent", "found"),
    [(10.5 + UNKNOWN_SECONDS - 0.1, {}), (10.5 + UNKNOWN_SECONDS, {Finding.TOO_OLD: 1})],
)
def test_write_of_unknown_outcome_is_overtaken_only_when_nothing_of_it_can_be_under_way(
    judge: Judge, register: Register, sent: float, found: dict[Finding, int]
) -> None:
    """It may still happen for a while, after writes that were sent later."""
    register.give_up(register.begin("2", at=10.0, by="A"), at=10.5)
    write(register, "3", sent=sent, acknowledged=sent + 0.1)

    judge.shown(register, "2", read_at(sent + 9.0))

    assert findings(judge) == found


def test_any_value_passes_when_a_write_of_a_value_not_yet_known_is_under_way(judge: Judge) -> None:
    """The id of a new session can be read under its name before its maker is told."""
    name = Register("name", initial=None)
    making = name.begin(ANYTHING, at=10.0, by="A")

    judge.shown(name, "an id", read_at(10.01))
    name.acknowledge(making, at=10.02, value="the id")
    judge.shown(name, "another id", read_at(10.03))
    judge.shown(name, "the id", read_at(10.03))

    assert findings(judge) == {Finding.NEVER_WRITTEN: 1}


def test_value_that_came_back_is_judged_by_its_last_write_when_it_was_written_twice(
    judge: Judge, register: Register
) -> None:
    """A name that was given back is no old answer."""
    write(register, "2", sent=10.0, acknowledged=10.1)
    write(register, "1", sent=11.0, acknowledged=11.1)

    judge.shown(register, "1", read_at(19.0))

    assert findings(judge) == {}


def test_other_value_is_judged_by_the_last_one_when_only_what_is_not_there_was_shown(
    judge: Judge, register: Register
) -> None:
    """A refusal that says "not this name" is old when the name had been given long before."""
    write(register, "2", sent=10.0, acknowledged=10.1)

    judge.shown_other(register, "1", read_at(11.0))
    judge.shown_other(register, "2", read_at(11.0))

    assert findings(judge) == {Finding.LATE: 1}


def test_violations_of_one_cause_are_kept_once_when_many_reads_show_them(judge: Judge, register: Register) -> None:
    """The report shows different things; the counts tell how often."""
    write(register, "2", sent=10.0, acknowledged=10.1)

    for number in range(50):
        judge.shown(register, "1", read_at(10.3 + number / 1000))

    assert findings(judge) == {Finding.LATE: 50}
    assert len(judge.tally.first_violations) == 1


def test_absence_lasts_a_moment_when_it_has_ended(timeline: Timeline) -> None:
    """What was asked while the database was away may be refused much later, what is asked afterwards soon no more."""
    span = timeline.begin_absence(DATABASE, at=10.0)
    assert span.end == math.inf
    span.end = 11.0

    assert timeline.may_refuse("A", 10.5, 17.0)
    assert timeline.may_refuse("A", 12.9, 13.0)
    assert not timeline.may_refuse("A", 13.1, 13.2)
    assert not timeline.is_absent(DATABASE, 11.1, 11.2)
    assert timeline.returned_seconds("A", 9.0, 9.5) == math.inf
    assert timeline.returned_seconds("A", 10.5, 17.0) == 0.0
    assert timeline.returned_seconds("A", 13.0, 13.5) == 2.0


def test_absence_of_a_process_is_no_excuse_for_another(timeline: Timeline) -> None:
    """A process that is killed lets only its own callers down."""
    timeline.begin_absence("A", at=10.0)

    assert timeline.may_refuse("A", 10.5, 10.6)
    assert not timeline.may_refuse("B", 10.5, 10.6)
    assert timeline.returned_seconds("B", 10.5, 10.6) == math.inf


def test_who_goes_away_under_a_request_was_not_back_any_more(timeline: Timeline) -> None:
    """A request that a process dies under was sent to one that had been back for long, and still is no late refusal."""
    timeline.begin_absence("A", at=10.0).end = 11.0
    timeline.begin_absence("A", at=14.0).end = 15.0

    assert timeline.returned_seconds("A", 13.7, 13.9) == pytest.approx(2.7)
    assert timeline.returned_seconds("A", 13.9, 14.1) == 0.0


def test_stale_value_is_a_violation_when_nobody_ever_wrote_it(timeline: Timeline, judge: Judge) -> None:
    """It may be as old as it likes, but not another's."""
    register = Register("the status of x", initial="0")
    write(register, "1", sent=1.0, acknowledged=1.1)
    write(register, "2", sent=2.0, acknowledged=2.1)

    judge.shown_stale(register, "0", read_at(50.0))
    assert findings(judge) == {}
    judge.shown_stale(register, "9", read_at(50.0))

    assert findings(judge) == {Finding.NEVER_WRITTEN: 1}
