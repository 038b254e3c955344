"""One load per key at a time: callers that come while it is under way wait for that one. Those of one turn of the event
loop, or while all flights that may be under way are, share a flight. One that has waited in line for long is not joined
any more: who comes then has his keys loaded once more, by the next.

    load(a) ─┐
    load(b) ─┼── one turn ── fly([a, b, c]) ──→ each caller's own answer
    load(c) ─┘

The flight is a task and has a context of its own. A caller that goes away cancels neither the load nor the other
callers; a load that nobody waits for any more still ends, and its failure is not reported as unhandled.
Who cannot tell whether what a load will bring is outdated can bound how old the ones are that are joined. A caller that
was on its way when a load ended (it asked a tier first) takes what that brought, as if it had been a moment earlier: of
a crowd, most come too late to join.
(The ideas: Go's x/sync/singleflight, and Facebook's DataLoader.)
"""

import asyncio
import contextlib
import contextvars
import math
import time
from collections import deque
from collections.abc import Awaitable, Callable, Hashable, Sequence
from functools import partial
from typing import Generic, TypeAlias, TypeVar

from zpmeow.cache.event_loop import OwnLoop

J = TypeVar("J", bound=Hashable)
K = TypeVar("K", bound=Hashable)
R = TypeVar("R")

Landing: TypeAlias = "asyncio.Future[None]"
Wait: TypeAlias = Callable[[Landing], Awaitable[None]]
"""Waits for a future that is its caller's own, to be given up by ending it."""


async def wait_without_limit(landing: Landing) -> None:
    """Wait until the flight has landed, whenever that is."""
    await landing


LINGER_SECONDS = 0.25
"""How long what was brought is kept for those on their way: some times what a tier's deadline lets them take."""

MOST_KEYS = 300
"""Arbitrary: the conversation costs next to nothing by then, and the first need not wait long for the last."""


class Flight(Generic[J, K, R]):
    """Some keys that are loaded together.

    Attributes:
        job: how.
        keys: which.
        opened_at: when the first of them was asked for, by the monotonic clock.
        began_at: when it began to load, infinite before; what it brings is as old as that.
        landed_at: when it had loaded, or failed, infinite before.
        lingers: whether what it brings is kept for those who are on their way when it lands.
        brought: what it has brought, unless it has failed.
    """

    __slots__ = ("_landings", "began_at", "brought", "job", "keys", "landed_at", "lingers", "opened_at")
    brought: R

    def __init__(self, job: J, *, opened_at: float) -> None:
        """Open it, without keys."""
        self.job = job
        self.keys: list[K] = []
        self.opened_at = opened_at
        self.began_at = math.inf
        self.landed_at = math.inf
        self.lingers = False
        self._landings: list[Landing] = []

    @property
    def waiting(self) -> int:
        """How many callers wait for it."""
        return sum(not landing.done() for landing in self._landings)

    def landing(self, loop: asyncio.AbstractEventLoop) -> Landing:
        """Return what ends as the flight does, for one caller; ended before, it does nothing to the flight."""
        landing: Landing = loop.create_future()
        self._landings.append(landing)
        return landing

    def land(self, now: float, error: BaseException | None) -> None:
        """Tell all who wait."""
        self.landed_at = now
        for landing in self._landings:
            if landing.done():
                continue
            if error is None:
                landing.set_result(None)
            elif isinstance(error, asyncio.CancelledError):
                landing.cancel()
            else:
                landing.set_exception(error)
        self._landings.clear()


