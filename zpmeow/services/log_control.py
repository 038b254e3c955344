"""How much of what happens the log of this process tells; an operator may change it while the service runs."""

from enum import StrEnum
from typing import Protocol


class LogLevel(StrEnum):
    """The least severe level that is written."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


class LogControl(Protocol):
    """The log, as far as its level goes."""

    def set_level(self, level: LogLevel) -> None:
        """Write lines of this level and above from now on, until the process ends."""
        ...
