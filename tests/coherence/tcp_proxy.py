"""A TCP proxy in front of one server for one client process, so that the way between them can be broken.

    PASS    bytes go through
    HOLD    nothing goes through, and nobody is told; what was held arrives late, when the way is free again, even if
            its sender has gone meanwhile: a command that timed out runs then
    SLOW    bytes go through some milliseconds late
    LOSSY   some of what is sent arrives seconds late, as after lost packets; its sender has given up by then
    REFUSE  connections are refused, and those that were there are cut

Another server can take the place of the one behind the proxy, at the same address, as after a failover.
"""

import asyncio
import socket
from enum import Enum
from random import Random
from typing import cast

from typing_extensions import override

_CONNECT_SECONDS = 5.0
_SLOW_SECONDS = 0.03  # There and back within the 50 ms that a service gives Redis, mostly.
_LOST_RATIO = 0.25  # So few that a service goes on sending: its breaker opens at 5 in a row, or at half of all.
LATE_SECONDS = (0.2, 3.0)


class Way(Enum):
    """What becomes of the bytes."""

    PASS = "pass"
    HOLD = "hold"
    SLOW = "slow"
    LOSSY = "lossy"
    REFUSE = "refuse"


class TcpProxy:
    """Listens on a port of 127.0.0.1 that stays its own until `close`."""

    def __init__(self, *, target_port: int, chance: Random | None = None) -> None:
        """Lead to this port of 127.0.0.1; `open` begins. `chance` decides how slow a slow way is."""
        self.way = Way.PASS
        self.chance = chance or Random(0)
        self.target_port = target_port
        self.pairs: set[_Pair] = set()
        # Bound but never listened on: it keeps the port for us while nobody listens.
        self._reservation = _bound_socket(0)
        self.port: int = self._reservation.getsockname()[1]
        self._server: asyncio.Server | None = None

    async def open(self) -> None:
        """Begin to accept connections."""
        listener = _bound_socket(self.port)
        self._server = await asyncio.get_running_loop().create_server(lambda: _Pair(self).client, sock=listener)

    def close(self) -> None:
        """End all connections and give the port back."""
        self._stop_listening()
        self.cut()
        self._reservation.close()

    async def set_way(self, way: Way) -> None:
        """Break the way, or free it."""
        before, self.way = self.way, way
        if way is Way.REFUSE:
            self._stop_listening()
            self.cut()
        elif before is Way.REFUSE:
            await self.open()
        for pair in list(self.pairs):
            pair.follow_way()

    def retarget(self, port: int) -> None:
        """Lead to another server from now on; connections to the old one are cut."""
        self.target_port = port
        self.cut()

    def cut(self) -> None:
        """Reset all connections."""
        for pair in list(self.pairs):
            pair.abort()

    def _stop_listening(self) -> None:
        # Waiting for the server's end would be waiting for its connections, too (from Python 3.12 on).
        if self._server is not None:
            self._server.close()
            self._server = None


class _Pair:
    """A client's connection and the one to the server that belongs to it."""

    def __init__(self, proxy: TcpProxy) -> None:
        self._proxy = proxy
        self._client = _Side(self)
        self._server = _Side(self)
        self._connecting: asyncio.Task[None] | None = None
        self._stuck_until = 0.0
        proxy.pairs.add(self)

    @property
    def client(self) -> "_Side":
        """The side that connected."""
        return self._client

    def follow_way(self) -> None:
        """Go on with what is held, if the way is free: connect, send, close."""
        if self._proxy.way in {Way.HOLD, Way.REFUSE} or asyncio.get_running_loop().time() < self._stuck_until:
            return
        if self._connecting is None:
            self._connecting = asyncio.create_task(self._connect(), name="proxy-connect")
            return
        self._flush(self._client, self._server)
        self._flush(self._server, self._client)

    def take(self, side: "_Side") -> None:
        """Go on with bytes that came just now, at once or later."""
        proxy, loop = self._proxy, asyncio.get_running_loop()
        delay_seconds = 0.0
        if proxy.way is Way.SLOW:
            delay_seconds = proxy.chance.uniform(0, _SLOW_SECONDS)
        elif proxy.way is Way.LOSSY and side is self._client and proxy.chance.random() < _LOST_RATIO:
            delay_seconds = proxy.chance.uniform(*LATE_SECONDS)
            self._stuck_until = loop.time() + delay_seconds
        if delay_seconds:
            loop.call_later(delay_seconds, self.follow_way)
        else:
            self.follow_way()

    def abort(self) -> None:
        """Reset both connections; what is held is lost."""
        self._proxy.pairs.discard(self)
        if self._connecting is not None:
            self._connecting.cancel()
        for side in (self._client, self._server):
            side.held.clear()
            if side.transport is not None:
                side.transport.abort()

    async def _connect(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(_CONNECT_SECONDS):
                await loop.create_connection(lambda: self._server, "127.0.0.1", self._proxy.target_port)
        except (OSError, TimeoutError):
            self.abort()
            return
        self.follow_way()

    def _flush(self, source: "_Side", target: "_Side") -> None:
        """Bring to the one side what came from the other, its end included."""
        if target.transport is None:
            return
        if source.held and not target.transport.is_closing():
            target.transport.write(bytes(source.held))
        source.held.clear()
        if source.is_gone:
            self._proxy.pairs.discard(self)
            target.transport.close()


class _Side(asyncio.Protocol):
    """One connection of a pair: what came from it and is not sent on yet, and whether it has ended."""

    def __init__(self, pair: _Pair) -> None:
        self._pair = pair
        self.transport: asyncio.Transport | None = None
        self.held = bytearray()
        self.is_gone = False

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are no subclasses of asyncio's.
        self.transport = cast("asyncio.Transport", transport)
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self is self._pair.client:
            self._pair.follow_way()

    @override
    def data_received(self, data: bytes) -> None:
        self.held += data
        self._pair.take(self)

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        self.is_gone = True
        self._pair.follow_way()


def _bound_socket(port: int) -> socket.socket:
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    sock.setblocking(False)  # noqa: FBT003  (the name of the call says what it means)
    sock.bind(("127.0.0.1", port))
    return sock
