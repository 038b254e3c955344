"""The settings that all processes share: one row. Asked on the reserved connection, because an operator who
switches the cache while the database is overloaded must not wait in line for it.
"""

import asyncpg
from typing_extensions import override

from zpmeow.domain.ports import ControlState, ControlStore
from zpmeow.postgres.database import Database

_READ = "SELECT cache_mode, epoch, clock_timestamp() AS read_at FROM control_settings"
_SET_MODE = """
INSERT INTO control_settings (cache_mode) VALUES ($1)
ON CONFLICT (the_only_row) DO UPDATE SET cache_mode = excluded.cache_mode
"""
_RESTORE = "INSERT INTO control_settings DEFAULT VALUES ON CONFLICT DO NOTHING RETURNING epoch"


class PostgresControlStore(ControlStore):
    """Keeps the shared settings in PostgreSQL."""

    def __init__(self, *, database: Database) -> None:
        """Keep them in the database."""
        self._database = database

    @override
    async def read(self) -> ControlState:
        row = await self._database.fetch_row_from_reserve("control_read", _READ)
        if row is None:
            # Somebody emptied the table. A new row has a new epoch, as it must: what was cached is of no known one.
            await self._database.fetch_row_from_reserve("control_restore", _RESTORE)
            row = await self._database.fetch_row_from_reserve("control_read", _READ)
        state = _present(row)
        return ControlState(mode=state["cache_mode"], epoch=state["epoch"], read_at=state["read_at"])

    @override
    async def set_mode(self, mode: str) -> None:
        await self._database.fetch_row_from_reserve("control_set_mode", _SET_MODE, mode)


def _present(row: asyncpg.Record | None) -> asyncpg.Record:
    if row is None:
        message = "the row of shared settings is gone again"
        raise RuntimeError(message)
    return row
