"""Keeps the service's endless tasks alive: one that crashes is told of and started again."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from zpmeow.events import BackgroundTaskCrashed, Observer

_RESTART_SECONDS = 1.0  # Arbitrary: short enough to matter little, long enough not to fill a disk with complaints.


@asynccontextmanager
async def running(name: str, work: Callable[[], Awaitable[object]], *, observer: Observer) -> AsyncIterator[None]:
    """Run `work`, which never ends by itself, for as long as the block runs."""

    async def supervise() -> None:
        while True:
            try:
                await work()
            except Exception as error:  # noqa: BLE001  (whatever it was, the task must go on, and it is told)
                observer(BackgroundTaskCrashed(name, error))
            await asyncio.sleep(_RESTART_SECONDS)

    task = asyncio.create_task(supervise(), name=name)
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])
