"""Callers who hang up while they wait: their handlers are cancelled, so that nothing is left behind.

All other handlers are carried through: a write that has begun must not depend on who still listens.
"""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from aiohttp import web


class HangUpNotice(web.RequestHandler):
    """A connection that can cancel the handler of its request when its peer is gone."""

    __slots__ = ("_waiting",)

    _waiting: "asyncio.Task[object] | None"

    def connection_lost(self, exc: BaseException | None) -> None:
        """End, and with it the wait."""
        if self._waiting is not None:
            self._waiting.cancel()
        super().connection_lost(exc)

    @contextmanager
    def cancelling_wait(self) -> Iterator[None]:
        """Cancel the task that runs this block when the peer hangs up."""
        task = asyncio.current_task()
        assert task is not None
        if self.transport is None:
            task.cancel()
        self._waiting = task
        try:
            yield
        finally:
            self._waiting = None


@contextmanager
def cancelled_by_hang_up(request: web.Request) -> Iterator[None]:
    """Cancel the task that runs this block when the request's caller hangs up."""
    connection = request.protocol
    assert isinstance(connection, HangUpNotice)
    with connection.cancelling_wait():
        yield
