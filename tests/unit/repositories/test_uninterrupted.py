"""Uninterrupted work: it ends even when its caller goes away."""

import asyncio

import pytest

from zpmeow.repositories.uninterrupted import Uninterrupted


async def test_work_ends_when_its_caller_is_cancelled() -> None:
    """The caller is gone at once, the work is done all the same."""
    release, done = asyncio.Event(), asyncio.Event()
    writes = Uninterrupted()

    async def work() -> None:
        await release.wait()
        done.set()

    caller = asyncio.create_task(writes.run(work))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller
    release.set()
    await writes.close(grace_seconds=1)

    assert done.is_set()


async def test_failure_reaches_the_caller() -> None:
    """What the work raises is raised."""

    async def work() -> None:
        message = "no"
        raise LookupError(message)

    with pytest.raises(LookupError):
        await Uninterrupted().run(work)
