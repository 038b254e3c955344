"""Work that nobody waits for: kept alive, bounded in number, ended at close, its failures reported."""

import asyncio
import contextvars
from collections.abc import Awaitable, Callable

from zpmeow.events import BackgroundTaskCrashed, Observer

MAX_TASKS = 1_000
"""Arbitrary. Each holds a portion of a fill, some KiB; beyond that the tier cannot keep up and fills are dropped."""


class BackgroundTasks:
    """A set of running tasks."""

    def __init__(self, *, observer: Observer, expected: type[Exception], max_tasks: int = MAX_TASKS) -> None:
        """Run at most `max_tasks` at a time; an `expected` error is no crash: nobody relies on the work."""
        self._observer = observer
        self._expected = expected
        self._max_tasks = max_tasks
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self, work: Callable[[], Awaitable[object]], *, name: str) -> bool:
        """Start the work outside the caller's context; drop it and return False when too much is running.

        The empty context matters: a request's call budget must not be spent by what outlives it.
        """
        if len(self._tasks) >= self._max_tasks:
            return False
        task = asyncio.get_running_loop().create_task(self._run(work), name=name, context=contextvars.Context())
        self._tasks.add(task)
        task.add_done_callback(self._finish)
        return True

    async def close(self, *, grace_seconds: float) -> None:
        """Give the running tasks some time, then cancel them."""
        if not self._tasks:
            return
        _, late = await asyncio.wait(set(self._tasks), timeout=grace_seconds)
        for task in late:
            task.cancel()
        if late:
            await asyncio.wait(late)

    async def _run(self, work: Callable[[], Awaitable[object]]) -> None:
        try:
            await work()
        except self._expected:
            return

    def _finish(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._observer(BackgroundTaskCrashed(task.get_name(), error))
