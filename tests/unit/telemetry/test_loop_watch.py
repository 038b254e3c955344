"""How late the event loop comes."""

import asyncio
import time

from zpmeow.events import Event, LoopChecked
from zpmeow.telemetry.loop_watch import watch_loop


async def test_a_turn_that_holds_the_loop_up_is_told() -> None:
    """By as much as it came too late; looks go on after it."""
    events: list[Event] = []
    has_gone_on = asyncio.Event()

    def observe(event: Event, /) -> None:
        events.append(event)
        if len(events) == 3:
            has_gone_on.set()

    watching = asyncio.create_task(watch_loop(observe, every_seconds=0.01))
    await asyncio.sleep(0)

    time.sleep(0.1)  # noqa: ASYNC251  (the turn)
    async with asyncio.timeout(10):
        await has_gone_on.wait()
    watching.cancel()
    await asyncio.wait([watching])

    delays = [event.delay_seconds for event in events if isinstance(event, LoopChecked)]
    assert len(delays) == len(events)
    assert max(delays) > 0.05
    assert min(delays) >= 0
