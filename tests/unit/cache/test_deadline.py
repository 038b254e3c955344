"""Deadlines that do not blame a server for this process being late."""

import asyncio
import socket
import time

import pytest

from zpmeow.cache.deadline import Deadline


def now() -> float:
    """Tell the time of the loop."""
    return asyncio.get_running_loop().time()


async def hang_until(when: float) -> None:
    """Wait for what never comes, within a deadline."""
    async with Deadline(when):
        await asyncio.Event().wait()


async def test_deadline_raises_when_it_comes() -> None:
    """What is awaited is cancelled and TimeoutError raised."""
    cancelled = False

    async def hang() -> None:
        nonlocal cancelled
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled = True
            raise

    with pytest.raises(TimeoutError):
        async with Deadline(now() + 0.001):
            await hang()
    assert cancelled


async def test_deadline_raises_when_it_has_passed_before() -> None:
    """A deadline of the past lets nothing wait."""
    with pytest.raises(TimeoutError):
        async with Deadline(now() - 1):
            await asyncio.Event().wait()


async def test_deadline_does_nothing_when_the_block_ends_first() -> None:
    """The task goes on uncancelled, also long after the deadline."""
    async with Deadline(now() + 0.001):
        await asyncio.sleep(0)

    await asyncio.sleep(0.01)


async def test_deadline_passes_errors_on() -> None:
    """An error in the block leaves it as it is."""
    with pytest.raises(KeyError):
        async with Deadline(now() + 1):
            raise KeyError


async def test_deadline_passes_a_cancellation_on_when_it_comes_from_elsewhere() -> None:
    """Whoever cancels the task gets it cancelled, even if the deadline came in the same turn."""

    async def work(when: float) -> None:
        async with Deadline(when):
            await asyncio.Event().wait()

    early = asyncio.create_task(work(now() + 10))
    late = asyncio.create_task(work(now() + 0.001))
    await asyncio.sleep(0)
    time.sleep(0.005)  # noqa: ASYNC251  (the loop is held up on purpose)
    for _ in range(4):
        await asyncio.sleep(0)
    early.cancel()
    late.cancel()

    with pytest.raises(asyncio.CancelledError):
        await early
    with pytest.raises((asyncio.CancelledError, TimeoutError)):
        await late


async def test_deadlines_keep_apart_when_they_are_nested() -> None:
    """The inner one raises inside, and the outer one still outside."""

    async def work() -> None:
        async with Deadline(now() + 0.001):
            with pytest.raises(TimeoutError):
                await hang_until(now() - 1)
            await asyncio.Event().wait()

    with pytest.raises(TimeoutError):
        await work()


async def test_deadlines_are_one_when_they_come_together() -> None:
    """The task is left uncancelled after both."""
    when = now() + 0.001

    async def work() -> None:
        async with Deadline(when):
            await hang_until(when)

    with pytest.raises(TimeoutError):
        await work()
    await asyncio.sleep(0)


async def test_deadline_spares_an_answer_that_lies_in_the_socket_when_the_loop_was_held_up() -> None:
    """The answer came in time; that this process was busy for longer than the deadline is not the server's fault."""
    ours, theirs = socket.socketpair()
    reader, writer = await asyncio.open_connection(sock=ours)

    def answer_and_hold_up() -> None:
        theirs.send(b"answer")
        time.sleep(0.06)

    async with Deadline(now() + 0.02):
        asyncio.get_running_loop().call_soon(answer_and_hold_up)
        answer = await reader.read(100)

    assert answer == b"answer"
    theirs.close()
    writer.close()
    await writer.wait_closed()
