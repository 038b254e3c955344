"""Connections to several processes, as behind a balancer: idle ones are used until their process ends them; new ones
are made to those that say that they are ready. Who refuses a connection is not ready until it says so again.
"""

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Generic, Protocol, TypeVar

from tests.coherence.http_client import ConnectionLostError, HttpClient, Request

_KEPT_IDLE = 32  # Of one process: a burst is no reason to keep its connections for good.
_POLL_SECONDS = 0.5  # As balancers do: what a process that stops does with its connections until then is its affair.
_READY = Request(method="GET", path="/health/ready", key="none")


class Caller(Protocol):
    """A connection to one process, and what is asked over it."""

    process: str

    async def connect(self) -> None:
        """Connect, if there is no connection that lives. Raises ConnectionLostError."""

    def close(self) -> None:
        """Hang up."""


CallerT = TypeVar("CallerT", bound=Caller)


class Rotation:
    """Which processes take traffic, as a balancer knows it: by asking each for its readiness again and again."""

    def __init__(self, ports: Mapping[str, int]) -> None:
        """Ask these ports of 127.0.0.1; all take traffic until they have said otherwise."""
        self._ports = ports
        self._ready = set(ports)

    async def watch(self) -> None:
        """Ask, for ever."""
        async with asyncio.TaskGroup() as group:
            for name, port in self._ports.items():
                group.create_task(self._watch(name, port))

    def in_turn(self, chance: random.Random) -> list[str]:
        """Return all processes in the order in which they are to be tried."""
        names = list(self._ports)
        chance.shuffle(names)
        return sorted(names, key=lambda name: name not in self._ready)

    def is_ready(self, name: str) -> bool:
        """Whether the process has said so when it was asked last."""
        return name in self._ready

    def refused(self, name: str) -> None:
        """Take note that the process has refused a connection."""
        self._ready.discard(name)

    async def _watch(self, name: str, port: int) -> None:
        client = HttpClient(port)
        try:
            while True:
                try:
                    is_ready = (await client.ask(_READY)).status == 200
                except (ConnectionLostError, TimeoutError):
                    is_ready = False
                (self._ready.add if is_ready else self._ready.discard)(name)
                await asyncio.sleep(_POLL_SECONDS)
        finally:
            client.close()


class Callers(Generic[CallerT]):
    """The idle connections."""

    def __init__(self, *, rotation: Rotation, make: Callable[[str], CallerT], chance: random.Random) -> None:
        """Make a caller of a process when none of its is idle."""
        self._rotation = rotation
        self._make = make
        self._chance = chance
        self._idle: dict[str, list[CallerT]] = {}

    async def take(self) -> CallerT | None:
        """Return one with a connection; who refuses is not asked, and the next one is tried. None: all refuse."""
        names = self._rotation.in_turn(self._chance)
        taking = [name for name in names if self._rotation.is_ready(name) or self._idle.get(name)]
        if taking:
            # One by chance: those that are ready, and those that are not but to which there are connections.
            chosen = self._chance.choice(taking)
            names = [chosen, *(name for name in names if name != chosen)]
        for name in names:
            idle = self._idle.setdefault(name, [])
            caller = idle.pop() if idle else self._make(name)
            try:
                await caller.connect()
            except ConnectionLostError:
                self._rotation.refused(name)
                continue
            return caller
        return None

    @asynccontextmanager
    async def one(self) -> AsyncIterator[CallerT | None]:
        """Lend one out for a block. A block that is broken off hangs up."""
        caller = await self.take()
        try:
            yield caller
        except BaseException:
            if caller is not None:
                caller.close()
            raise
        if caller is not None:
            self.put_back(caller)

    def put_back(self, caller: CallerT) -> None:
        """Keep it for the next request, unless there are enough."""
        idle = self._idle.setdefault(caller.process, [])
        if len(idle) < _KEPT_IDLE:
            idle.append(caller)
        else:
            caller.close()

    def close(self) -> None:
        """Hang up."""
        for idle in self._idle.values():
            for caller in idle:
                caller.close()
