"""The circuit breaker: decides whether calls may go to the tier, from how the last ones ended.

    CLOSED ──── failures in a row, or too large a share of a window ────► OPEN
      ▲                                                                    │ backoff
      └──── the probe and the catch-up succeeded ──── HALF_OPEN ◄──────────┘
                                                          └── failed ──► OPEN

aiobreaker 1.2.0 is the state machine: it counts failures in a row and moves between the states. The rest is
here, because alone it lets every caller through in half-open (1000 of 1000), never opens at four failures in
five calls, and stays half-open if its trial is cancelled. So user calls pass in CLOSED only; one background
task (`run`) makes the only trial; a window adds the rate rule; and a call carries a token, so that an
outcome from before the last transition changes nothing. aiobreaker's wall-clock times are never used.

Timeouts and refusals are reported with `failed`. What says nothing about the tier (a cancelled caller, a
busy pool, a corrupt payload) is not reported at all.
"""

import asyncio
import math
import random
import time
from collections.abc import Awaitable, Callable, Coroutine
from enum import StrEnum
from typing import Never, Protocol

from aiobreaker.circuitbreaker import CircuitBreaker as AiobreakerMachine
from aiobreaker.state import CircuitBreakerError as MachineTripped
from aiobreaker.state import CircuitBreakerState as MachineState

from zpmeow.cache.errors import CacheError
from zpmeow.cache.failure_window import FailureWindow
from zpmeow.events import CircuitChanged, Observer

MIN_CALLS = 20
"""The rate rule says nothing about fewer calls in the window."""

FIRST_BACKOFF_RATIO = 0.125
"""The first wait after opening, as a share of the probe interval: a hiccup costs 0.1 s, not 1 s."""

CATCH_UP_SECONDS = 10.0
"""Arbitrary: a catch-up that takes longer is broken off, and goes on after the next good probe."""


