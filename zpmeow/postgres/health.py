"""Is the database there? Asked on the reserved connection, so that busy ones do not look like a dead database."""

import asyncio

from typing_extensions import override

from zpmeow.domain.errors import Unavailable
from zpmeow.domain.ports import Health
from zpmeow.postgres.database import Database


class DatabaseHealth(Health):
    """Asks once for however many ask at the same time."""

    def __init__(self, *, database: Database) -> None:
        """Watch the database."""
        self._database = database
        self._check: asyncio.Task[str | None] | None = None

    @override
    async def problem(self) -> str | None:
        if self._check is None or self._check.done():
            self._check = asyncio.create_task(self._ask())
        # Shielded: one caller who goes away must not take the answer from the others.
        return await asyncio.shield(self._check)

    async def _ask(self) -> str | None:
        try:
            await self._database.fetch_row_from_reserve("ping", "SELECT 1")
        except Unavailable:
            # Alone it proves nothing: the server may have no connection left while ours are answered.
            return self._database.problem
        return None
