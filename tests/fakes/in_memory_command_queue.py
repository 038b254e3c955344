"""The port `CommandQueue` in memory, and what leaves commands there: what PostgreSQL promises, without PostgreSQL."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

from typing_extensions import override

from zpmeow.domain.changes import Change
from zpmeow.domain.commands import (
    Acknowledgement,
    Command,
    CommandAction,
    CommandQueue,
    Delivery,
    EnginePosition,
    NewCommand,
)
from zpmeow.domain.errors import CommandNotFound, SessionNotHeld

_LIFETIMES = {CommandAction.PAIR: timedelta(minutes=2)}
_LIFETIME = timedelta(hours=24)
_CONNECTING = {CommandAction.CONNECT, CommandAction.PAIR}
_POINTLESS = {
    CommandAction.CONNECT: {CommandAction.DISCONNECT},
    CommandAction.DISCONNECT: {CommandAction.CONNECT, CommandAction.PAIR},
    CommandAction.PAIR: {CommandAction.DISCONNECT, CommandAction.PAIR},
    CommandAction.DELETE: set(CommandAction) - {CommandAction.DELETE},
}


def _wall_clock() -> datetime:
    return datetime.now(UTC)


@dataclass(slots=True)
class _Row:
    session_id: UUID
    action: CommandAction
    phone: str | None
    created_at: datetime
    expires_at: datetime
    id: UUID = field(default_factory=uuid4)
    leased_to: UUID | None = None
    leased_until: datetime | None = None
    delivery: int = 0
    deliveries: int = 0
    outcome: str | None = None

    def is_open(self, now: datetime) -> bool:
        return self.outcome is None and now < self.expires_at

    def is_with_anybody(self, now: datetime) -> bool:
        return self.leased_until is not None and now < self.leased_until

    def is_lent(self, now: datetime, position: EnginePosition) -> bool:
        got_lost = self.leased_to == position.engine and self.delivery > position.delivery
        return self.leased_until is not None and now < self.leased_until and not got_lost


class InMemoryCommandQueue(CommandQueue):
    """Commands in a list, in the order in which they were left. No method waits, so each is one atomic step."""

    def __init__(
        self,
        *,
        now: Callable[[], datetime] = _wall_clock,
        told: Callable[[Sequence[Change]], None] = lambda _changes: None,
    ) -> None:
        """Start empty; `now` is the database's clock, `told` hears what the triggers would NOTIFY."""
        self._now = now
        self.told = told
        self._rows: list[_Row] = []
        self._deliveries = 0
        self.failure: Exception | None = None
        self.takes = 0
        self.holders: dict[UUID, UUID] = {}
        self.is_alive: Callable[[UUID], bool] = lambda _session: True
        """Whether the session is connecting or connected, and not silent; its repository tells."""

    def leave(self, session_id: UUID, new: NewCommand) -> None:
        """Leave a command, as the function of that name does in the database."""
        now = self._now()
        own = [row for row in self._rows if row.session_id == session_id and row.outcome is None]
        for row in own:
            if row.action in _POINTLESS[new.action]:
                row.outcome, row.phone = "withdrawn", None
        if new.action in {CommandAction.DISCONNECT, CommandAction.DELETE}:
            self.holders.pop(session_id, None)
        lifetime = _LIFETIMES.get(new.action, _LIFETIME)
        waiting = [row for row in own if row.action is new.action and row.is_open(now) and not row.is_with_anybody(now)]
        for row in waiting:
            row.expires_at = now + lifetime
        if not waiting:
            self._rows.append(_Row(session_id, new.action, new.phone, now, now + lifetime))
            self._tell()

    @override
    async def take(self, position: EnginePosition, *, sessions: int, lease_seconds: float) -> Delivery:
        self.takes += 1
        if self.failure is not None:
            raise self.failure
        now = self._now()
        taken: list[_Row] = []
        lent = {row.session_id for row in self._rows if row.is_lent(now, position)}
        for row in self._rows:
            if row.is_open(now) and row.session_id not in lent:
                known = {one.session_id for one in taken}
                if row.session_id in known or len(known) < sessions:
                    taken.append(row)
        for row in taken:
            self._deliveries += 1
            row.leased_to, row.leased_until = position.engine, now + timedelta(seconds=lease_seconds)
            row.delivery, row.deliveries = self._deliveries, row.deliveries + 1
            if row.action in _CONNECTING:
                self.holders[row.session_id] = position.engine
        return Delivery(
            commands=[_command(row) for row in taken],
            position=EnginePosition(
                engine=position.engine, delivery=max((row.delivery for row in taken), default=position.delivery)
            ),
            due_in_seconds=self._due_in_seconds(now),
        )

    @override
    async def acknowledge(self, command_id: UUID, *, error: str | None, engine: UUID | None = None) -> Acknowledgement:
        row = next((row for row in self._rows if row.id == command_id), None)
        if row is None:
            message = "no command has that id, or it ended long ago"
            raise CommandNotFound(message)
        if engine is not None and row.leased_to != engine and row.is_with_anybody(self._now()):
            message = "another engine has the command by now"
            raise SessionNotHeld(message)
        if row.outcome is not None and row.leased_until is None:
            return Acknowledgement(session_id=row.session_id, action=row.action, ended_as=None)
        row.outcome = row.outcome or ("done" if error is None else "failed")
        row.leased_until, row.phone = None, None
        later = [other for other in self._rows if other.session_id == row.session_id and other.outcome is None]
        if row.outcome == "done" and row.action in _CONNECTING and self.is_alive(row.session_id):
            for other in later:
                if other.action is CommandAction.CONNECT:
                    other.outcome = "withdrawn"
        if later:
            self._tell()
        return Acknowledgement(session_id=row.session_id, action=row.action, ended_as=row.outcome)

    @override
    async def release(self, delivery: Delivery) -> None:
        identifiers = {command.id for command in delivery.commands}
        position = delivery.position
        for row in self._rows:
            is_same = row.leased_to == position.engine and row.delivery <= position.delivery
            if row.id in identifiers and is_same and row.leased_until is not None:
                row.leased_until, row.deliveries = None, row.deliveries - 1
        self._tell()

    @override
    async def prune(self, *, older_than_seconds: float) -> int:
        bound = self._now() - timedelta(seconds=older_than_seconds)
        old = [row for row in self._rows if row.created_at < bound and (row.outcome or row.expires_at < bound)]
        self._rows = [row for row in self._rows if row not in old]
        return len(old)

    def _due_in_seconds(self, now: datetime) -> float | None:
        moments = [
            row.leased_until if row.leased_until is not None and now < row.leased_until else now + timedelta(seconds=1)
            for row in self._rows
            if row.is_open(now) or (row.leased_until is not None and now < row.leased_until)
        ]
        return (min(moments) - now).total_seconds() if moments else None

    def _tell(self) -> None:
        self.told([Change(entity="command", key="", version=0)])


def _command(row: _Row) -> Command:
    return Command(
        id=row.id,
        session_id=row.session_id,
        action=row.action,
        phone=row.phone,
        created_at=row.created_at,
        expires_at=row.expires_at,
        deliveries=row.deliveries,
    )
