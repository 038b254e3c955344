"""Hands commands to the engines that wait for them, without asking the database while there is nothing to tell.

    an engine asks ── take ── something? ──→ answer
                       │ nothing
                       └── wait in line ── the change feed tells of a command, or a lease is over
                               ↑                  │
                               └── nothing ── take, by the first in line ── something? ──→ answer; the next one takes

Of a thousand engines that wait, one asks when there is news, and only if it got something the next one does: news costs
a process as many queries as it has answers, and one more. An engine that waits holds no connection to the database.

What is cancelled: an engine that hangs up while it waits leaves its place in line; one that hangs up while its commands
are being lent has them given back at once. If it is gone when the answer has been sent, the lease brings them back.
"""

import asyncio
from collections.abc import Sequence
from datetime import datetime
from typing import Final
from uuid import UUID, uuid4

from typing_extensions import override

from zpmeow.domain.changes import Change, ChangeFollower
from zpmeow.domain.commands import Acknowledgement, CommandQueue, Delivery, EnginePosition
from zpmeow.domain.errors import Unavailable
from zpmeow.events import CommandDelivered, CommandEnded, Observer
from zpmeow.services.waiting_line import WaitingLine

LEASE_SECONDS: Final = 30.0
_AFTER_FAILURE_SECONDS = 1.0  # There may be news that nobody could look for.
CURSOR_PATTERN: Final = "[0-9a-f]{32}-[0-9]{1,18}"


def read_cursor(text: str) -> EnginePosition:
    """Read what `write_cursor` wrote (it keeps to `CURSOR_PATTERN`); an empty one makes a new engine."""
    if not text:
        return EnginePosition(engine=uuid4())
    engine, _, delivery = text.partition("-")
    return EnginePosition(engine=UUID(engine), delivery=int(delivery))


def write_cursor(position: EnginePosition) -> str:
    """Write a position down for the engine to bring along next time."""
    return f"{position.engine.hex}-{position.delivery}"


class CommandService(ChangeFollower):
    """The commands as engines meet them over HTTP; the change feed tells it of new ones."""

    def __init__(self, *, queue: CommandQueue, observer: Observer, lease_seconds: float = LEASE_SECONDS) -> None:
        """Hand out what is in the queue; an engine has `lease_seconds` for its acknowledgement."""
        self._queue = queue
        self._observer = observer
        self._lease_seconds = lease_seconds
        self._line = WaitingLine()
        self._timer: asyncio.Handle | None = None
        self._due_at = 0.0
        self._giving_back: set[asyncio.Task[None]] = set()

    async def next(self, position: EnginePosition, *, sessions: int, wait_seconds: float) -> Delivery:
        """Return the commands for this engine as soon as there are any, none after the wait.

        Args:
            position: who asks, and what has reached it.
            sessions: of how many sessions it takes commands at most.
            wait_seconds: 0: it does not wait.

        Raises:
            Unavailable: the database cannot be asked.
        """
        deadline = asyncio.get_running_loop().time() + wait_seconds
        delivery = await self._take(position, sessions)
        while not delivery.commands:
            async with self._line.turn(deadline) as turn:
                if turn is None:
                    break
                delivery = await self._take(position, sessions)
                turn.found = bool(delivery.commands)
        for command in delivery.commands:
            self._observer(CommandDelivered(command.action, again=command.deliveries > 1))
        return delivery

    async def acknowledge(self, command_id: UUID, *, error: str | None, engine: UUID | None = None) -> Acknowledgement:
        """Take an engine's word that it has done a command, or why it could not. The first word on a command counts.

        Raises:
            CommandNotFound: there is none, or it ended long ago.
            SessionNotHeld: another one than `engine` has it by now.
            Unavailable: the database cannot be asked.
        """
        ended = await self._queue.acknowledge(command_id, error=error, engine=engine)
        if ended.ended_as is not None:
            self._observer(CommandEnded(ended.action, ended.ended_as))
        return ended

    def end_waits(self) -> None:
        """Let everybody go who waits, with nothing, and nobody wait from now on."""
        self._line.close()

    async def close(self) -> None:
        """End what runs beside the requests."""
        if self._timer is not None:
            self._timer.cancel()
        if self._giving_back:
            await asyncio.wait(set(self._giving_back))

    @override
    def opened(self, *, database: bytes, since: datetime, heard_at: float) -> None:
        self._line.tell()

    @override
    def changed(self, changes: Sequence[Change]) -> None:
        if any(change.entity == "command" for change in changes):
            self._line.tell()

    @override
    def confirmed(self, sent_at: float) -> None:
        pass

    @override
    def lost(self, reason: str | None) -> None:
        pass

    async def _take(self, position: EnginePosition, sessions: int) -> Delivery:
        """Take in a task of its own: a cancelled statement might have lent something or not."""
        taking = asyncio.ensure_future(self._queue.take(position, sessions=sessions, lease_seconds=self._lease_seconds))
        try:
            delivery = await asyncio.shield(taking)
        except asyncio.CancelledError:
            task = asyncio.get_running_loop().create_task(self._give_back(taking))
            self._giving_back.add(task)
            task.add_done_callback(self._giving_back.discard)
            raise
        except Unavailable:
            self._look_in(_AFTER_FAILURE_SECONDS)
            raise
        if delivery.due_in_seconds is not None:
            self._look_in(delivery.due_in_seconds)
        return delivery

    async def _give_back(self, taking: asyncio.Future[Delivery]) -> None:
        try:
            delivery = await taking
            if delivery.commands:
                await self._queue.release(delivery)
        except Unavailable:
            return  # The lease brings them back.

    def _look_in(self, seconds: float) -> None:
        loop = asyncio.get_running_loop()
        due_at = loop.time() + max(0.0, seconds)
        if self._timer is not None:
            if self._due_at <= due_at:
                return
            self._timer.cancel()
        self._due_at = due_at  # The handle cannot tell: under uvloop one of half a millisecond knows no time.
        self._timer = loop.call_at(due_at, self._look)

    def _look(self) -> None:
        self._timer = None  # It may have come a little before its time.
        self._line.tell()
