"""Every scenario keeps its limits."""

import importlib
import os
import random

import pytest

from deploy.chaos import scenarios
from deploy.chaos.harness.experiment import run
from deploy.chaos.harness.outcome import BrokenOff, Outcome
from deploy.chaos.harness.scenario import Scenario
from deploy.chaos.harness.verdict import problems, time_problems
from tests.coherence.interruptible import run_interruptible
from tests.servers.postgres_server import PostgresInstallation

QUICK = {"redis_killed", "redis_garbage", "service_stopped"}


@pytest.mark.chaos
@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=[pytest.mark.quick] if name in QUICK else []) for name in scenarios.scenario_names()],
)
def test_limits_are_kept(
    name: str,
    postgres_installation: PostgresInstallation,
    outcomes: list[Outcome | BrokenOff],
    pytestconfig: pytest.Config,
) -> None:
    """Steady state, fault, recovery, steady state: nothing fails without a cause, and nothing is old.

    ZPMEOW_CHAOS_SEED reproduces the choices of the load.
    """
    scenario: Scenario = importlib.import_module(f"{scenarios.__name__}.{name}").SCENARIO
    seed = int(os.environ.get("ZPMEOW_CHAOS_SEED") or random.SystemRandom().randrange(10**6))
    try:
        outcome = run_interruptible(run(name, scenario, installation=postgres_installation, seed=seed))
    except Exception as error:
        outcomes.append(BrokenOff(name=name, scenario=scenario, reason=repr(error)))
        raise
    outcomes.append(outcome)

    found = problems(outcome)
    slow = time_problems(outcome)
    print(f"seed {seed}", *slow, sep="\n")  # noqa: T201  (for the reader of the run)
    if not pytestconfig.getoption("tell_times"):
        found += slow
    assert not found, f"seed {seed}: {found}"
