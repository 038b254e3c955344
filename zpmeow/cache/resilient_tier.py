"""A tier that may fail at any time, made safe to ask: mode, then breaker, then deadline, around another tier.

Refusals are decided without awaiting, so a bypassed call costs microseconds. The deadline sits inside the
breaker's accounting: a call that it cuts short is a failure of the tier, while a caller that goes away says
nothing. Neither does a call that spent its time waiting for a connection, or that began when nearly all of
its request's time was used up: both end as CacheBusy.

`run` is the background task that lets a recovered tier back in. While the mode is BYPASS nothing at all is
sent, probes included.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Never, TypeVar

from typing_extensions import override

from zpmeow.cache.breaker import CircuitBreaker, CircuitState
from zpmeow.cache.call_budget import CallBudget, budget_or_fresh, observe_progress
from zpmeow.cache.deadline import Deadline
from zpmeow.cache.errors import CacheBusy, CacheBypassed, CacheError, CacheTimeout, CacheUnavailable
from zpmeow.cache.mode import CacheMode
from zpmeow.cache.tier import CacheTier, PutOutcome, TierInfo, Write

T = TypeVar("T")

FAIR_CHANCE_RATIO = 0.25
"""A call that could talk for less than this share of the timeout says nothing about the tier. Arbitrary: 12 ms of
50 are far above what a healthy Redis takes (0.2 to 1 ms) and what a busy process adds, and still leave a tier that
answers in 30 ms, so that the second call of each request fails, to be found slow."""

OWN_DELAY_RATIO = 0.5
"""A timer that comes later than this share of the timeout tells that this process has too little CPU, not that the
tier is slow. Seen with 50 callers on a saturated event loop: its turns took 40 ms, and the breaker opened 8 times
in 10 s on a Redis that answered in 0.2 ms, each time adding the database's work to the load."""

READMISSION_RATIO = 0.5
"""The share of the timeout within which a tier must answer to be let back in, while users' calls have all of it. Seen
with answers 40 to 50 ms late and a timeout of 50: the breaker opened and closed 33 times in a minute."""


