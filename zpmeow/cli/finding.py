"""What `zpmeow doctor` says of one part, as one line."""

from dataclasses import dataclass
from enum import StrEnum


class Verdict(StrEnum):
    """OK. WARNING: works, but not as advised. BROKEN: the service cannot do its work, or not all of it."""

    OK = "ok"
    WARNING = "warning"
    BROKEN = "BROKEN"


@dataclass(slots=True, frozen=True, kw_only=True)
class Finding:
    """What was found out about one part; `remedy` says how to mend it."""

    part: str
    verdict: Verdict
    text: str
    remedy: str | None = None

    def __str__(self) -> str:
        """Return one line."""
        advice = "" if self.remedy is None else f" -> {self.remedy}"
        return f"{self.verdict:<8}{self.part:<10}{self.text}{advice}"

    @property
    def is_broken(self) -> bool:
        """Whether the command must fail."""
        return self.verdict is Verdict.BROKEN