class SingleFlight(Generic[J, K, R]):
    """Coalesces loads by key, and gathers keys by job."""

    def __init__(
        self,
        *,
        fly: Callable[[Flight[J, K, R]], Awaitable[R]],
        on_coalesced: Callable[[K], None],
        join_since: Callable[[], float] = lambda: -math.inf,
        wait: Wait = wait_without_limit,
        most_keys: int = MOST_KEYS,
        most_under_way: float = math.inf,
        boarding_seconds: float = math.inf,
        may_linger: Callable[[R, K], bool] = lambda _brought, _key: True,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """Begin with no flights.

        Args:
            fly: loads the keys of a flight.
            on_coalesced: is called for each key that a caller finds under way.
            join_since: when a flight must have begun, or later, to be joined now, by `monotonic`.
            wait: waits for a flight as long as the caller has time; may give it up.
            most_keys: with so many keys a flight takes no others.
            most_under_way: so many fly at once; what comes meanwhile is gathered.
            boarding_seconds: one that has waited for so long takes no other keys, and nobody joins it.
            may_linger: whether what was brought for a key may be given to who comes late.
            monotonic: seconds.
        """
        self._fly_with = fly
        self._on_coalesced = on_coalesced
        self._wait = wait
        self._join_since = join_since
        self._most_keys = most_keys
        self._most_under_way = most_under_way
        self._boarding_seconds = boarding_seconds
        self._may_linger = may_linger
        self._monotonic = monotonic
        self._loop = OwnLoop()
        self._open: dict[J, Flight[J, K, R]] = {}
        self._flights: dict[K, Flight[J, K, R]] = {}
        self._line: deque[Flight[J, K, R]] = deque()
        self._under_way: set[asyncio.Task[R]] = set()
        self._landed: dict[K, Flight[J, K, R]] = {}
        """Those that landed last are at the end."""
        self._forgetting: asyncio.TimerHandle | None = None

    @property
    def in_flight(self) -> int:
        """How many keys are being loaded now, or are in line for that."""
        return len(self._flights)

    @property
    def waiting(self) -> int:
        """How many callers wait for a flight that may not begin yet."""
        return sum(flight.waiting for flight in self._line)

    async def load(
        self, keys: Sequence[K], job: J, *, asked_at: float = math.inf, lingers: bool = True
    ) -> dict[Flight[J, K, R], list[K]]:
        """Load the keys, joining the flights that are under way; return those, landed, and which keys each has brought.

        `job`: keys with equal ones may be loaded together. `asked_at`: when the caller began, by `monotonic`; what has
        landed since is good enough for it. `lingers`: what this load brings is kept for those who are on their way now.
        Raises what the loads raise. After a cancellation the loads go on.
        """
        joined: dict[Flight[J, K, R], list[K]] = {}
        rest = []
        oldest = self._join_since()
        for key in keys:
            flight = self._find_flight(key, oldest, asked_at)
            if flight is None:
                rest.append(key)
            else:
                joined.setdefault(flight, []).append(key)
                self._on_coalesced(key)
        if rest:
            joined.setdefault(self._board(rest, job, lingers=lingers), []).extend(rest)
        landings = [flight.landing(self._loop()) for flight in joined if flight.landed_at == math.inf]
        try:
            for landing in landings:
                await self._wait(landing)
        except BaseException:
            for landing in landings:
                landing.cancel()  # One that has failed, too, so that nobody complains that its failure was never seen.
            raise
        return joined

    async def close(self, *, grace_seconds: float) -> None:
        """Wait for the flights under way; their own deadlines end them in any case."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(grace_seconds):
                while self._flights or self._under_way:
                    if self._under_way:
                        await asyncio.wait(self._under_way)
                    else:
                        await asyncio.sleep(0)  # They begin when this turn is over.

    def _find_flight(self, key: K, oldest: float, asked_at: float) -> Flight[J, K, R] | None:
        flight = self._flights.get(key)
        if flight is not None and flight.began_at >= oldest and not self._is_late(flight):
            return flight
        landed = self._landed.get(key)
        if landed is not None and landed.began_at >= oldest and landed.landed_at > asked_at:
            return landed
        return None

    def _is_late(self, flight: Flight[J, K, R]) -> bool:
        """Tell whether it has waited in line for so long that little of its time is left."""
        return flight.began_at == math.inf and self._monotonic() - flight.opened_at > self._boarding_seconds

    def _board(self, keys: list[K], job: J, *, lingers: bool) -> Flight[J, K, R]:
        """Add the keys to a flight that has not begun."""
        flight = self._open.get(job)
        if flight is None or self._is_late(flight):
            flight = self._open[job] = Flight(job, opened_at=self._monotonic())
            # In a context of nobody's: whoever joins must not be bound to what its first caller has left.
            self._loop().call_soon(self._begin_or_line_up, flight, context=contextvars.Context())
        flight.keys += keys
        flight.lingers = flight.lingers or lingers
        for key in keys:
            self._flights[key] = flight
        if len(flight.keys) >= self._most_keys:
            del self._open[job]
        return flight

    def _begin_or_line_up(self, flight: Flight[J, K, R]) -> None:
        """The turn is over: begin, or wait, open for other keys, until one of those under way has landed."""
        if len(self._under_way) < self._most_under_way:
            self._begin(flight)
        else:
            self._line.append(flight)

    def _begin(self, flight: Flight[J, K, R]) -> None:
        if self._open.get(flight.job) is flight:
            del self._open[flight.job]
        task = self._loop().create_task(self._fly(flight))
        self._under_way.add(task)
        task.add_done_callback(partial(self._land, flight))

    async def _fly(self, flight: Flight[J, K, R]) -> R:
        flight.began_at = self._monotonic()
        return await self._fly_with(flight)

    def _land(self, flight: Flight[J, K, R], task: asyncio.Task[R]) -> None:
        self._under_way.discard(task)
        # Asking for the failure marks it as seen, for the case that every caller has gone away.
        error = asyncio.CancelledError() if task.cancelled() else task.exception()
        if error is None:
            flight.brought = task.result()
        own = [key for key in flight.keys if self._flights.get(key) is flight]
        for key in own:
            del self._flights[key]
        flight.land(self._monotonic(), error)
        if self._line:
            self._begin(self._line.popleft())
        if flight.lingers and error is None:
            self._linger(flight, own)

    def _linger(self, flight: Flight[J, K, R], keys: Sequence[K]) -> None:
        for key in keys:
            if self._may_linger(flight.brought, key):
                self._landed.pop(key, None)
                self._landed[key] = flight
        self._forget_later()

    def _forget_later(self) -> None:
        """One timer for all: a timer for each flight costs as much as the rest of it."""
        if self._landed and self._forgetting is None:
            self._forgetting = self._loop().call_later(LINGER_SECONDS, self._forget)

    def _forget(self) -> None:
        self._forgetting = None
        old = self._monotonic() - LINGER_SECONDS
        for key, flight in list(self._landed.items()):
            if flight.landed_at > old:
                break
            del self._landed[key]
        self._forget_later()