class ResilientTier(CacheTier):
    """Another CacheTier behind mode, breaker and deadline."""

    def __init__(
        self,
        *,
        inner: CacheTier,
        breaker: CircuitBreaker,
        mode: CacheMode,
        timeout_seconds: float,
        catch_up: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        """Guard `inner`.

        Args:
            inner: the tier that may fail.
            breaker: belongs to this tier alone.
            mode: what the operator chose last.
            timeout_seconds: the limit for all calls of one request, and for a call outside any request.
            catch_up: brings a tier that came back up to date before it is used; talks to `inner` itself.
        """
        self._inner = inner
        self._breaker = breaker
        self._mode = mode
        self._timeout_seconds = timeout_seconds
        self._catch_up = catch_up
        self.normal = asyncio.Event()
        """Whether the operator allows calls; to be waited for, never to be set."""
        if mode is CacheMode.NORMAL:
            self.normal.set()

    @property
    def mode(self) -> CacheMode:
        """What the operator chose."""
        return self._mode

    @property
    def circuit_state(self) -> CircuitState:
        """The breaker's state."""
        return self._breaker.state

    @property
    def unusable_because(self) -> str | None:
        """Why a call would be refused now, without secrets; None if it would be made."""
        if self._mode is CacheMode.BYPASS:
            return "bypassed by an operator"
        if not self._breaker.allows_calls:
            return f"circuit {self._breaker.state.value}: {self._breaker.reason}"
        return None

    def check_usable(self) -> None:
        """Raise CacheBypassed if a call would be refused now."""
        if self._mode is CacheMode.BYPASS:
            raise CacheBypassed(_MODE)
        if not self._breaker.allows_calls:
            raise CacheBypassed(_CIRCUIT_OPEN)

    def set_mode(self, mode: CacheMode) -> None:
        """Follow the operator's choice from the next call on; calls under way go on.

        While bypassed nothing was sent, so what stands in the tier is of the past: back in NORMAL the
        breaker lets calls pass only after a probe and the catch-up.
        """
        if mode is self._mode:
            return
        self._mode = mode
        if mode is CacheMode.NORMAL:
            self._breaker.open("back from bypass")
            self.normal.set()
        else:
            self.normal.clear()

    async def run(self) -> Never:
        """Probe the tier whenever the breaker is not closed, until cancelled.

        A tier that is too slow for users, or nearly so, must not be let back in.
        """
        await self._breaker.run(probe=self._probe_inner, prepare=self._prepare_probe, catch_up=self._catch_up)

    @override
    async def get_many(self, keys: Sequence[str]) -> list[bytes | None]:
        return await self._guard(lambda: self._inner.get_many(keys))

    @override
    async def put_many(self, writes: Sequence[Write]) -> list[PutOutcome]:
        return await self._guard(lambda: self._inner.put_many(writes))

    @override
    async def discard(self, key: str, expected: bytes) -> bool:
        return await self._guard(lambda: self._inner.discard(key, expected))

    @override
    async def probe(self) -> None:
        await self._guard(self._inner.probe)

    @override
    async def describe(self) -> TierInfo:
        return await self._guard(self._inner.describe)

    @override
    async def reset(self) -> None:
        await self._inner.reset()

    @override
    async def close(self) -> None:
        await self._inner.close()

    async def _guard(self, call: Callable[[], Awaitable[T]]) -> T:
        self.check_usable()
        clock = asyncio.get_running_loop().time
        budget = budget_or_fresh(self._timeout_seconds)
        began = clock()
        deadline = budget.begin(began)
        try:
            if deadline <= began:
                raise CacheBusy(_BUDGET_SPENT)
            return await self._report(call, deadline, budget)
        finally:
            budget.end(clock())

    async def _report(self, call: Callable[[], Awaitable[T]], deadline: float, budget: CallBudget) -> T:
        """Make the call within the deadline and tell the breaker how it ended; a cancellation is not told.

        What earlier calls of the request have talked counts too: a tier that leaves no time for the second
        call is slow, although the second alone had no fair chance. One that never got its turn says nothing, whatever
        was before it.
        """
        clock = asyncio.get_running_loop().time
        token = self._breaker.begin()
        progress = observe_progress(clock())
        try:
            async with Deadline(deadline):
                result = await call()
        except TimeoutError as error:
            now = clock()
            talked_seconds = budget.talked_seconds + progress.talked_seconds(now)
            if progress.is_waiting or talked_seconds < self._timeout_seconds * FAIR_CHANCE_RATIO:
                raise CacheBusy(_NO_FAIR_CHANCE) from error
            if now - deadline > self._timeout_seconds * OWN_DELAY_RATIO:
                raise CacheBusy(_OWN_DELAY) from error
            self._breaker.failed(token, _TIMEOUT)
            raise CacheTimeout(_TIMEOUT) from error
        except (CacheTimeout, CacheUnavailable) as error:
            self._breaker.failed(token, str(error))
            raise
        except CacheError:
            raise
        except Exception as error:
            # The tier broke its promise to raise nothing else; its caller shall not see that.
            reason = f"unexpected {type(error).__name__}"
            self._breaker.failed(token, reason)
            raise CacheUnavailable(reason) from error
        finally:
            budget.talked_seconds += progress.talked_seconds(clock())
        self._breaker.succeeded(token)
        return result

    async def _prepare_probe(self) -> None:
        """Wait until the operator allows calls; then drop connections, which may lead to a server of the past."""
        await self.normal.wait()
        await self._inner.reset()

    async def _probe_inner(self) -> None:
        """Connect within the limit of a user's call; then the tier must answer with time to spare.

        Without the second question a tier just below the limit would be let in by a lucky probe, fail its users,
        and be shut out again, once a second.
        """
        if self._mode is CacheMode.BYPASS:
            raise CacheBypassed(_MODE)
        for share, reason in ((1.0, _TIMEOUT), (READMISSION_RATIO, _TOO_SLOW)):
            try:
                async with Deadline(asyncio.get_running_loop().time() + self._timeout_seconds * share):
                    await self._inner.probe()
            except TimeoutError as error:
                raise CacheTimeout(reason) from error


_MODE = "mode"
_CIRCUIT_OPEN = "circuit_open"
_TIMEOUT = "timeout"
_TOO_SLOW = f"slower than {READMISSION_RATIO:g} of CACHE_TIMEOUT"
_BUDGET_SPENT = "the request's time for the cache is used up"
_OWN_DELAY = "this process is too busy"
_NO_FAIR_CHANCE = "no connection came free in time"
