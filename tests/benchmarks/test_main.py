"""The command line."""

import sys

import pytest

from benchmarks import __main__ as command
from benchmarks.harness.page import Section
from benchmarks.harness.wrk import LoadFailedError


def test_page_tells_how_things_stood_at_the_beginning(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Parts leave files that are tracked: the commit is named before the first of them has run."""
    happened: list[str] = []

    def describe(made_by: str) -> list[str]:
        happened.append(f"described {made_by}")
        return ["- a machine"]

    def measure(part: str) -> Section:
        happened.append(part)
        return Section(title=f"Of {part}")

    monkeypatch.setattr(sys, "argv", ["benchmarks", "layers", "trace"])
    monkeypatch.setattr(command, "describe", describe)
    monkeypatch.setattr(command, "versions", lambda: "- versions")
    monkeypatch.setattr(command, "_measure", measure)

    assert command.main() == 0

    assert happened == ['described make bench PARTS="layers trace"', "layers", "trace"]
    assert "- a machine\n- versions\n" in capsys.readouterr().out


def test_what_was_measured_is_told_when_a_later_part_breaks_off(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Half an hour of measuring is not lost for the last minute."""

    def measure(part: str) -> Section:
        if part == "layers":
            message = "the profiler is missing"
            raise LoadFailedError(message)
        return Section(title=f"Of {part}")

    monkeypatch.setattr(sys, "argv", ["benchmarks", "trace", "layers"])
    monkeypatch.setattr(command, "describe", lambda _made_by: ["- a machine"])
    monkeypatch.setattr(command, "versions", lambda: "- versions")
    monkeypatch.setattr(command, "_measure", measure)

    assert command.main() == 1

    told = capsys.readouterr().err
    assert "## Of trace" in told
    assert "the profiler is missing" in told
