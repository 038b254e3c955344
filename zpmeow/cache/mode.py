"""Whether the cache may be used at all: an operator's choice, besides what the breaker says."""

from enum import StrEnum


class CacheMode(StrEnum):
    """NORMAL: use the cache. BYPASS: every read asks the database, nothing is sent to the tier."""

    NORMAL = "normal"
    BYPASS = "bypass"
