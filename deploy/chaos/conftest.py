"""Runs of scenarios leave their outcomes here; the session ends in their table.

With `--tell-times` what took too long is told and fails nothing: for runs on machines that do other work, too.
"""

from pathlib import Path

import pytest

from deploy.chaos.harness.outcome import BrokenOff, Outcome
from deploy.chaos.harness.results import markdown, table
from deploy.chaos.scenarios import scenario_names
from tests.conftest import postgres_installation

__all__ = ["outcomes", "postgres_installation"]

RESULTS = Path(__file__).with_name("RESULTS.md")
_COMMAND = "make chaos"
_OUTCOMES = pytest.StashKey[list[Outcome | BrokenOff]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Take the option."""
    parser.addoption("--tell-times", action="store_true", help="only tell what took too long")


def pytest_configure(config: pytest.Config) -> None:
    """Know the markers."""
    config.addinivalue_line("markers", "chaos: a fault scenario with whole services (make chaos)")
    config.addinivalue_line("markers", "quick: a scenario that `make test` runs, too")
    config.stash[_OUTCOMES] = []


@pytest.fixture(scope="session")
def outcomes(pytestconfig: pytest.Config) -> list[Outcome | BrokenOff]:
    """Where outcomes are left."""
    return pytestconfig.stash[_OUTCOMES]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Show the table; keep the page if it is about all scenarios."""
    found = config.stash[_OUTCOMES]
    if not found:
        return
    terminalreporter.section("chaos")
    for line in table(found):
        terminalreporter.write_line(line)
    if {outcome.name for outcome in found} == set(scenario_names()):
        RESULTS.write_text(markdown(found, command=_COMMAND), encoding="utf-8")
        terminalreporter.write_line(f"written: {RESULTS}")
