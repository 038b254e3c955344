"""The checker itself: with a protection switched off it must find a violation, or it would miss one that breaks."""

from collections.abc import Mapping
from typing import Any

import pytest

from tests.coherence.judge import OLD, Finding
from tests.coherence.run import Scenario, run
from tests.coherence.saboteurs import SABOTEURS
from tests.servers.postgres_server import PostgresInstallation

SECONDS = 45.0
LATE = ("way_lossy",)
SET_BACK: Mapping[str, Any] = {
    "kinds": ("redis_set_back_far",),
    "seconds": 45.0,
    "writer_pause_seconds": 0.5,
    "outsider_pause_seconds": 0.5,
}
"""As long as processes remember what changed, and the relay brings it again, nobody has to doubt what Redis says. So it
is set back by more than they remember, and few things change again."""

SETTINGS: Mapping[str, Mapping[str, Any]] = {
    "version_check": {"kinds": LATE, "seconds": 12.0},
    "tombstone": {"kinds": LATE, "seconds": 12.0},
    "trust": SET_BACK,
}
"""Late commands are what the first two are for, and the audit at the end finds what they did. The others show at any
time."""


@pytest.mark.parametrize("protection", sorted(SABOTEURS))
def test_violation_is_found_when_a_protection_is_switched_off(
    protection: str, postgres_installation: PostgresInstallation
) -> None:
    """None of the protections is there for nothing, and the checker sees when one is gone."""
    scenario = Scenario(
        seed=1,
        foreign_seconds=0.0,
        sabotage=(protection,),
        is_calm=False,
        ends_at_first_violation=True,
        **{"seconds": SECONDS, **SETTINGS.get(protection, {})},
    )

    report = run(scenario, postgres_installation)

    assert not OLD.isdisjoint(report.tally.violations), report.markdown()


def test_no_violation_is_found_when_the_relay_stands_still_and_redis_is_set_back(
    postgres_installation: PostgresInstallation,
) -> None:
    """Nobody brings the changes, and Redis has lost some: it is not believed, and that costs hits alone."""
    scenario = Scenario(seed=1, foreign_seconds=0.0, sabotage=("still_relay",), is_calm=False, **SET_BACK)

    report = run(scenario, postgres_installation)

    answers = set(report.tally.violations) - {Finding.REDIS_DIFFERS}  # It does, and nobody believes it.
    assert not answers, report.markdown()
