"""Watches how late the event loop comes to what is due: so long every request waits besides, whatever it asks."""

import asyncio
from typing import Never

from zpmeow.events import LoopChecked, Observer

_EVERY_SECONDS = 0.1  # A turn that holds the loop up for longer than that is surely seen, a shorter one by its share.


async def watch_loop(observer: Observer, *, every_seconds: float = _EVERY_SECONDS) -> Never:
    """Tell of each look, until cancelled."""
    loop = asyncio.get_running_loop()
    while True:
        due_at = loop.time() + every_seconds
        await asyncio.sleep(every_seconds)
        observer(LoopChecked(max(0.0, loop.time() - due_at)))
