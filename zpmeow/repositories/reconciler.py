"""Finds out what became of a write that the database broke off in.

The commit may have happened, or not, or may happen yet: the server goes on with a statement until its
own timeout. So the session is read until the database answers, and once more when nothing can be under
way any longer; each time the cache takes over what is found.
"""

import asyncio
import contextvars
from collections.abc import Awaitable, Callable
from uuid import UUID

from zpmeow.domain.errors import Unavailable
from zpmeow.domain.records import Snapshot
from zpmeow.domain.references import ById, SessionReference

_PAUSE_SECONDS = 0.5
_SETTLE_SECONDS = 65.0  # Above the server's own statement timeout: DB_TIMEOUT, a minute at most, and 1 s.
_MAX_TRIES = 1_200  # Ten minutes of an absent database, as long as a fence lives.


class Reconciler:
    """One task per session in doubt."""

    def __init__(
        self,
        *,
        find: Callable[[SessionReference], Awaitable[Snapshot | None]],
        found: Callable[[Snapshot], Awaitable[None]],
        gone: Callable[[UUID], Awaitable[None]],
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """Ask `find`, the truth; tell `found` or `gone`."""
        self._find = find
        self._found = found
        self._gone = gone
        self._sleep = sleep
        self._tasks: dict[SessionReference, asyncio.Task[None]] = {}

    @property
    def in_doubt(self) -> int:
        """How many sessions are being looked into."""
        return len(self._tasks)

    def start(self, reference: SessionReference) -> None:
        """Look into a session; anew, if that is under way already."""
        earlier = self._tasks.get(reference)
        if earlier is not None:
            earlier.cancel()
        task = asyncio.get_running_loop().create_task(
            self._reconcile(reference), name="reconcile", context=contextvars.Context()
        )
        self._tasks[reference] = task
        task.add_done_callback(lambda _done: self._finish(reference, task))

    async def close(self) -> None:
        """Stop looking."""
        tasks = set(self._tasks.values())
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    async def _reconcile(self, reference: SessionReference) -> None:
        for pause_seconds in (_PAUSE_SECONDS, _SETTLE_SECONDS):
            await self._sleep(pause_seconds)
            if not await self._look(reference):
                return

    async def _look(self, reference: SessionReference) -> bool:
        for _ in range(_MAX_TRIES):
            try:
                snapshot = await self._find(reference)
            except Unavailable:
                await self._sleep(_PAUSE_SECONDS)
                continue
            if snapshot is not None:
                await self._found(snapshot)
            elif isinstance(reference, ById):
                await self._gone(reference.id)
            return True
        return False

    def _finish(self, reference: SessionReference, task: asyncio.Task[None]) -> None:
        if self._tasks.get(reference) is task:
            del self._tasks[reference]
        if not task.cancelled():
            task.exception()
