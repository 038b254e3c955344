"""A TCP proxy in front of one server that breaks the way to it, each direction by itself, at any time.

    client ──→ up ──→ server
    client ←── down ←── server

What becomes of the bytes of one direction is an `Impairment`; what becomes of new connections is an `Admission`.
Connections that are there can be reset or half closed, and another server can take the place of the one behind the
proxy, at the same address, as after a failover. What was done is counted, so that who asked for it can see that it was.
"""

import asyncio
import socket
import struct
from collections import Counter, deque
from dataclasses import dataclass
from enum import Enum
from random import Random
from typing import cast

from typing_extensions import override

_CONNECT_SECONDS = 5.0
_RESET_AT_ONCE = struct.pack("ii", 1, 0)
_PORTIONS_PER_SECOND = 50  # Of a limited bandwidth.


class Effect(Enum):
    """What the proxy counts: chunks that were DELAYED … LOST on their way, connections that were TORN … UNANSWERED."""

    DELAYED = "delayed"
    HELD = "held"
    SLICED = "sliced"
    THROTTLED = "throttled"
    CORRUPTED = "corrupted"
    LOST = "lost"
    TORN = "torn"
    CUT = "cut"
    CLOSED_UP = "closed upwards"
    CLOSED_DOWN = "closed downwards"
    UNANSWERED = "unanswered"


@dataclass(slots=True, frozen=True, kw_only=True)
class Impairment:
    """What becomes of the bytes of one direction, chunk by chunk as they come. Their order stays.

    Attributes:
        latency_seconds, jitter_seconds: a chunk goes on so much later, and up to so much more.
        stuck_ratio, stuck_seconds: this share of the chunks waits between so long and so long, and all that follows
            waits with it, as after lost packets.
        is_held: nothing goes on, and nobody is told. What was held arrives late, when the way is free again, even if
            its sender has gone meanwhile: a command that timed out runs then.
        slice_bytes, sliced_ratio: this share of the chunks goes on in slices of this size; 0: whole.
        bytes_per_second: no faster than this; 0: as fast as they come.
        corrupted_ratio: in this share of the chunks a bit is flipped.
        torn_ratio: of this share of the chunks one half goes on, then both connections are reset.
    """

    latency_seconds: float = 0.0
    jitter_seconds: float = 0.0
    stuck_ratio: float = 0.0
    stuck_seconds: tuple[float, float] = (0.0, 0.0)
    is_held: bool = False
    slice_bytes: int = 0
    sliced_ratio: float = 1.0
    bytes_per_second: float = 0.0
    corrupted_ratio: float = 0.0
    torn_ratio: float = 0.0

    @property
    def effects(self) -> frozenset[Effect]:
        """What is counted while it lasts, once enough chunks have come."""
        is_had = {
            Effect.DELAYED: self.latency_seconds or self.jitter_seconds or self.stuck_ratio,
            Effect.HELD: self.is_held,
            Effect.SLICED: self.slice_bytes and self.sliced_ratio,
            Effect.THROTTLED: self.bytes_per_second,
            Effect.CORRUPTED: self.corrupted_ratio,
            Effect.TORN: self.torn_ratio,
        }
        return frozenset(effect for effect, value in is_had.items() if value)

    @property
    def portion_bytes(self) -> int:
        """In portions of which size a chunk goes on when the bandwidth is limited; 0: whole."""
        return max(1, int(self.bytes_per_second / _PORTIONS_PER_SECOND)) if self.bytes_per_second else 0


NONE = Impairment()
HELD = Impairment(is_held=True)


class Admission(Enum):
    """What becomes of new connections. `HOLD`: they are accepted, and lead nowhere until the next change."""

    PASS = "pass"
    HOLD = "hold"
    REFUSE = "refuse"


