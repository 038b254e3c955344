"""Runs the application on a port, and stops it so that no client that behaves loses a request.

The stop, in this order: the port is closed; every answer says `Connection: close` from now on; who waits is answered;
connections that stay without a request for a moment are closed; running requests get their time; what then still runs
is cancelled. (aiohttp alone would close busy keep-alive connections under their clients' next request. Were
the answers first, the clients' new connections would stand in the port's queue just when it is closed.)
"""

import asyncio
import errno
import os
import socket
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from aiohttp import web

from zpmeow.api.connection import Connection
from zpmeow.api.endpoint import DRAINING, RECALLED
from zpmeow.api.plain_paths import PLAIN_PATHS
from zpmeow.api.unmatched import Handler, refusing_unmatched
from zpmeow.events import Observer

DRAIN_SECONDS = 10.0
_BACKLOG = 1024
_SEND_BUFFER_BYTES = 128 * 1024  # The kernel would let each grow to 4 MiB of answers that nobody reads.
_IDLE_GRACE_SECONDS = 1.0  # A client that calls at least once in this time learns of the stop by an answer.
_POLL_SECONDS = 0.02
_CANCELLED_SECONDS = 1.0  # What cancelled handlers get for tidying up.
_HEAD_TIMEOUT_SECONDS = 10.0
_IDLE_TIMEOUT_SECONDS = 75.0  # Longer than the 60 s for which common proxies keep a connection.


class ListenError(Exception):
    """The service cannot listen on the address; the message says why."""


class PortTakenError(ListenError):
    """Another process listens there."""


@dataclass(slots=True, frozen=True, kw_only=True)
class Timeouts:
    """How long peers may take, seconds: for a head from its first byte to its last, and between requests."""

    head_seconds: float = _HEAD_TIMEOUT_SECONDS
    idle_seconds: float = _IDLE_TIMEOUT_SECONDS


class Server:
    """A running server. Made by `open_server`; must be stopped."""

    def __init__(self, *, runner: web.AppRunner, listener: asyncio.Server, connect: Callable[[], Connection]) -> None:
        """Take over what runs already; `connect` makes the protocol of a new connection."""
        self._runner = runner
        self._connect = connect
        self._listener = listener
        self._stopping: asyncio.Task[None] | None = None
        self._impatient = False
        self.port: int = listener.sockets[0].getsockname()[1]

    async def stop(self, drain_seconds: float = DRAIN_SECONDS) -> None:
        """Stop; running requests get `drain_seconds` at most. Callable twice: the second waits for the first.

        If the caller is cancelled, the stop goes on, but without patience for running requests.
        """
        if self._stopping is None:
            self._stopping = asyncio.create_task(self._stop(drain_seconds))
        try:
            await asyncio.shield(self._stopping)
        except asyncio.CancelledError:
            self._impatient = True
            raise

    async def _stop(self, drain_seconds: float) -> None:
        try:
            await self._close_port()
            self._runner.app[DRAINING].begin()
            await self._drain(drain_seconds)
        finally:
            await self._runner.cleanup()

    async def _close_port(self) -> None:
        """Close the port, but not under those who stand in its queue: to them they are connected.

        The copies keep the port open while the event loop lets go of it, until their queue is empty.
        """
        copies = [socket.socket(fileno=os.dup(line.fileno())) for line in self._listener.sockets]
        self._listener.close()
        waiting = [accepted for copy in copies for accepted in _accept_all(copy)]
        for accepted in waiting:
            await asyncio.get_running_loop().connect_accepted_socket(self._connect, accepted)

    async def _drain(self, drain_seconds: float) -> None:
        server = self._runner.server
        assert server is not None
        loop = asyncio.get_running_loop()
        began = loop.time()
        while server.connections and not self._impatient and (waited := loop.time() - began) < drain_seconds:
            if waited >= _IDLE_GRACE_SECONDS:
                for connection in server.connections:
                    if isinstance(connection, Connection):
                        connection.close_if_idle()
            await asyncio.sleep(_POLL_SECONDS)


def _accept_all(port: socket.socket) -> list[socket.socket]:
    """Accept who stands in the queue of a listening socket, and close it."""
    found: list[socket.socket] = []
    with port:
        port.settimeout(0)
        try:
            while True:
                accepted, _ = port.accept()
                accepted.settimeout(0)
                found.append(accepted)
        except OSError:
            return found  # The queue is empty, or nothing more can be accepted.


def shortened(app: web.Application, handler: Handler) -> Handler:
    """Return the application's handler, with the short ways before it: the same answer again, a plain path."""
    recalled, plain_paths = app[RECALLED], app[PLAIN_PATHS]

    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        kept = recalled.find(request)
        if kept is not None:
            assert isinstance(request, web.Request)
            return recalled.repeat(kept, request) or await kept.ask_again(request)
        found = plain_paths.find(request)
        if found is None:
            return await handler(request)
        endpoint, names = found
        assert isinstance(request, web.Request)
        return await endpoint.answer(request, names)

    return answer


async def open_server(
    app: web.Application, *, host: str, port: int, observer: Observer, timeouts: Timeouts | None = None
) -> Server:
    """Serve the application.

    A client that hangs up does not cancel its request: a write that has begun is carried through.

    Args:
        app: made by `create_app`.
        host: a name or address to listen on.
        port: 0 lets the system choose; `Server.port` tells.
        observer: learns of what never became a request.
        timeouts: how long peers may take.

    Raises:
        ListenError: the service cannot listen there; PortTakenError: because someone else does.
    """
    limits = timeouts or Timeouts()
    runner = web.AppRunner(app, handle_signals=False, shutdown_timeout=_CANCELLED_SECONDS)
    await runner.setup()
    try:
        server = runner.server
        assert server is not None
        server.request_handler = shortened(app, refusing_unmatched(app, server.request_handler))
        factory = partial(
            Connection,
            server,
            observer=observer,
            head_timeout_seconds=limits.head_seconds,
            idle_timeout_seconds=limits.idle_seconds,
        )
        listener = await asyncio.get_running_loop().create_server(factory, host, port, backlog=_BACKLOG)
        for line in listener.sockets:
            line.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER_BYTES)  # Connections inherit it.
    except OSError as error:
        await runner.cleanup()
        if error.errno == errno.EADDRINUSE:
            message = f"port {port} on {host} is taken: another service (or another zpmeow) listens there"
            raise PortTakenError(message) from error
        message = f"cannot listen on {host}, port {port}: {error.strerror or error}"
        raise ListenError(message) from error
    return Server(runner=runner, listener=listener, connect=factory)
