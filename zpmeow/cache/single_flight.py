"""One load per key at a time: callers that come while it is under way wait for that one.

The load runs in a task and a context of its own. A caller that goes away cancels neither the load nor the other
callers; a load that nobody waits for any more still ends, and its failure is not reported as unhandled.
Who cannot tell whether what a load will bring is outdated can bound how old the ones are that are joined. A caller that
was on its way when a load ended (it asked a tier first) takes what that brought, as if it had been a moment earlier: of
a crowd, most come too late to join.
(The idea: Go's x/sync/singleflight. Unlike there, one flight may carry several keys.)
"""

import asyncio
import contextvars
import math
import time
from collections.abc import Awaitable, Callable, Hashable, Mapping, Sequence
from typing import Any, Generic, TypeAlias, TypeVar

from zpmeow.cache.event_loop import OwnLoop

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


Wait: TypeAlias = Callable[["asyncio.Future[Mapping[Any, Any]]"], Awaitable[Mapping[Any, Any]]]
"""Waits for a future that is its caller's own, to be given up by ending it."""


async def wait_without_limit(landing: asyncio.Future[V]) -> V:
    """Wait until the flight has landed, whenever that is."""
    return await landing


LINGER_SECONDS = 0.25
"""How long what was brought is kept for those on their way: some times what a tier's deadline lets them take."""

_Landed: TypeAlias = tuple["asyncio.Task[Mapping[K, V]]", float, float]
"""A flight, when it began, and when it landed."""


class SingleFlight(Generic[K, V]):
    """Coalesces loads by key."""

    def __init__(
        self,
        *,
        on_coalesced: Callable[[K], None],
        join_since: Callable[[], float] = lambda: -math.inf,
        wait: Wait = wait_without_limit,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """Begin with no flights.

        Args:
            on_coalesced: is called for each key that a caller finds under way.
            join_since: when a flight must have begun, or later, to be joined now, by `monotonic`.
            wait: waits for a flight as long as the caller has time; may give it up.
            monotonic: seconds.
        """
        self._on_coalesced = on_coalesced
        self._wait = wait
        self._join_since = join_since
        self._monotonic = monotonic
        self._flights: dict[K, tuple[asyncio.Task[Mapping[K, V]], float]] = {}
        self._landed: dict[K, _Landed[K, V]] = {}
        """Those that landed last are at the end."""
        self._forgetting: asyncio.TimerHandle | None = None
        self._loop = OwnLoop()
        self._tasks: set[asyncio.Task[Mapping[K, V]]] = set()

    @property
    def in_flight(self) -> int:
        """How many keys are being loaded now."""
        return len(self._flights)

    async def load(
        self,
        keys: Sequence[K],
        load: Callable[[Sequence[K]], Awaitable[Mapping[K, V]]],
        *,
        asked_at: float = math.inf,
        lingers: bool = True,
    ) -> dict[K, V]:
        """Return what `load` finds for the keys, joining the flights that are under way.

        `asked_at`: when the caller began, by `monotonic`; what has landed since is good enough for it. `lingers`: what
        this load brings is kept for those who are on their way now.
        Raises what the loads raise. After a cancellation the loads go on.
        """
        joined: dict[asyncio.Task[Mapping[K, V]], list[K]] = {}
        rest = []
        oldest = self._join_since()
        for key in keys:
            task = self._under_way(key, oldest, asked_at)
            if task is None:
                rest.append(key)
            else:
                joined.setdefault(task, []).append(key)
                self._on_coalesced(key)
        if rest:
            joined[self._start(rest, load, lingers=lingers)] = rest
        found: dict[K, V] = {}
        for task, wanted in joined.items():
            values = await self._wait(_landing(task))
            found.update((key, values[key]) for key in wanted if key in values)
        return found

    def _under_way(self, key: K, oldest: float, asked_at: float) -> asyncio.Task[Mapping[K, V]] | None:
        flight = self._flights.get(key)
        if flight is not None and flight[1] >= oldest:
            return flight[0]
        landed = self._landed.get(key)
        if landed is not None and landed[1] >= oldest and landed[2] > asked_at:
            return landed[0]
        return None

    async def close(self, *, grace_seconds: float) -> None:
        """Wait for the flights under way; their own deadlines end them in any case."""
        if self._tasks:
            await asyncio.wait(set(self._tasks), timeout=grace_seconds)

    def _start(
        self, keys: list[K], load: Callable[[Sequence[K]], Awaitable[Mapping[K, V]]], *, lingers: bool
    ) -> asyncio.Task[Mapping[K, V]]:
        async def fly() -> Mapping[K, V]:
            return await load(keys)

        # In a context of nobody's: whoever joins must not be bound to what its first caller has left.
        task = self._loop().create_task(fly(), context=contextvars.Context())
        self._tasks.add(task)
        began = self._monotonic()
        for key in keys:
            self._flights[key] = (task, began)
        task.add_done_callback(lambda _done: self._land(keys, task, lingers=lingers))
        return task

    def _land(self, keys: list[K], task: asyncio.Task[Mapping[K, V]], *, lingers: bool) -> None:
        self._tasks.discard(task)
        # Marks a failure as seen, for the case that every caller has gone away.
        failed = task.cancelled() or task.exception() is not None
        for key in keys:
            flight = self._flights.get(key)
            if flight is not None and flight[0] is task:
                del self._flights[key]
                if lingers and not failed:
                    self._landed.pop(key, None)
                    self._landed[key] = (*flight, self._monotonic())
        self._forget_later()

    def _forget_later(self) -> None:
        """One timer for all: a timer for each flight costs as much as the rest of it."""
        if self._landed and self._forgetting is None:
            self._forgetting = self._loop().call_later(LINGER_SECONDS, self._forget)

    def _forget(self) -> None:
        self._forgetting = None
        old = self._monotonic() - LINGER_SECONDS
        for key, landed in list(self._landed.items()):
            if landed[2] > old:
                break
            del self._landed[key]
        self._forget_later()


def _landing(flight: asyncio.Task[V]) -> asyncio.Future[V]:
    """Return a future of one caller's own, which ends as the flight does; ended before, it does nothing to the flight.

    (`asyncio.shield` makes one that nobody but the flight may end.)
    """
    landing: asyncio.Future[V] = flight.get_loop().create_future()

    def land(flight: asyncio.Task[V]) -> None:
        if landing.done():
            return
        if flight.cancelled():
            landing.cancel()
        elif (error := flight.exception()) is not None:
            landing.set_exception(error)
        else:
            landing.set_result(flight.result())

    if flight.done():
        land(flight)
    else:
        flight.add_done_callback(land)
    return landing