class FaultProxy:
    """Listens on a port of 127.0.0.1 that stays its own until `close`."""

    def __init__(self, *, target_port: int, chance: Random | None = None) -> None:
        """Lead to this port of 127.0.0.1; `open` begins. `chance` decides what a ratio leaves to it."""
        self.up = self.down = NONE
        self.chance = chance or Random(0)
        self.target_port = target_port
        self.admission = Admission.PASS
        self.pairs: set[_Pair] = set()
        self.effects: Counter[Effect] = Counter()
        # Bound but never listened on: it keeps the port for us while nobody listens.
        self._reservation = _bound_socket(0)
        self.port: int = self._reservation.getsockname()[1]
        self._server: asyncio.Server | None = None

    async def open(self) -> None:
        """Begin to accept connections."""
        listener = _bound_socket(self.port)
        make = asyncio.get_running_loop().create_server
        self._server = await make(lambda: _Pair(self).client, sock=listener, backlog=1024)

    def close(self) -> None:
        """End all connections and give the port back."""
        self._stop_listening()
        self.cut()
        self._reservation.close()

    def impair(self, *, up: Impairment = NONE, down: Impairment = NONE) -> None:
        """Do this to both directions from now on; without arguments, let everything through again."""
        self.up, self.down = up, down
        self._go_on()

    async def admit(self, admission: Admission) -> None:
        """Do this to new connections from now on; those that are there stay."""
        before, self.admission = self.admission, admission
        if admission is Admission.REFUSE:
            self._stop_listening()
        elif before is Admission.REFUSE:
            await self.open()
        self._go_on()

    def retarget(self, port: int) -> None:
        """Lead to another server from now on; connections to the old one are reset."""
        self.target_port = port
        self.cut()

    def cut(self) -> None:
        """Reset all connections."""
        self.effects[Effect.CUT] += len(self.pairs)
        for pair in list(self.pairs):
            pair.reset()

    def strand(self) -> None:
        """Let nothing through any more on the connections that are there, for good; new ones are none of these."""
        for pair in list(self.pairs):
            pair.is_stranded = True

    def half_close(self, *, up: bool = False, down: bool = False) -> None:
        """End these directions of all connections that are there; what comes the other way still goes on.

        Args:
            up: the servers are told that their clients will send nothing more.
            down: the clients are told that nothing more will come.
        """
        for pair in list(self.pairs):
            for side, is_told, effect in (
                (pair.server, up, Effect.CLOSED_UP),
                (pair.client, down, Effect.CLOSED_DOWN),
            ):
                self.effects[effect] += is_told and side.end()

    def _go_on(self) -> None:
        for pair in list(self.pairs):
            pair.go_on()

    def _stop_listening(self) -> None:
        # Waiting for the server's end would be waiting for its connections, too (from Python 3.12 on).
        if self._server is not None:
            self._server.close()
            self._server = None


