"""Commands: what engines must do so that the owners' wishes come true.

    left, with the change that it stands for ──→ lent to one engine ──→ acknowledged: done, or failed
                                       ↑               │ no word for 30 s
                                       └───────────────┘

- Delivered at least once, to any engine that asks, until it is acknowledged or expires.
- In order per session: while an engine has a command of a session, no later one goes to anybody. (An engine that does
  not say who it is can end a command that another one has by now: then the next one goes.)
- A new wish withdraws those before it that it makes pointless, whether they were delivered or not: `connect` withdraws
  `disconnect`; `disconnect` withdraws `connect` and `pair`; `pair` withdraws `disconnect` and an older `pair`; `delete`
  withdraws all. A withdrawn command is not delivered any more. An engine that has it may acknowledge it all the same;
  until it does, or its time is over, what comes after it waits.
- A wish that a command says already which waits for an engine leaves no second one. Where an engine has that command
  there may be a second one, and it is withdrawn when the first has been done.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Protocol
from uuid import UUID


class CommandAction(StrEnum):
    """What an engine shall do with a session."""

    CONNECT = "connect"
    DISCONNECT = "disconnect"
    PAIR = "pair"
    DELETE = "delete"


@dataclass(slots=True, frozen=True, kw_only=True)
class NewCommand:
    """A command to leave. `phone` are the digits to pair with, for PAIR alone."""

    action: CommandAction
    phone: str | None = field(default=None, repr=False)


@dataclass(slots=True, frozen=True, kw_only=True)
class Command:
    """A command as an engine gets it. `deliveries`: how often it was delivered, this time included."""

    id: UUID
    session_id: UUID
    action: CommandAction
    phone: str | None = field(repr=False)
    created_at: datetime
    expires_at: datetime
    deliveries: int


@dataclass(slots=True, frozen=True, kw_only=True)
class EnginePosition:
    """Who asks for commands, and the last delivery that it knows to have reached it: later ones got lost on the way."""

    engine: UUID
    delivery: int = 0


@dataclass(slots=True, frozen=True, kw_only=True)
class Delivery:
    """Commands for an engine, and its position with them.

    `due_in_seconds`: when it makes sense to ask again if nobody tells of a new command before; None: only then.
    """

    commands: Sequence[Command]
    position: EnginePosition
    due_in_seconds: float | None = None


@dataclass(slots=True, frozen=True, kw_only=True)
class Acknowledgement:
    """What an engine's word did. `ended_as`: done, failed, withdrawn; None: it had ended before."""

    session_id: UUID
    action: CommandAction
    ended_as: str | None


class CommandQueue(Protocol):
    """The commands, as engines deal with them. All raise Unavailable."""

    async def take(self, position: EnginePosition, *, sessions: int, lease_seconds: float) -> Delivery:
        """Lend the open commands of at most `sessions` sessions, the oldest first, for so long.

        What was lent to this engine after its position, and not acknowledged, is delivered again at once. After a
        cancellation commands may be lent that nobody gets; they come back like all others.
        """
        ...

    async def acknowledge(self, command_id: UUID, *, error: str | None, engine: UUID | None = None) -> Acknowledgement:
        """End a command: done, or failed because of `error`. The first word on a command counts.

        A `connect` that was left while an engine was at it has been done with it, if the session is not silent by then.

        Raises:
            CommandNotFound: there is none, or it ended more than an hour ago.
            SessionNotHeld: another one than `engine` has the command by now.
        """
        ...

    async def release(self, delivery: Delivery) -> None:
        """Take back a delivery that never reached its engine."""
        ...

    async def prune(self, *, older_than_seconds: float) -> int:
        """Remove what ended or expired longer ago than that, a bounded number; return how many."""
        ...
