"""Health: the database decides, the cache only degrades."""

import pytest

from zpmeow.domain.errors import DatabaseUnavailable
from zpmeow.services.health import HealthService, HealthStatus


class Part:
    """Something with a problem, or none."""

    def __init__(self, problem: str | None) -> None:
        """Have this problem."""
        self._problem = problem

    async def problem(self) -> str | None:
        """Tell it."""
        return self._problem


@pytest.mark.parametrize(
    ("database", "cache", "status"),
    [
        (None, Part(None), HealthStatus.OK),
        (None, None, HealthStatus.OK),
        (None, Part("refused"), HealthStatus.DEGRADED),
        ("refused", Part(None), HealthStatus.UNHEALTHY),
        ("refused", Part("refused"), HealthStatus.UNHEALTHY),
        ("refused", None, HealthStatus.UNHEALTHY),
    ],
)
async def test_status_follows_from_the_parts(database: str | None, cache: Part | None, status: HealthStatus) -> None:
    """Without its database the service cannot work; without its cache it can."""
    report = await HealthService(database=Part(database), cache=cache).report()

    assert report.status is status
    assert report.database_problem == database
    assert report.cache_enabled is (cache is not None)


def test_nothing_is_answered_before_the_start_is_done() -> None:
    """Until the schema is known to be right, the answer is: try again."""
    health = HealthService(database=Part(None), cache=None)

    with pytest.raises(DatabaseUnavailable):
        health.check_started()
    health.open_to_traffic()
    health.check_started()
    health.close_to_traffic()

    health.check_started()
    assert not health.accepts_traffic
