"""What a run has found, as one Markdown page."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from tests.coherence.attempt import WriteCounts
from tests.coherence.audit import Audit
from tests.coherence.judge import Finding, Tally
from tests.coherence.reading import ReadCounts

MIN_READS = 20_000


@dataclass(slots=True, kw_only=True)
class Report:
    """The figures of one run.

    Attributes:
        faults: how often each kind came; a kind that was to come and did not is there with 0.
        impossible: how often a fault would have had no effect.
        audit: None if the run was ended before the quiet.
        sessions: how many sessions were made.
    """

    seed: int
    seconds: float
    reads: ReadCounts
    writes: WriteCounts
    tally: Tally
    faults: Mapping[str, int]
    impossible: Mapping[str, int]
    audit: Audit | None
    sessions: int
    stalls: Sequence[float] = field(default_factory=tuple)

    @property
    def missed(self) -> list[str]:
        """The kinds of faults that did not come."""
        return sorted(kind for kind, count in self.faults.items() if not count)

    @property
    def violations(self) -> int:
        """How many rules were broken."""
        return self.tally.violations.total()

    @property
    def problems(self) -> list[str]:
        """Why the run has failed; empty: it has not."""
        found = []
        if self.violations:
            found.append(f"{self.violations} violations")
        if self.missed:
            found.append(f"faults that never came: {', '.join(self.missed)}")
        if self.reads.answered < MIN_READS:
            found.append(f"only {self.reads.answered} reads, {MIN_READS} are the least")
        return found

    def markdown(self) -> str:
        """Return the page."""
        lines = [f"# Coherence, seed {self.seed}, {self.seconds:.0f} s", "", "| what | how many |", "| --- | --- |"]
        lines += [f"| {what} | {value} |" for what, value in self._rows()]
        for heading, found in (
            ("First violations", [str(violation) for violation in self.tally.first_violations]),
            ("First excused answers", self.tally.first_excused),
        ):
            if found:
                lines += ["", f"## {heading}", "", *(f"{number}. {text}" for number, text in enumerate(found, 1))]
        return "\n".join(lines) + "\n"

    def _rows(self) -> list[tuple[str, object]]:
        reads, writes, tally = self.reads, self.writes, self.tally
        rows: list[tuple[str, object]] = [
            ("reads", reads.answered),
            ("reads per second", f"{reads.answered / self.seconds:.0f}"),
            ("values judged", tally.values),
            ("reads cancelled", reads.cancelled),
            ("reads refused (503)", reads.refused),
            ("reads lost with their process", reads.lost),
            ("read latency p50 / p99 / p99.9, ms", _quantiles(reads.seconds)),
            ("old answers, normal state, delay p50 / p99 / p99.9, ms", _delays(tally.delays_normal)),
            ("old answers, under fault, delay p50 / p99 / p99.9, ms", _delays(tally.delays_under_fault)),
            ("late, excused by a stall", tally.excused),
            ("stalls above 20 ms, longest, ms", f"{len(self.stalls)}, {max(self.stalls, default=0) * 1000:.0f}"),
            ("sessions made", self.sessions),
        ]
        rows += [(f"answers: {status}", count) for status, count in sorted(reads.by_status.items())]
        rows += [(f"answers: {status}", count) for status, count in sorted(reads.by_cache_status.items())]
        for what, counts in (
            ("writes by HTTP", writes.done_by_http),
            ("writes by SQL", writes.done_by_sql),
            ("writes refused", writes.refused),
            ("writes rolled back", writes.rolled_back),
            ("writes of unknown outcome", writes.unknown),
        ):
            rows += [(f"{what}: {kind}", count) for kind, count in sorted(counts.items())]
        rows += [(f"fault: {kind}", count) for kind, count in sorted(self.faults.items())]
        rows += [(f"fault without effect: {kind}", count) for kind, count in sorted(self.impossible.items())]
        if self.audit is not None:
            audit = self.audit
            found = f"{audit.equal} / {audit.fences} / {audit.void} / {audit.others} / {len(audit.differences)}"
            rows.append(("keys in Redis after quiet: equal / fences / void / no entries / different", found))
        rows += [(f"violations: {finding}", tally.violations[finding]) for finding in Finding]
        return rows


def _delays(values: Sequence[float]) -> str:
    return f"{len(values)} answers, {_quantiles(values)}, max {max(values, default=0) * 1000:.1f}"


def _quantiles(values: Sequence[float]) -> str:
    ordered = sorted(values)
    if not ordered:
        return "none"
    picked = (ordered[min(len(ordered) - 1, int(share * len(ordered)))] * 1000 for share in (0.5, 0.99, 0.999))
    return " / ".join(f"{value:.1f}" for value in picked)
