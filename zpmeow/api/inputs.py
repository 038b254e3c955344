"""What callers may send: one pydantic model a body or query, strict, and nothing that is not named here.

Every text has a `TextRule`: one pattern that validates here and stands in the OpenAPI document. None of them
lets a NUL or a lone surrogate through, which PostgreSQL could not store.
"""

from datetime import UTC, datetime
from typing import Annotated, Self
from uuid import UUID

from pydantic import AfterValidator, AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from zpmeow.api.text_rules import (
    COMMAND_CURSOR,
    DEVICE_JID,
    EVENT_NAME,
    NAME,
    OWN_API_KEY,
    PAIRING_CODE,
    PHONE,
    PROXY_URL,
    QR_CODE,
    REASON,
    WEBHOOK_URL,
    unique_items,
)
from zpmeow.cache.mode import CacheMode
from zpmeow.domain.records import SessionStatus, Webhook
from zpmeow.services.commands import read_cursor
from zpmeow.services.log_control import LogLevel


def _whole(value: object) -> object:
    """Let 60.0 be the integer that it is by JSON Schema."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _storable(moment: datetime) -> datetime:
    """Return a moment that PostgreSQL and Python both can hold in any zone; beyond that the order says nothing."""
    return min(max(moment, _EARLIEST), _LATEST)


_EARLIEST, _LATEST = datetime(1970, 1, 1, tzinfo=UTC), datetime(3000, 1, 1, tzinfo=UTC)
_of_any_spelling = BeforeValidator(_whole)
Name = Annotated[str, NAME]
ProxyUrl = Annotated[str, PROXY_URL]
Lifetime = Annotated[int, Field(ge=1, le=3600, description="seconds"), _of_any_spelling]
EngineCursor = Annotated[str, COMMAND_CURSOR]
WaitSeconds = Annotated[int, Field(ge=0, le=60, description="seconds to wait for one if there is none now")]
Events = Annotated[list[Annotated[str, EVENT_NAME]], Field(min_length=1, max_length=50), unique_items]


def _forget_default(schema: dict[str, object]) -> None:
    schema.pop("default", None)


class Input(BaseModel):
    """What all bodies and queries have in common."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, hide_input_in_errors=True)


class WebhookInput(Input):
    """Where a session's events are to be sent, and which."""

    url: Annotated[str, WEBHOOK_URL]
    events: Events

    def to_domain(self) -> Webhook:
        """Return it in the domain's words."""
        return Webhook(url=self.url, events=tuple(self.events))


class CreateSession(Input):
    """A session to make."""

    name: Name
    api_key: Annotated[str, OWN_API_KEY] | None = None
    proxy_url: ProxyUrl | None = None
    webhook: WebhookInput | None = None


class UpdateSession(Input):
    """Fields to change; null removes the proxy or the webhook, what is left out stays."""

    model_config = ConfigDict(json_schema_extra={"minProperties": 1})

    # Only a field that was sent is looked at (`model_fields_set`): this default is never a name.
    name: Annotated[Name, Field(json_schema_extra=_forget_default)] = ""
    proxy_url: ProxyUrl | None = None
    webhook: WebhookInput | None = None

    @model_validator(mode="after")
    def _has_a_field(self) -> Self:
        if not self.model_fields_set:
            kind = "nothing_to_change"
            raise PydanticCustomError(kind, "must have at least one of name, proxy_url, webhook")
        return self


class EngineInput(Input):
    """What an engine says. With its cursor it counts only while this engine has the session, or the command."""

    cursor: EngineCursor | None = None

    @property
    def engine(self) -> UUID | None:
        """Who says it, if it says so; an empty cursor says as little as none."""
        return read_cursor(self.cursor).engine if self.cursor else None


class PutQr(EngineInput):
    """A code to scan, for so many seconds."""

    qr_code: Annotated[str, QR_CODE]
    expires_in: Lifetime = 60
    issued_at: (
        Annotated[AwareDatetime, Field(description="by the engine's clock"), AfterValidator(_storable)] | None
    ) = None


class PutPairingCode(EngineInput):
    """A code to enter on a telephone, for so many seconds: WhatsApp's live for 160."""

    code: Annotated[str, PAIRING_CODE]
    expires_in: Lifetime = 160


class WaitQuery(Input):
    """How long the caller waits."""

    wait: WaitSeconds = 0


class PutStatus(EngineInput):
    """How a connection stands."""

    status: SessionStatus
    reason: Annotated[str, REASON] | None = None
    valid_for: Annotated[int, Field(ge=1, le=86_400, description="seconds"), _of_any_spelling] | None = None


class PairSession(Input):
    """The telephone to pair with."""

    phone: Annotated[str, PHONE]


class CommandsQuery(Input):
    """Which engine asks (its last `next_cursor`), how long it waits, of how many sessions it takes commands."""

    cursor: EngineCursor = ""
    wait: WaitSeconds = 0
    limit: Annotated[int, Field(ge=1, le=100)] = 10


class AcknowledgeCommand(EngineInput):
    """What became of a command, and why if it failed."""

    ok: bool
    error: Annotated[str, REASON] | None = None


class PutCredentials(EngineInput):
    """The device that a session was paired with."""

    device_jid: Annotated[str, DEVICE_JID]


class SetMode(Input):
    """Whether the cache may be used."""

    mode: CacheMode


class SetLogLevel(Input):
    """How much the log tells."""

    level: LogLevel


class WarmCache(Input):
    """How many sessions to load into the cache."""

    limit: Annotated[int, Field(ge=1, le=10_000), _of_any_spelling] = 1000


class ListQuery(Input):
    """Which page of which sessions."""

    limit: Annotated[int, Field(ge=1, le=500)] = 100
    cursor: UUID | None = None
    status: SessionStatus | None = None
    desired_status: SessionStatus | None = None
