"""The shapes of all answers' `data`: what handlers return, and what the OpenAPI document says, from one source.

Plain dictionaries at run time (no cost), checked by mypy, described for OpenAPI by pydantic. Times and ids
keep their Python types until orjson writes them.
"""

from datetime import datetime
from typing import Annotated, Literal, NotRequired
from uuid import UUID

from pydantic import ConfigDict, Field, with_config
from typing_extensions import TypedDict

from zpmeow.cache.mode import CacheMode
from zpmeow.domain.commands import CommandAction
from zpmeow.domain.records import SessionStatus
from zpmeow.services.log_control import LogLevel

_closed = with_config(ConfigDict(extra="forbid"))

Success = Literal["success"]
ApiKeyInClear = Annotated[str, Field(description="Shown in this one answer only.", min_length=32, max_length=100)]


@_closed
class WebhookShape(TypedDict):
    """Where a session's events are sent."""

    url: str
    events: list[str]


@_closed
class SessionShape(TypedDict):
    """A session. The proxy's password reads `***` for all but engines."""

    id: UUID
    name: str
    status: SessionStatus
    desired_status: SessionStatus
    device_jid: str | None
    proxy_url: str | None
    webhook: WebhookShape | None
    created_at: datetime
    updated_at: datetime


@_closed
class InfoShape(TypedDict):
    """Answer of `info`."""

    session_id: UUID
    session: SessionShape


@_closed
class StatusShape(TypedDict):
    """Answer of `status`."""

    session_id: UUID
    name: str
    session_status: SessionStatus
    is_connected: bool
    device_jid: str | None
    reason: str | None
    changed_at: datetime


@_closed
class QrShape(TypedDict):
    """Answer of `qr`."""

    session_id: UUID
    qr_code: str
    expires_at: datetime


@_closed
class PairingCodeShape(TypedDict):
    """Answer of `pairing-code`."""

    session_id: UUID
    code: str
    expires_at: datetime


@_closed
class CredentialShape(TypedDict):
    """Answer of `credentials`."""

    session_id: UUID
    device_jid: str
    paired_at: datetime | None


@_closed
class SessionListShape(TypedDict):
    """A page of sessions; `next_cursor` is null on the last one."""

    sessions: list[SessionShape]
    next_cursor: UUID | None


@_closed
class WriteShape(TypedDict):
    """What every answer to a write on a session carries."""

    session_id: UUID
    action: str
    status: Success
    timestamp: datetime


@_closed
class CreatedShape(WriteShape):
    """Answer of `create`."""

    session: SessionShape
    api_key: ApiKeyInClear


@_closed
class RotatedShape(WriteShape):
    """Answer of `rotate-key`."""

    api_key: ApiKeyInClear


@_closed
class ChangedSessionShape(WriteShape):
    """Answer of a change of the session itself."""

    session: SessionShape


@_closed
class ChangedWebhookShape(WriteShape):
    """Answer of a change of the webhook."""

    webhook: WebhookShape | None


@_closed
class ChangedStatusShape(WriteShape):
    """Answer of whatever moves the state machine."""

    session_status: SessionStatus
    reason: str | None
    changed_at: datetime
    valid_until: Annotated[datetime | None, Field(description="After that, without a new report: engine_silent.")]


@_closed
class StoredCodeShape(WriteShape):
    """Answer of a stored code; `expires_at` is that of the newest."""

    expires_at: datetime | None


@_closed
class StoredCredentialShape(WriteShape):
    """Answer of a stored device."""

    device_jid: str | None
    paired_at: datetime | None


@_closed
class CommandShape(TypedDict):
    """What an engine shall do. `phone`: the digits to pair with, for `pair` alone."""

    id: UUID
    session_id: UUID
    action: CommandAction
    phone: str | None
    created_at: datetime
    expires_at: datetime


@_closed
class CommandsShape(TypedDict):
    """Commands for one engine, those of a session in order; the cursor is to be sent with the next call."""

    commands: list[CommandShape]
    next_cursor: str


@_closed
class AcknowledgedShape(WriteShape):
    """Answer of an acknowledged command."""

    id: UUID


@_closed
class WarmedShape(TypedDict):
    """Answer of `warm`."""

    action: str
    status: Success
    timestamp: datetime
    entries: Annotated[int, Field(ge=0, description="How many entries were sent to the cache.")]


@_closed
class ModeShape(TypedDict):
    """Answer of a switched cache mode."""

    action: str
    status: Success
    timestamp: datetime
    mode: CacheMode


@_closed
class LogLevelShape(TypedDict):
    """Answer of a changed log level."""

    action: str
    status: Success
    timestamp: datetime
    level: LogLevel


class LatencyShape(TypedDict):
    """Milliseconds; null while nothing was measured."""

    p50: float | None
    p99: float | None


class CacheStateShape(TypedDict):
    """How the cache is. `total_keys` and `version` are null while Redis does not answer."""

    connected: bool
    total_keys: int | None
    version: str | None
    hit_rate: float | None
    breaker: str
    mode: CacheMode
    latency_ms: NotRequired[LatencyShape]
    local: NotRequired[dict[str, object]]


class CacheStatsShape(TypedDict):
    """Answer of `cache/stats`."""

    cache: CacheStateShape


class MetricsShape(TypedDict):
    """Answer of `metrics`."""

    cache: CacheStateShape
    database: dict[str, object]


@_closed
class DependenciesShape(TypedDict):
    """`healthy`, `unhealthy` (with the reason for those who may see it), and `disabled` for the cache."""

    database: str
    cache: str


@_closed
class HealthShape(TypedDict):
    """Answer of `health`."""

    status: Literal["ok", "degraded", "unhealthy"]
    version: str
    dependencies: DependenciesShape


@_closed
class LiveShape(TypedDict):
    """Answer of `health/live`."""

    status: Literal["alive"]


@_closed
class ReadyShape(TypedDict):
    """Answer of `health/ready`."""

    status: Literal["ready", "not_ready"]
