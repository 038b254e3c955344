"""The commands for engines in PostgreSQL: each call is one statement. What leaves a command is in the migrations."""

from uuid import UUID

from asyncpg import Record as Row
from typing_extensions import override

from zpmeow.domain.commands import (
    Acknowledgement,
    Command,
    CommandAction,
    CommandQueue,
    Delivery,
    EnginePosition,
)
from zpmeow.domain.errors import CommandNotFound, SessionNotHeld
from zpmeow.postgres import statements
from zpmeow.postgres.database import Database
from zpmeow.postgres.rows import plain_uuid

_PORTION = 1_000  # Commands removed at a time.


class PostgresCommandQueue(CommandQueue):
    """Lends commands to engines of any process: what one statement has locked, another one skips."""

    def __init__(self, *, database: Database) -> None:
        """Work on the database."""
        self._database = database

    @override
    async def take(self, position: EnginePosition, *, sessions: int, lease_seconds: float) -> Delivery:
        rows = await self._database.fetch(
            "take_commands", statements.TAKE_COMMANDS, position.engine, position.delivery, sessions, lease_seconds
        )
        taken = [row for row in rows if row["id"] is not None]
        newest = max((row["delivery"] for row in taken), default=position.delivery)
        return Delivery(
            commands=[_command(row) for row in taken],
            position=EnginePosition(engine=position.engine, delivery=newest),
            due_in_seconds=rows[0]["due_in_seconds"],
        )

    @override
    async def acknowledge(self, command_id: UUID, *, error: str | None, engine: UUID | None = None) -> Acknowledgement:
        row = await self._database.fetch_row("end_command", statements.END_COMMAND, command_id, error, engine)
        if row is None:
            message = "no command has that id, or it ended long ago"
            raise CommandNotFound(message)
        if row["is_anothers"]:
            message = "another engine has the command by now"
            raise SessionNotHeld(message)
        return Acknowledgement(
            session_id=plain_uuid(row["session_id"]), action=CommandAction(row["action"]), ended_as=row["ended_as"]
        )

    @override
    async def release(self, delivery: Delivery) -> None:
        identifiers = [command.id for command in delivery.commands]
        await self._database.fetch(
            "release_commands",
            statements.RELEASE_COMMANDS,
            delivery.position.engine,
            identifiers,
            delivery.position.delivery,
        )

    @override
    async def prune(self, *, older_than_seconds: float) -> int:
        rows = await self._database.fetch("prune_commands", statements.PRUNE_COMMANDS, older_than_seconds, _PORTION)
        removed: int = rows[0]["removed"]
        return removed


def _command(row: Row) -> Command:
    return Command(
        id=plain_uuid(row["id"]),
        session_id=plain_uuid(row["session_id"]),
        action=CommandAction(row["action"]),
        phone=row["phone"],
        created_at=row["created_at"],
        expires_at=row["expires_at"],
        deliveries=row["deliveries"],
    )
