"""Works through commands: those of one session one after the other, those of different sessions side by side.

commands, by session ──→ handle ── returned ──→ acknowledged: done
                           ├── CommandFailed, or any error ──→ acknowledged: failed, and why
                           └── ServiceAway, cancelled ──→ not acknowledged: it comes again in 30 s, to any engine
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Final
from uuid import UUID

from zpmeow.client.client import Client
from zpmeow.client.errors import ClientError, Refused, ServiceAway
from zpmeow.client.models import Command

MAX_REASON: Final = 500
_logger = logging.getLogger("zpmeow.client")


class CommandFailed(Exception):
    """Raised by a handler: the command cannot be done, and the message says why, in words for operators."""


async def work(
    client: Client,
    handle: Callable[[Command], Awaitable[None]],
    *,
    commands: AsyncIterator[Command] | None = None,
) -> None:
    """Work for ever, or as long as there are `commands` (by default the client's stream).

    `handle` should be done within 30 s, and do no harm when it is called again for what has been done: long work, such
    as keeping a connection, belongs into a task of its own. When `work` is cancelled, so are the handlers that run.

    Raises:
        Refused: the stream of commands is, for example because the key opens nothing.
    """
    workers = _Workers(client, handle)
    try:
        async with asyncio.TaskGroup() as group:
            async for command in commands or client.commands():
                workers.take(command, group)
    except* Refused as refused:
        raise refused.exceptions[0] from None  # Handlers raise nothing: it is the stream's.


class _Workers:
    """One queue and one task for each session that has commands now."""

    def __init__(self, client: Client, handle: Callable[[Command], Awaitable[None]]) -> None:
        self._client = client
        self._handle = handle
        self._queues: dict[UUID, list[Command]] = {}

    def take(self, command: Command, group: asyncio.TaskGroup) -> None:
        """Do a command after those of its session that are there already."""
        queue = self._queues.get(command.session_id)
        if queue is not None:
            if all(known.id != command.id for known in queue):  # One that took too long comes again while it is done.
                queue.append(command)
            return
        self._queues[command.session_id] = [command]
        group.create_task(self._drain(command.session_id))

    async def _drain(self, session_id: UUID) -> None:
        queue = self._queues[session_id]
        while queue:
            await self._do(queue[0])
            queue.pop(0)
        del self._queues[session_id]

    async def _do(self, command: Command) -> None:
        error: str | None = None
        try:
            await self._handle(command)
        except ServiceAway as away:
            _logger.warning("Command %s of session %s is left: %s", command.action, command.session_id, away)
            return
        except CommandFailed as failed:
            error = str(failed)
        except Exception as crashed:  # (whatever it was, the engine goes on, and the service is told)
            _logger.exception("Command %s of session %s failed", command.action, command.session_id)
            error = type(crashed).__name__
        try:
            await self._client.acknowledge(command, error=None if error is None else error[:MAX_REASON])
        except ClientError as unheard:
            _logger.warning("Command %s could not be acknowledged: %s", command.id, unheard)
