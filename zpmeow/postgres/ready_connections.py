"""Keeps a few connections ready for the moment at which Redis falls away and all reads come here.

Opening a connection, learning its types and preparing a statement on it take some 15 ms, and whoever asks first pays
for them. While Redis answers, nobody asks: connections would age out, and the first reads of an outage would be late.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Collection
from typing import Never
from uuid import UUID

from zpmeow.domain.errors import Unavailable
from zpmeow.domain.records import Entity
from zpmeow.domain.references import ById, ByKeyHash, ByName
from zpmeow.postgres import statements
from zpmeow.postgres.database import Database

MANY = 3
"""Arbitrary: reads share conversations, so that a crowd's first ones are two or three."""

PERIOD_SECONDS = 60.0
"""Far below what lets a connection age out."""

_NOBODY = {ById: UUID(int=0), ByName: "", ByKeyHash: b""}


class ReadyConnections:
    """Asks for nobody, by every statement that reads are made of, on several connections at once."""

    def __init__(
        self,
        *,
        database: Database,
        read: Collection[frozenset[Entity]],
        pool_size: int,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """Keep some of the `pool_size` connections of `database` ready for reads of these sets of records."""
        children = [entities - {Entity.SESSION} for entities in read]
        self._statements = [
            *((statements.FIND[kind, ones, False], nobody) for ones in children for kind, nobody in _NOBODY.items()),
            *((statements.FIND_MANY[ones], statements.several([UUID(int=0)])) for ones in children),
        ]
        self._database = database
        self._many = min(MANY, pool_size)
        self._sleep = sleep

    async def make_ready(self) -> None:
        """Have the connections used last ready: open, with types and statements known. Raises Unavailable."""
        await self._database.fetch_on_several("make_ready", self._many, self._statements)

    async def run(self) -> Never:
        """Keep them so for ever."""
        while True:
            # The database's own observers tell of it, and who asks next opens what is missing.
            with contextlib.suppress(Unavailable):
                await self.make_ready()
            await self._sleep(PERIOD_SECONDS)