class _Pair:
    """A client's connection and the one to the server that belongs to it."""

    def __init__(self, proxy: FaultProxy) -> None:
        self.proxy = proxy
        self.client = _Side(self, is_client=True)
        self.server = _Side(self, is_client=False)
        self._connecting: asyncio.Task[None] | None = None
        self.is_stranded = False
        proxy.pairs.add(self)

    def go_on(self) -> None:
        """Connect, if that is still to be done and may be; send what is due."""
        if self.is_stranded:
            if self.client.is_gone or self.server.is_gone:
                self.reset()
        elif self._connecting is not None:
            self.client.send_due()
            self.server.send_due()
        elif self.proxy.admission is not Admission.HOLD:
            self._connecting = asyncio.create_task(self._connect(), name="proxy-connect")

    def other(self, side: "_Side") -> "_Side":
        """Return the side that this one's bytes go to."""
        return self.server if side is self.client else self.client

    def reset(self) -> None:
        """Reset both connections; what is under way is lost."""
        self.proxy.pairs.discard(self)
        if self._connecting is not None:
            self._connecting.cancel()
        for side in (self.client, self.server):
            side.reset()

    async def _connect(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(_CONNECT_SECONDS):
                await loop.create_connection(lambda: self.server, "127.0.0.1", self.proxy.target_port)
        except (OSError, TimeoutError):
            self.reset()
            return
        self.go_on()


class _Side(asyncio.Protocol):
    """One connection of a pair, and what came from it and is still under way to the other side."""

    def __init__(self, pair: _Pair, *, is_client: bool) -> None:
        self._pair = pair
        self._is_client = is_client
        self._pieces: deque[tuple[float, bytes]] = deque()
        self._timer: asyncio.Handle | None = None
        self._last_due = 0.0
        self._is_torn = False
        self._has_ended = False
        self.transport: asyncio.Transport | None = None
        self.is_gone = False

    @property
    def _impairment(self) -> Impairment:
        return self._pair.proxy.up if self._is_client else self._pair.proxy.down

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are no subclasses of asyncio's.
        self.transport = cast("asyncio.Transport", transport)
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self._is_client:
            self._count(Effect.UNANSWERED, when=self._pair.proxy.admission is Admission.HOLD)
            self._pair.go_on()

    @override
    def data_received(self, data: bytes) -> None:
        if self._is_torn:
            return  # Nothing comes after the tear.
        due = max(asyncio.get_running_loop().time() + self._delay_seconds(), self._last_due)
        bytes_per_second = self._impairment.bytes_per_second
        for piece in self._pieces_of(self._damaged(data)):
            self._pieces.append((due, piece))
            if bytes_per_second:
                due += len(piece) / bytes_per_second
        self._last_due = due
        self._count(Effect.THROTTLED, when=bytes_per_second > 0)
        self._count(Effect.HELD, when=self._impairment.is_held)
        self._count(Effect.LOST, when=self._pair.is_stranded)
        self.send_due()

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        self.is_gone = True
        self._pair.go_on()

    def send_due(self) -> None:
        """Send on what is due, its end included, and come again when the rest is."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        target = self._pair.other(self)
        if target.transport is None or self._impairment.is_held or self._pair.is_stranded:
            return
        loop = asyncio.get_running_loop()
        while self._pieces:
            due, piece = self._pieces[0]
            if due > loop.time():
                self._timer = loop.call_at(due, self.send_due)
                return
            self._pieces.popleft()
            target.write(piece)
            if self._impairment.slice_bytes and self._pieces:
                self._timer = loop.call_soon(self._send_next_turn)
                return
        if self._is_torn:
            self._count(Effect.TORN, when=self._pair in self._pair.proxy.pairs)
            self._pair.reset()
        elif self.is_gone:
            self._pair.proxy.pairs.discard(self._pair)
            target.transport.close()

    def end(self) -> bool:
        """Tell the peer that nothing more will come, and drop what would have; return whether that is news to it."""
        if self.transport is None or self.transport.is_closing() or self._has_ended:
            return False
        self._has_ended = True
        self.transport.write_eof()
        return True

    def write(self, data: bytes) -> None:
        """Send bytes to the peer, unless it cannot take any more."""
        if self.transport is not None and not self.transport.is_closing() and not self._has_ended:
            self.transport.write(data)

    def reset(self) -> None:
        """Reset the connection and forget what came from it."""
        self._pieces.clear()
        if self._timer is not None:
            self._timer.cancel()
        if self.transport is not None and not self.transport.is_closing():
            sock = self.transport.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_AT_ONCE)
            self.transport.abort()

    def _send_next_turn(self) -> None:
        """Send a slice one turn later than the next: a peer in this process reads between two slices, not before both.

        Were they written in one turn, or in two that follow each other, the kernel would put them together again.
        """
        self._timer = asyncio.get_running_loop().call_soon(self.send_due)

    def _delay_seconds(self) -> float:
        impairment, chance = self._impairment, self._pair.proxy.chance
        delay = impairment.latency_seconds
        if impairment.jitter_seconds:
            delay += chance.uniform(0, impairment.jitter_seconds)
        if chance.random() < impairment.stuck_ratio:
            delay += chance.uniform(*impairment.stuck_seconds)
        self._count(Effect.DELAYED, when=delay > 0)
        return delay

    def _damaged(self, data: bytes) -> bytes:
        """Return what is left of a chunk."""
        impairment, chance = self._impairment, self._pair.proxy.chance
        if chance.random() < impairment.corrupted_ratio:
            data = _with_a_flipped_bit(data, chance)
            self._count(Effect.CORRUPTED)
        if chance.random() < impairment.torn_ratio:
            data, self._is_torn = data[: len(data) // 2], True
        return data

    def _pieces_of(self, data: bytes) -> list[bytes]:
        """Return what a chunk is sent on as."""
        impairment = self._impairment
        size = impairment.slice_bytes if self._pair.proxy.chance.random() < impairment.sliced_ratio else 0
        self._count(Effect.SLICED, when=0 < size < len(data))
        size = size or impairment.portion_bytes or max(1, len(data))
        return [data[first : first + size] for first in range(0, len(data), size)]

    def _count(self, effect: Effect, *, when: bool = True) -> None:
        self._pair.proxy.effects[effect] += when


def _with_a_flipped_bit(data: bytes, chance: Random) -> bytes:
    changed = bytearray(data)
    changed[chance.randrange(len(changed))] ^= 1 << chance.randrange(8)
    return bytes(changed)


def _bound_socket(port: int) -> socket.socket:
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    sock.setblocking(False)  # noqa: FBT003  (the name of the call says what it means)
    sock.bind(("127.0.0.1", port))
    return sock
