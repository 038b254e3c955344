"""Background work: alive until done, bounded, its failures told."""

import asyncio
import contextvars

from zpmeow.cache.background import BackgroundTasks
from zpmeow.events import BackgroundTaskCrashed, Event

_VARIABLE: contextvars.ContextVar[str] = contextvars.ContextVar("_VARIABLE", default="unset")


async def test_unexpected_failure_is_told_and_an_expected_one_is_not() -> None:
    """Only what nobody foresaw reaches the observer."""
    events: list[Event] = []
    tasks = BackgroundTasks(observer=events.append, expected=TimeoutError)
    crash = ValueError("bug")

    async def fail(error: Exception) -> None:
        raise error

    tasks.start(lambda: fail(TimeoutError()), name="late")
    tasks.start(lambda: fail(crash), name="buggy")
    await tasks.close(grace_seconds=1)

    assert events == [BackgroundTaskCrashed("buggy", crash)]


async def test_work_is_dropped_when_too_much_is_running() -> None:
    """Beyond the bound nothing is started, and nothing is left unawaited; what has ended makes room."""
    release = asyncio.Event()
    done: list[int] = []
    tasks = BackgroundTasks(observer=lambda _event: None, expected=TimeoutError, max_size=5)

    async def work(number: int) -> None:
        await release.wait()
        done.append(number)

    def start(number: int, size: int) -> bool:
        return tasks.start(lambda: work(number), name="work", size=size)

    started = [start(0, 2), start(1, 3), start(2, 1)]
    release.set()
    await tasks.close(grace_seconds=1)
    await asyncio.sleep(0)
    again = start(3, 5)
    await tasks.close(grace_seconds=1)

    assert (started, again) == ([True, True, False], True)
    assert done == [0, 1, 3]


async def test_work_does_not_inherit_the_context_of_its_starter() -> None:
    """What outlives a request must not spend the request's budget."""
    seen: list[str] = []
    tasks = BackgroundTasks(observer=lambda _event: None, expected=TimeoutError)
    _VARIABLE.set("of the request")

    async def look() -> None:
        seen.append(_VARIABLE.get())

    tasks.start(look, name="look")
    await tasks.close(grace_seconds=1)

    assert seen == ["unset"]


async def test_close_cancels_what_does_not_end() -> None:
    """A stop is not held up for longer than the grace."""
    cancelled = asyncio.Event()
    tasks = BackgroundTasks(observer=lambda _event: None, expected=TimeoutError)

    async def hang() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    tasks.start(hang, name="hang")
    await asyncio.sleep(0)
    await tasks.close(grace_seconds=0)

    assert cancelled.is_set()
