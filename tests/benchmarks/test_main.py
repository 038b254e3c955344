"""The command line."""

import sys

import pytest

from benchmarks import __main__ as command
from benchmarks.harness.page import Section


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
