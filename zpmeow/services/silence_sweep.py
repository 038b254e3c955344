"""Writes down which promises have ended, so that the database says what readers already see.

Readers go by the moment itself (`StatusRecord.at`): nobody waits for this, and nobody is told anything else because it
is late. It is for those who are told of changes, not of moments: who follows the change log, who reads by SQL.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import Never

from zpmeow.domain.errors import Unavailable
from zpmeow.domain.ports import OverduePromises
from zpmeow.events import Observer, PromisesEnded

_PERIOD_SECONDS = 1.0
_PORTION = 100  # Sessions locked at a time: some 10 ms for who wants to write one of them.


class SilenceSweep:
    """Looks once a second, in every process; what one of them records the others do not find any more."""

    def __init__(
        self,
        *,
        promises: OverduePromises,
        observer: Observer,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """Sweep the promises."""
        self._promises = promises
        self._observer = observer
        self._sleep = sleep

    async def run(self) -> Never:
        """Sweep for ever."""
        while True:
            await self._sleep(_PERIOD_SECONDS * (0.5 + random.random() / 2))  # noqa: S311  (a pause, no secret)
            try:
                await self._sweep()
            except Unavailable:
                continue  # The database's own observers tell of it.

    async def _sweep(self) -> None:
        recorded = _PORTION
        while recorded == _PORTION:
            recorded = await self._promises.record_silence(limit=_PORTION)
            if recorded:
                self._observer(PromisesEnded(recorded))
