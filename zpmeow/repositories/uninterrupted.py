"""Work that is finished even when the caller who asked for it goes away."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

W = TypeVar("W")


class Uninterrupted:
    """Runs work in tasks of its own, in the caller's context."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self._tasks: set[asyncio.Future[object]] = set()

    async def run(self, work: Callable[[], Awaitable[W]]) -> W:
        """Return what the work returns, or raise what it raises. After a cancellation the work goes on."""

        async def call() -> W:
            return await work()

        task = asyncio.get_running_loop().create_task(call())
        self._tasks.add(task)  # type: ignore[arg-type]  # Future is invariant; nothing is put into it here.
        task.add_done_callback(self._finish)
        return await asyncio.shield(task)

    async def close(self, *, grace_seconds: float) -> None:
        """Give what is running some time; its own deadlines end it in any case."""
        if self._tasks:
            await asyncio.wait(set(self._tasks), timeout=grace_seconds)

    def _finish(self, task: asyncio.Future[W]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # Marks a failure as seen, for the case that the caller has gone away.
