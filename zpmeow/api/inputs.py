"""What callers may send: one pydantic model a body or query, strict, and nothing that is not named here.

Every text has a `TextRule`: one pattern that validates here and stands in the OpenAPI document. None of them
lets a NUL or a lone surrogate through, which PostgreSQL could not store.
"""

from typing import Annotated, Self
from uuid import UUID

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from zpmeow.api.text_rules import (
    DEVICE_JID,
    EVENT_NAME,
    NAME,
    OWN_API_KEY,
    PROXY_URL,
    QR_CODE,
    REASON,
    WEBHOOK_URL,
    unique_items,
)
from zpmeow.cache.mode import CacheMode
from zpmeow.domain.records import SessionStatus, Webhook


def _whole(value: object) -> object:
    """Let 60.0 be the integer that it is by JSON Schema."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


_of_any_spelling = BeforeValidator(_whole)
Name = Annotated[str, NAME]
ProxyUrl = Annotated[str, PROXY_URL]
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


class PutQr(Input):
    """A code to scan, for so many seconds."""

    qr_code: Annotated[str, QR_CODE]
    expires_in: Annotated[int, Field(ge=1, le=3600, description="seconds"), _of_any_spelling] = 60


class PutStatus(Input):
    """What an engine reports."""

    status: SessionStatus
    reason: Annotated[str, REASON] | None = None


class PutCredentials(Input):
    """The device that a session was paired with."""

    device_jid: Annotated[str, DEVICE_JID]


class SetMode(Input):
    """Whether the cache may be used."""

    mode: CacheMode


class WarmCache(Input):
    """How many sessions to load into the cache."""

    limit: Annotated[int, Field(ge=1, le=10_000), _of_any_spelling] = 1000


class ListQuery(Input):
    """Which page of which sessions."""

    limit: Annotated[int, Field(ge=1, le=500)] = 100
    cursor: UUID | None = None
    status: SessionStatus | None = None
