"""Judges what was read by what was written, and keeps the first violations with all that is needed to understand them.

    shown value ── written at all? ── overtaken? ── by a write of the same process? ──→ violation, whatever happened
                                          └── how long ago, with which faults on? ── beyond the bound? ──→ violation

The bounds: 100 ms in the normal state, the local TTL while a fault was on at any time between the acknowledgement of
the overtaking write and the end of the read. In the normal state an answer may be late because this machine stood
still: a stall of at least half the delay, measured independently, excuses it.
"""

from collections import Counter
from dataclasses import dataclass, field
from enum import StrEnum

from tests.coherence.history import Register, Value, Write
from tests.coherence.timeline import CHECKER, DATABASE, Timeline

NORMAL_SECONDS = 0.1
LOCAL_TTL_SECONDS = 5.0
_EXCUSING_SHARE = 0.5
_KEPT = 20
_KEPT_OF_A_KIND = 5


class Finding(StrEnum):
    """What can be wrong with an answer."""

    NEVER_WRITTEN = "never written"
    OWN_WRITE_MISSING = "older than a write that the same process acknowledged"
    LATE = "older than 100 ms in the normal state"
    TOO_OLD = "older than the local TTL"
    REFUSED = "refused without a cause"
    STALE = "marked as stale without a cause"
    LOST = "connection lost without a cause"
    UNANSWERED = "not answered in time"
    STRANGE = "an answer that fits no rule"
    REDIS_DIFFERS = "after quiet, Redis differs from the database"
    DATABASE_DIFFERS = "after quiet, an answer differs from the database"


OLD = frozenset(
    {
        Finding.NEVER_WRITTEN,
        Finding.OWN_WRITE_MISSING,
        Finding.LATE,
        Finding.TOO_OLD,
        Finding.REDIS_DIFFERS,
        Finding.DATABASE_DIFFERS,
    }
)
"""What tells of old or wrong values; the others tell of a service that does not answer as it should."""


@dataclass(slots=True, frozen=True, kw_only=True)
class Reading:
    """One read: who was asked for what, when, and who answered."""

    process: str
    began_at: float
    ended_at: float
    request: str
    cache_status: str | None = None


@dataclass(slots=True, frozen=True, kw_only=True)
class Violation:
    """A broken rule; `details` names key, values, times and faults."""

    finding: Finding
    details: str

    def __str__(self) -> str:
        """Put it into one line."""
        return f"{self.finding}: {self.details}"


@dataclass(slots=True, kw_only=True)
class Tally:
    """What has been judged so far. Delays are in seconds, of values that had been overtaken when the read began."""

    values: int = 0
    violations: Counter[Finding] = field(default_factory=Counter)
    first_violations: list[Violation] = field(default_factory=list)
    excused: int = 0
    first_excused: list[str] = field(default_factory=list)
    delays_normal: list[float] = field(default_factory=list)
    delays_under_fault: list[float] = field(default_factory=list)


class Judge:
    """Holds reads against histories."""

    def __init__(self, *, timeline: Timeline, local_ttl_seconds: float = LOCAL_TTL_SECONDS) -> None:
        """Judge by these events and this local TTL."""
        self._timeline = timeline
        self._local_ttl_seconds = local_ttl_seconds
        self._causes: set[object] = set()
        self.tally = Tally()

    def shown(self, register: Register, value: Value, reading: Reading) -> None:
        """Judge that a read showed this value."""
        write = register.find(value)
        if write is None:
            self.report(Finding.NEVER_WRITTEN, reading, f"{register.name} is {value!r}")
        elif self._judge(register, f"{value}", write, reading):
            register.saw(value, at=reading.ended_at)

    def shown_stale(self, register: Register, value: Value, reading: Reading) -> None:
        """Judge that a read showed this value as one that may be old: somebody must have written it all the same."""
        if register.find(value) is None:
            self.report(Finding.NEVER_WRITTEN, reading, f"{register.name} is {value!r}, marked as stale")

    def shown_other(self, register: Register, value: Value, reading: Reading) -> None:
        """Judge that a read showed some value that is not this one."""
        write = register.find_other(value)
        if write is None:
            self.report(Finding.NEVER_WRITTEN, reading, f"{register.name} is anything but {value!r}")
        else:
            self._judge(register, f"not {value}", write, reading)

    def report(self, finding: Finding, reading: Reading, what: str, *, cause: object = None) -> None:
        """Count a violation, and keep it if it is one of the first of its kind, and the first of its cause."""
        tally = self.tally
        tally.violations[finding] += 1
        is_new = cause is None or (finding, cause) not in self._causes
        self._causes.add((finding, cause))
        kept_of_this_kind = sum(one.finding is finding for one in tally.first_violations)
        if is_new and len(tally.first_violations) < _KEPT and kept_of_this_kind < _KEPT_OF_A_KIND:
            faults = self._timeline.faults_on(reading.began_at, reading.ended_at)
            details = (
                f"{what}; {reading.request} of process {reading.process}, begun {reading.began_at:.4f},"
                f" ended {reading.ended_at:.4f}, Cache-Status {reading.cache_status}; faults: {faults or 'none'}"
            )
            tally.first_violations.append(Violation(finding=finding, details=details))

    def _judge(self, register: Register, shown: str, write: Write, reading: Reading) -> bool:
        """Judge the write whose value was shown; tell whether it was current."""
        self.tally.values += 1
        # What was acknowledged during the read may be shown or not.
        overtaking = [later for later in register.overtaking(write) if later.acknowledged_at <= reading.began_at]
        if not overtaking:
            return True
        delay = reading.began_at - overtaking[0].acknowledged_at
        under_fault = bool(self._timeline.faults_on(overtaking[0].acknowledged_at, reading.ended_at))
        (self.tally.delays_under_fault if under_fault else self.tally.delays_normal).append(delay)
        for later in overtaking:
            # A later one may have found its effect already there, and then the process has learned nothing by it.
            is_own = later.by == reading.process and (later is overtaking[0] or not register.may_be_idle(later))
            finding = self._judge_against(later, reading, is_own=is_own)
            if finding is None:
                continue
            ago = (reading.began_at - later.acknowledged_at) * 1000
            what = f"{register.name} is {shown}, {ago:.1f} ms after the acknowledgement of {later}; it was {write}"
            if finding is Finding.LATE and self._is_excused(later, what, reading):
                continue
            self.report(finding, reading, what, cause=(register.name, later))
            break
        return False

    def _judge_against(self, later: Write, reading: Reading, *, is_own: bool) -> Finding | None:
        """Judge that a read did not show this write, nor a later one."""
        delay = reading.began_at - later.acknowledged_at
        if is_own and not self._timeline.was_killed_since(later.by, later.acknowledged_at):
            return Finding.OWN_WRITE_MISSING
        if delay > self._local_ttl_seconds:
            return Finding.TOO_OLD
        if delay > NORMAL_SECONDS and not self._timeline.faults_on(later.acknowledged_at, reading.ended_at):
            return Finding.LATE
        return None

    def _is_excused(self, later: Write, what: str, reading: Reading) -> bool:
        # A process that neither wrote nor was asked has nothing to do with it.
        involved = {CHECKER, DATABASE, reading.process, later.by}
        stall, seconds = self._timeline.longest_stall(involved, later.acknowledged_at, reading.ended_at)
        if seconds < _EXCUSING_SHARE * (reading.began_at - later.acknowledged_at):
            return False
        self.tally.excused += 1
        if len(self.tally.first_excused) < _KEPT:
            self.tally.first_excused.append(f"{what}; {reading.request} of process {reading.process}; stall: {stall}")
        return True