class CircuitState(StrEnum):
    """CLOSED: calls pass. OPEN: none passes. HALF_OPEN: the probe alone passes."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


_STATES = {
    MachineState.CLOSED: CircuitState.CLOSED,
    MachineState.OPEN: CircuitState.OPEN,
    MachineState.HALF_OPEN: CircuitState.HALF_OPEN,
}


class CircuitBreaker:
    """Whether calls may go to the tier. Not for use from several threads."""

    def __init__(
        self,
        *,
        failure_threshold: int,
        window_seconds: float,
        failure_rate: float,
        probe_interval_seconds: float,
        observer: Observer,
        closed: bool = False,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        """Begin OPEN, so that the first probe decides, and probe at once; or CLOSED if `closed`.

        Args:
            failure_threshold: opens after that many failures in a row.
            window_seconds: the time that the rate rule looks back.
            failure_rate: opens when this share (0 to 1) of at least 20 calls in the window failed.
            probe_interval_seconds: the longest wait between two probes.
            observer: is told of each transition, once.
            closed: whether to let calls pass before any probe.
            clock: seconds, monotonic.
            sleep: waits that many seconds.
            jitter: returns a number from 0 to 1, spread evenly.
        """
        self._machine = _make_machine(failure_threshold)
        self._window = FailureWindow(length_seconds=window_seconds)
        self._window_seconds = window_seconds
        self._failure_rate = failure_rate
        self._probe_interval_seconds = probe_interval_seconds
        self._observer = observer
        self._clock = clock
        self._sleep = sleep
        self._jitter = jitter
        self._state = CircuitState.CLOSED
        self._generation = 0
        self._attempts = 0
        self._closed_at = clock()
        self._not_closed = asyncio.Event()
        self._running = False
        self._reason: str | None = None
        if not closed:
            self._reason = "not probed yet"
            self._machine.open()
            self._state = CircuitState.OPEN
            self._not_closed.set()

    def __repr__(self) -> str:
        """Show the state and why it is not closed."""
        return f"CircuitBreaker(state={self._state.value}, reason={self._reason!r})"

    @property
    def state(self) -> CircuitState:
        """The present state."""
        return self._state

    @property
    def allows_calls(self) -> bool:
        """Whether a user's call may go to the tier now."""
        return self._state is CircuitState.CLOSED

    @property
    def reason(self) -> str | None:
        """Why the breaker is not closed; None while it is."""
        return None if self._state is CircuitState.CLOSED else self._reason

    def begin(self) -> int:
        """Return the token to report the outcome of a call that begins now."""
        return self._generation

    def succeeded(self, token: int) -> None:
        """Count a call that ended well, unless it began before the last transition."""
        if token == self._generation and self._state is CircuitState.CLOSED:
            if self._machine.fail_counter:  # Without failures to forget it would take 3 us to say nothing.
                self._machine.call(_succeed)
            self._count(failed=False)

    def failed(self, token: int, reason: str) -> None:
        """Count a call that failed by the tier's fault, unless it began before the last transition.

        `reason` is short and without secrets: it is shown by health checks and logged at a transition.
        """
        if token != self._generation or self._state is not CircuitState.CLOSED:
            return
        try:
            self._machine.call(_fail)
        except _FailedError:
            self._count(failed=True, reason=reason)
        except MachineTripped:
            self._follow_machine(f"{self._machine.fail_counter} failures in a row, the last: {reason}")

    def open(self, reason: str) -> None:
        """Let no call pass before a probe, made at once, and a catch-up have succeeded.

        A trial that is under way is overtaken: whatever it finds, another one decides.
        """
        self._attempts = 0
        if self._state is not CircuitState.OPEN:
            self._machine.open()
            self._follow_machine(reason)
            self._attempts = 0

    async def run(
        self,
        *,
        probe: Callable[[], Awaitable[None]],
        prepare: Callable[[], Awaitable[None]] | None = None,
        catch_up: Callable[[], Awaitable[None]] | None = None,
    ) -> Never:
        """Bring the breaker back whenever it is not closed, until cancelled. To be run once at a time.

        Args:
            probe: proves that the tier works, or raises; brings its own deadline.
            prepare: waited for before each wait for a probe; may hold the probe back as long as it likes.
            catch_up: run after a good probe and before closing; if it raises, the breaker opens again.

        A wait is never longer than the probe interval. It begins at an eighth of that and doubles; if the
        breaker opens again soon after it closed, the doubling goes on where it was.
        """
        if self._running:
            message = "the breaker's probe loop runs already"
            raise RuntimeError(message)
        self._running = True
        try:
            while True:
                await self._not_closed.wait()
                if prepare is not None:
                    await prepare()
                if self._attempts > 0:
                    await self._sleep(self._backoff_seconds())
                    if prepare is not None:
                        await prepare()
                self._attempts += 1
                await self._try(probe, catch_up)
        finally:
            self._running = False

    async def _try(self, probe: Callable[[], Awaitable[None]], catch_up: Callable[[], Awaitable[None]] | None) -> None:
        """Make the one trial. Whatever ends it, a cancellation too, the breaker is open or closed after it."""
        reason = "the probe was cancelled"

        async def trial() -> None:
            nonlocal reason
            try:
                await probe()
                if catch_up is not None:
                    async with asyncio.timeout(CATCH_UP_SECONDS):
                        await catch_up()
            except CacheError as error:
                reason = str(error)
                raise
            except Exception as error:
                reason = f"the probe failed: {type(error).__name__}"
                raise

        self._machine.half_open()
        self._follow_machine("time to probe")
        generation = self._generation
        try:
            await self._machine.call_async(trial)
            reason = "the probe succeeded"
        except MachineTripped:
            # The machine is open again; `reason` has kept what the machine hides in __cause__.
            pass
        finally:
            if self._generation != generation:
                self._machine.open()  # `open` overtook the trial, whose success has closed the machine meanwhile.
            else:
                if self._machine.current_state is MachineState.HALF_OPEN:
                    self._machine.open()
                self._follow_machine(reason)

    def _count(self, *, failed: bool, reason: str = "") -> None:
        self._window.add(self._clock(), failed=failed)
        calls, failures = self._window.calls, self._window.failures
        if calls >= MIN_CALLS and failures >= self._failure_rate * calls:
            self._machine.open()
            last = f", the last: {reason}" if reason else ""
            self._follow_machine(f"{failures} of {calls} calls failed{last}")

    def _follow_machine(self, reason: str) -> None:
        """Take over the machine's state: the one place where a transition happens for the outside."""
        previous, self._state = self._state, _STATES[self._machine.current_state]
        self._generation += 1
        self._window.clear()
        now = self._clock()
        match self._state:
            case CircuitState.CLOSED:
                self._reason = None
                self._closed_at = now
                self._not_closed.clear()
            case CircuitState.OPEN:
                self._reason = reason
                if previous is CircuitState.CLOSED:
                    # 1 instead of 0: the call that opened it was a probe too, so the next one waits.
                    settled = now - self._closed_at > self._window_seconds
                    self._attempts = 1 if settled else max(self._attempts, 1)
                self._not_closed.set()
            case CircuitState.HALF_OPEN:
                pass
        self._observer(CircuitChanged(previous=previous.value, current=self._state.value, reason=reason))

    def _backoff_seconds(self) -> float:
        """Return the next wait: between half and the whole of a step that doubles up to the interval."""
        ratio = min(1.0, FIRST_BACKOFF_RATIO * math.pow(2, min(self._attempts - 1, 16)))
        return self._probe_interval_seconds * ratio * (0.5 + 0.5 * self._jitter())


class _Machine(Protocol):
    """What is used of aiobreaker, which has no types for most of it."""

    @property
    def fail_counter(self) -> int: ...
    @property
    def current_state(self) -> MachineState: ...
    def open(self) -> None: ...
    def half_open(self) -> None: ...
    def call(self, func: Callable[[], None], /) -> None: ...
    async def call_async(self, func: Callable[[], Coroutine[None, None, None]], /) -> None: ...


def _make_machine(failure_threshold: int) -> _Machine:
    return AiobreakerMachine(fail_max=failure_threshold)


class _FailedError(Exception):
    """How a failure is told to aiobreaker, which counts exceptions."""


def _succeed() -> None:
    """Tell aiobreaker of a success, which it counts by a function that returns."""


def _fail() -> Never:
    raise _FailedError
