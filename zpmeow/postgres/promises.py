"""The statuses whose promise has ended, in PostgreSQL."""

from typing_extensions import override

from zpmeow.domain.ports import OverduePromises
from zpmeow.postgres import statements
from zpmeow.postgres.database import Database


class PostgresOverduePromises(OverduePromises):
    """Records silence by one statement, which leaves the commands to connect, too."""

    def __init__(self, *, database: Database) -> None:
        """Work on the database."""
        self._database = database

    @override
    async def record_silence(self, *, limit: int) -> int:
        rows = await self._database.fetch("record_silence", statements.RECORD_SILENCE, limit)
        recorded: int = rows[0]["recorded"]
        return recorded
