"""Work that nobody waits for: kept alive, bounded in number, ended at close, its failures reported."""

import asyncio
import contextvars
from collections.abc import Awaitable, Callable
from functools import partial

from zpmeow.events import BackgroundTaskCrashed, Observer

MAX_SIZE = 4_000
"""Arbitrary. Entries, each of some KiB: beyond that the tier cannot keep up, and fills are dropped."""


class BackgroundTasks:
    """A set of running tasks."""

    def __init__(self, *, observer: Observer, expected: type[Exception], max_size: int = MAX_SIZE) -> None:
        """Run work of `max_size` together at most; an `expected` error is no crash: nobody relies on the work."""
        self._observer = observer
        self._expected = expected
        self._max_size = max_size
        self._size = 0
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self, work: Callable[[], Awaitable[object]], *, name: str, size: int = 1) -> bool:
        """Start the work outside the caller's context; drop it and return False when too much is running.

        The empty context matters: a request's call budget must not be spent by what outlives it.
        """
        if self._size + size > self._max_size:
            return False
        self._size += size
        task = asyncio.get_running_loop().create_task(self._run(work), name=name, context=contextvars.Context())
        self._tasks.add(task)
        task.add_done_callback(partial(self._finish, size))
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

    def _finish(self, size: int, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._size -= size
        if not task.cancelled() and (error := task.exception()) is not None:
            self._observer(BackgroundTaskCrashed(task.get_name(), error))
