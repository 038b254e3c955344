"""What the doctor says of what it found."""

import pytest

from zpmeow.cache.tier import TierInfo
from zpmeow.cli.doctor import judge_redis
from zpmeow.cli.finding import Finding, Verdict
from zpmeow.settings import load_settings


def test_finding_is_one_line_with_its_remedy() -> None:
    """What is broken, and how to mend it."""
    finding = Finding(part="redis", verdict=Verdict.BROKEN, text="refused", remedy="start Redis")

    assert str(finding) == "BROKEN  redis     refused -> start Redis"
    assert finding.is_broken


def test_warning_does_not_fail_the_command() -> None:
    """Advice is not a fault."""
    assert not Finding(part="redis", verdict=Verdict.WARNING, text="slow").is_broken


def verdicts(*, policy: str | None, seconds: float) -> list[Verdict]:
    """Judge a Redis with this policy that answers in this time."""
    info = TierInfo(version="Redis 7.0.15", total_keys=1, maxmemory_policy=policy)
    findings = judge_redis(load_settings({}, None), "redis://h:6379", info, seconds)
    return [finding.verdict for finding in findings]


@pytest.mark.parametrize("policy", ["volatile-ttl", "noeviction", None])
def test_advised_or_unknown_policy_is_no_warning(policy: str | None) -> None:
    """A hosted Redis may not tell its policy."""
    assert verdicts(policy=policy, seconds=0.001) == [Verdict.OK]


def test_policy_that_evicts_fences_is_a_warning() -> None:
    """allkeys-lru may throw away what keeps old values out."""
    assert verdicts(policy="allkeys-lru", seconds=0.001) == [Verdict.OK, Verdict.WARNING]


def test_redis_slower_than_the_cache_timeout_is_a_warning() -> None:
    """It answers, but users would never see its answers."""
    assert verdicts(policy=None, seconds=0.2) == [Verdict.OK, Verdict.WARNING]
