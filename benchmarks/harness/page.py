"""What a part hands back, and the page of all parts."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from benchmarks.harness.rounds import Spread


@dataclass(slots=True, frozen=True, kw_only=True)
class Row:
    """One line of what must be: the figure, and whether it is."""

    what: str
    must: str
    found: Spread
    is_met: bool

    def cells(self) -> str:
        """Return it as a line of a table."""
        verdict = "met" if self.is_met else "**missed**"
        return f"| {self.what} | {self.must} | {self.found.text(digits=2)} | {verdict} |"


@dataclass(slots=True, frozen=True, kw_only=True)
class Section:
    """What one part has found: rows for the table at the top of the page, and a text of its own."""

    title: str
    rows: Sequence[Row] = ()
    lines: Sequence[str] = field(default_factory=tuple)


def at_least(what: str, least: float, found: Spread) -> Row:
    """Make a row for a figure that must not be smaller."""
    return Row(what=what, must=f"≥ {least:g}", found=found, is_met=found.median >= least)


def at_most(what: str, most: float, found: Spread) -> Row:
    """Make a row for a figure that must not be larger."""
    return Row(what=what, must=f"≤ {most:g}", found=found, is_met=found.median <= most)


def markdown(sections: Sequence[Section], *, described: Sequence[str]) -> str:
    """Return the page."""
    lines = ["# Benchmarks: what was measured", "", *described, ""]
    rows = [row for section in sections for row in section.rows]
    if rows:
        lines += ["| what | must be | median (least to largest) | |", "| --- | --- | --- | --- |"]
        lines += [row.cells() for row in rows]
    for section in sections:
        lines += ["", f"## {section.title}", "", *section.lines]
    return "\n".join(lines) + "\n"
