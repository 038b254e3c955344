"""What became of a run."""

from dataclasses import dataclass

from deploy.chaos.harness.measurement import Measurement
from deploy.chaos.harness.scenario import Scenario
from tests.coherence.audit import Audit
from tests.coherence.judge import Tally


@dataclass(slots=True, frozen=True, kw_only=True)
class Outcome:
    """What a run has measured.

    Attributes:
        bypass: what the database alone takes.
        recovery: from the healing to some seconds after Redis was in use again.
        recovery_seconds: from the healing on, until every process used Redis again; infinite: too long to wait for.
        descriptors_before, descriptors_after: open file descriptors by process, without clients, before and after all.
    """

    name: str
    scenario: Scenario
    bypass: Measurement
    before: Measurement
    during: Measurement
    recovery: Measurement
    after: Measurement
    recovery_seconds: float
    descriptors_before: dict[str, int]
    descriptors_after: dict[str, int]
    audit: Audit
    tally: Tally


@dataclass(slots=True, frozen=True, kw_only=True)
class BrokenOff:
    """A run that did not come to its end, and why."""

    name: str
    scenario: Scenario
    reason: str
