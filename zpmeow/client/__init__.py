"""A client of zpmeow's HTTP API for engines and scripts: typed, and patient with a service that is away for a moment.

    async with Client("http://localhost:8080", api_key=ENGINE_KEY) as client:
        await work(client, handle)          # commands, one after the other for each session, acknowledged

`docs/engines.md` tells the whole way of an engine.
"""

from zpmeow.client.client import Client
from zpmeow.client.errors import ClientError, Refused, ServiceAway
from zpmeow.client.models import Command, CreatedSession, PairingCode, QrCode, Session, Status
from zpmeow.client.worker import CommandFailed, work
from zpmeow.domain.commands import CommandAction
from zpmeow.domain.records import SessionStatus

__all__ = [
    "Client",
    "ClientError",
    "Command",
    "CommandAction",
    "CommandFailed",
    "CreatedSession",
    "PairingCode",
    "QrCode",
    "Refused",
    "ServiceAway",
    "Session",
    "SessionStatus",
    "Status",
    "work",
]
