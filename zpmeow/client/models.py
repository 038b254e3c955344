"""The service's answers as objects. Fields have the contract's names; times are timezone-aware UTC."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Self
from uuid import UUID

from zpmeow.domain.commands import CommandAction
from zpmeow.domain.records import SessionStatus

Json = Mapping[str, Any]


@dataclass(slots=True, frozen=True, kw_only=True)
class Session:
    """A session, and what its owner wishes for it."""

    id: UUID
    name: str
    status: SessionStatus
    desired_status: SessionStatus
    device_jid: str | None
    proxy_url: str | None = field(repr=False)
    created_at: datetime
    updated_at: datetime

    @classmethod
    def read(cls, data: Json) -> Self:
        """Read a session of an answer."""
        return cls(
            id=UUID(data["id"]),
            name=data["name"],
            status=SessionStatus(data["status"]),
            desired_status=SessionStatus(data["desired_status"]),
            device_jid=data["device_jid"],
            proxy_url=data["proxy_url"],
            created_at=datetime.fromisoformat(data["created_at"]),
            updated_at=datetime.fromisoformat(data["updated_at"]),
        )


@dataclass(slots=True, frozen=True, kw_only=True)
class CreatedSession:
    """A new session and its key, which is never told again."""

    session: Session
    api_key: str = field(repr=False)


@dataclass(slots=True, frozen=True, kw_only=True)
class Status:
    """How a session's connection stands."""

    session_id: UUID
    session_status: SessionStatus
    is_connected: bool
    device_jid: str | None
    reason: str | None
    changed_at: datetime

    @classmethod
    def read(cls, data: Json) -> Self:
        """Read the `data` of an answer."""
        return cls(
            session_id=UUID(data["session_id"]),
            session_status=SessionStatus(data["session_status"]),
            is_connected=data["is_connected"],
            device_jid=data["device_jid"],
            reason=data["reason"],
            changed_at=datetime.fromisoformat(data["changed_at"]),
        )


@dataclass(slots=True, frozen=True, kw_only=True)
class QrCode:
    """A code to scan."""

    qr_code: str = field(repr=False)
    expires_at: datetime

    @classmethod
    def read(cls, data: Json) -> Self:
        """Read the `data` of an answer."""
        return cls(qr_code=data["qr_code"], expires_at=datetime.fromisoformat(data["expires_at"]))


@dataclass(slots=True, frozen=True, kw_only=True)
class PairingCode:
    """A code to enter on a telephone."""

    code: str = field(repr=False)
    expires_at: datetime

    @classmethod
    def read(cls, data: Json) -> Self:
        """Read the `data` of an answer."""
        return cls(code=data["code"], expires_at=datetime.fromisoformat(data["expires_at"]))


@dataclass(slots=True, frozen=True, kw_only=True)
class Command:
    """What an engine shall do with a session. `phone` are the digits to pair with, for PAIR alone."""

    id: UUID
    session_id: UUID
    action: CommandAction
    phone: str | None = field(repr=False)
    created_at: datetime
    expires_at: datetime

    @classmethod
    def read(cls, data: Json) -> Self:
        """Read a command of an answer."""
        return cls(
            id=UUID(data["id"]),
            session_id=UUID(data["session_id"]),
            action=CommandAction(data["action"]),
            phone=data["phone"],
            created_at=datetime.fromisoformat(data["created_at"]),
            expires_at=datetime.fromisoformat(data["expires_at"]),
        )
