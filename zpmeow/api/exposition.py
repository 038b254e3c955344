"""How the figures of this process are written down; `telemetry/` does it, `GET /metrics` asks for it."""

from collections.abc import Mapping
from typing import Protocol

from zpmeow.services.system_state import SystemState


class Exposition(Protocol):
    """Writes the metrics down, together with the state of the parts at this moment. Does not wait."""

    def as_json(self, state: SystemState) -> Mapping[str, object]:
        """Return `{"cache": {…}, "database": {…}}`, of what orjson can encode."""
        ...

    def as_text(self, state: SystemState, accept: str) -> tuple[bytes, str]:
        """Return the exposition format that fits the Accept header best, and its content type."""
        ...
