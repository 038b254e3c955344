"""Another tier behind mode, breaker and deadline.

The loop's clock is that of the test: it stands still while something runs and jumps to the next timer when nothing
does, so a busy machine changes no outcome.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress

import looptime
import pytest
from typing_extensions import override

from tests.fakes.failing_tier import FailingTier
from tests.fakes.memory_tier import MemoryTier
from tests.fakes.slow_tier import SlowTier
from zpmeow.cache.breaker import CircuitBreaker, CircuitState
from zpmeow.cache.call_budget import open_budget, outside_budget, report_talking, report_waiting
from zpmeow.cache.errors import CacheBusy, CacheBypassed, CacheError, CacheTimeout, CacheUnavailable
from zpmeow.cache.mode import CacheMode
from zpmeow.cache.resilient_tier import ResilientTier
from zpmeow.cache.tier import CacheTier, Hint
from zpmeow.events import CircuitChanged, Event

pytestmark = pytest.mark.asyncio(loop_factories=["asyncio"])  # One whose clock can be a test's.

TIMEOUT_SECONDS = 0.1
THRESHOLD = 5


@pytest.fixture(autouse=True)
async def own_time(request: pytest.FixtureRequest) -> None:
    """Let the loop's clock be the test's, unless the parameter is False."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, asyncio.BaseEventLoop)
    if getattr(request, "param", True):
        looptime.patch_event_loop(loop, start=round(loop.time()))


class Stage:
    """A guarded memory tier that can be made to fail and to hang."""

    def __init__(
        self,
        *,
        inner: CacheTier | None = None,
        timeout_seconds: float = TIMEOUT_SECONDS,
        mode: CacheMode = CacheMode.NORMAL,
        closed: bool = True,
        catch_up: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        """Make it, closed and well unless told otherwise."""
        self.memory = MemoryTier()
        self.failing = FailingTier(self.memory)
        self.slow = SlowTier(self.failing)
        self.events: list[Event] = []
        self.breaker = CircuitBreaker(
            failure_threshold=THRESHOLD,
            window_seconds=10,
            failure_rate=0.5,
            probe_interval_seconds=0.001,
            observer=self.events.append,
            closed=closed,
        )
        self.tier = ResilientTier(
            inner=inner or self.slow,
            breaker=self.breaker,
            mode=mode,
            timeout_seconds=timeout_seconds,
            catch_up=catch_up,
        )

    async def call(self) -> None:
        """Make a call and take no interest in how it ends."""
        with suppress(CacheError):
            await self.tier.get_many(["key"])

    async def run_until(self, condition: Callable[[], bool]) -> None:
        """Run the probe loop until the condition holds."""
        task = asyncio.create_task(self.tier.run())
        async with asyncio.timeout(5):
            while not condition():  # noqa: ASYNC110  (what is waited for has no event)
                await asyncio.sleep(0.0001)  # A sleep of 0 would keep the clock from going on.
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    def is_closed(self) -> bool:
        """Tell whether calls pass."""
        return self.breaker.state is CircuitState.CLOSED


async def test_calls_pass_when_all_is_well() -> None:
    """Every method of the port reaches the tier."""
    stage = Stage(timeout_seconds=5)

    await stage.tier.put_many([Hint(key="key", text=b"text", lifetime_seconds=9)])
    assert await stage.tier.get_many(["key"]) == [b"text"]
    assert await stage.tier.discard("key", b"text")
    await stage.tier.probe()
    assert (await stage.tier.describe()).total_keys == 0
    await stage.tier.reset()
    await stage.tier.close()

    assert stage.memory.calls == ["put", "get", "delete", "ping", "info"]
    assert stage.memory.resets == 1
    assert stage.memory.closed


async def test_call_times_out_when_the_tier_hangs() -> None:
    """The call is given up at the deadline, and counted."""
    stage = Stage()
    stage.slow.hang()

    for _ in range(THRESHOLD):
        with pytest.raises(CacheTimeout):
            await stage.tier.get_many(["key"])

    assert stage.slow.waiting == 0
    assert stage.breaker.state is CircuitState.OPEN
    assert stage.tier.unusable_because == "circuit open: 5 failures in a row, the last: timeout"


@pytest.mark.parametrize(
    ("error", "raised"),
    [
        (CacheUnavailable("connection refused"), CacheUnavailable),
        (CacheTimeout("timeout"), CacheTimeout),
        (RuntimeError("secret"), CacheUnavailable),
        (OSError("secret"), CacheUnavailable),
    ],
)
async def test_breaker_opens_when_calls_fail(error: Exception, raised: type[CacheError]) -> None:
    """What is the tier's fault counts, also what no tier should raise, whose text is shown nowhere."""
    stage = Stage(timeout_seconds=5)
    stage.failing.error = error

    for _ in range(THRESHOLD):
        with pytest.raises(raised) as caught:
            await stage.tier.get_many(["key"])
        assert "secret" not in str(caught.value)

    assert stage.breaker.state is CircuitState.OPEN


@pytest.mark.parametrize("error", [CacheBusy("busy"), CacheBypassed("disabled")])
async def test_breaker_stays_closed_when_calls_never_began(error: CacheError) -> None:
    """What says nothing about the tier's health counts as nothing."""
    stage = Stage(timeout_seconds=5)
    stage.failing.error = error

    for _ in range(100):
        with pytest.raises(type(error)):
            await stage.tier.get_many(["key"])

    assert stage.is_closed()


async def test_breaker_stays_closed_when_callers_go_away() -> None:
    """A cancelled caller gets its cancellation and counts as nothing."""
    stage = Stage(timeout_seconds=5)
    stage.slow.hang()

    tasks = [asyncio.create_task(stage.tier.get_many(["key"])) for _ in range(50)]
    await asyncio.sleep(0)
    for task in tasks:
        task.cancel()
    ended = await asyncio.gather(*tasks, return_exceptions=True)

    assert all(isinstance(one, asyncio.CancelledError) for one in ended)
    assert stage.slow.cancelled == 50
    assert stage.is_closed()


async def test_breaker_opens_when_four_of_five_calls_fail() -> None:
    """Never five failures in a row, and twenty calls are enough."""
    stage = Stage(timeout_seconds=5)
    error = CacheUnavailable("connection reset by peer")
    stage.failing.script = [error, error, error, error, None] * 4

    for _ in range(20):
        assert stage.is_closed()
        await stage.call()

    assert stage.breaker.state is CircuitState.OPEN
    assert stage.failing.attempts == 20


async def test_calls_are_bypassed_without_waiting_when_the_circuit_is_open() -> None:
    """A bypassed call does not give up the loop even once, and does not reach the tier."""
    stage = Stage(closed=False)
    call = stage.tier.get_many(["key"])

    with pytest.raises(CacheBypassed, match="circuit_open"):
        call.send(None)

    assert stage.slow.attempts == 0
    assert stage.tier.unusable_because == "circuit open: not probed yet"


async def test_calls_are_bypassed_without_waiting_when_the_operator_says_so() -> None:
    """The mode is asked before the breaker."""
    stage = Stage(closed=False, mode=CacheMode.BYPASS)

    with pytest.raises(CacheBypassed, match="mode"):
        stage.tier.get_many(["key"]).send(None)

    assert stage.tier.unusable_because == "bypassed by an operator"


async def test_exactly_one_probe_passes_when_a_thousand_callers_find_it_half_open() -> None:
    """While the probe is under way all callers are bypassed; after it they pass."""
    stage = Stage(closed=False, timeout_seconds=5)
    stage.slow.hang()
    bypassed = 0

    async def caller() -> None:
        nonlocal bypassed
        try:
            await stage.tier.get_many(["key"])
        except CacheBypassed:
            bypassed += 1

    async def call_then_answer() -> None:
        while not stage.slow.waiting:  # noqa: ASYNC110  (what is waited for has no event)
            await asyncio.sleep(0.0001)
        await asyncio.gather(*(caller() for _ in range(1000)))
        assert stage.breaker.state is CircuitState.HALF_OPEN
        assert stage.slow.attempts == 1
        stage.slow.resume()

    await asyncio.gather(stage.run_until(stage.is_closed), call_then_answer())

    assert bypassed == 1000
    assert stage.memory.calls == ["ping", "ping"]
    assert await stage.tier.get_many(["key"]) == [None]


async def test_probe_times_out_when_the_tier_hangs() -> None:
    """The probe has a deadline of its own, so a hung tier is probed again and again, and found when it wakes."""
    stage = Stage(closed=False)
    stage.slow.hang()

    await stage.run_until(lambda: stage.slow.attempts >= 3)
    assert stage.breaker.reason in {"timeout", "the probe was cancelled"}
    stage.slow.resume()
    await stage.run_until(stage.is_closed)


class DistantTier(MemoryTier):
    """Answers each call that many seconds later."""

    def __init__(self, *, delay_seconds: float) -> None:
        """Be that far away."""
        super().__init__()
        self.delay_seconds = delay_seconds

    @override
    async def probe(self) -> None:
        """Answer late."""
        await asyncio.sleep(self.delay_seconds)
        await super().probe()


async def test_tier_is_not_let_in_when_it_answers_just_within_the_limit() -> None:
    """It would fail its users and be shut out again; it comes back when it leaves time to spare."""
    inner = DistantTier(delay_seconds=0.8 * TIMEOUT_SECONDS)
    stage = Stage(inner=inner, closed=False)

    await stage.run_until(lambda: len(inner.calls) >= 10)
    assert not stage.is_closed()
    inner.delay_seconds = 0.4 * TIMEOUT_SECONDS
    await stage.run_until(stage.is_closed)


async def test_connections_are_dropped_before_each_probe() -> None:
    """A probe never goes over a connection from before the outage."""
    stage = Stage()
    stage.slow.hang()
    for _ in range(THRESHOLD):
        await stage.call()
    assert stage.memory.resets == 0

    stage.slow.resume()
    await stage.run_until(stage.is_closed)

    assert stage.memory.resets >= 1


async def test_nothing_is_sent_while_the_mode_is_bypass() -> None:
    """No probe either; back in normal mode the tier is probed and caught up before calls pass."""
    caught_up = 0

    async def catch_up() -> None:
        nonlocal caught_up
        caught_up += 1
        with pytest.raises(CacheBypassed):
            await stage.tier.get_many(["key"])

    stage = Stage(timeout_seconds=5, catch_up=catch_up)
    stage.tier.set_mode(CacheMode.BYPASS)
    stage.breaker.open("an outage")
    run = asyncio.create_task(stage.tier.run())
    for _ in range(100):
        await asyncio.sleep(0)
    assert stage.slow.attempts == 0

    stage.tier.set_mode(CacheMode.NORMAL)
    run.cancel()
    await stage.run_until(stage.is_closed)

    assert caught_up == 1
    assert stage.memory.calls == ["ping", "ping"]


async def test_circuit_opens_when_the_mode_returns_to_normal() -> None:
    """What stands in the tier is of the past after a bypass, so the catch-up comes first."""
    stage = Stage(timeout_seconds=5)

    stage.tier.set_mode(CacheMode.BYPASS)
    stage.tier.set_mode(CacheMode.BYPASS)
    stage.tier.set_mode(CacheMode.NORMAL)
    stage.tier.set_mode(CacheMode.NORMAL)

    assert stage.breaker.state is CircuitState.OPEN
    assert [event.reason for event in stage.events if isinstance(event, CircuitChanged)] == ["back from bypass"]
    await stage.run_until(stage.is_closed)


async def test_calls_of_one_request_share_one_deadline() -> None:
    """The time that the first call took is missing for the second; the third never begins."""
    stage = Stage(timeout_seconds=0.05)
    stage.slow.hang()

    with open_budget(0.05):
        began = asyncio.get_running_loop().time()
        with pytest.raises(CacheTimeout):
            await stage.tier.get_many(["key"])
        for _ in range(10):
            with pytest.raises(CacheBusy):
                stage.tier.get_many(["key"]).send(None)
        assert asyncio.get_running_loop().time() - began == pytest.approx(0.05)
        with outside_budget(), pytest.raises(CacheTimeout):
            await stage.tier.get_many(["key"])

    assert stage.slow.attempts == 2
    assert stage.is_closed()


class QueueingTier(MemoryTier):
    """Tells that its calls wait for their turn; `talks_after_seconds` later they talk, and never end."""

    def __init__(self, *, talks_after_seconds: float | None) -> None:
        """Never begin to talk if None."""
        super().__init__()
        self._talks_after_seconds = talks_after_seconds

    async def probe(self) -> None:
        """Wait, then talk, then hang."""
        report_waiting()
        if self._talks_after_seconds is not None:
            await asyncio.sleep(self._talks_after_seconds)
            report_talking(asyncio.get_running_loop().time())
        await asyncio.Event().wait()


async def test_call_is_busy_when_it_waited_for_its_turn_until_the_deadline() -> None:
    """A call that could not begin says nothing about the tier."""
    stage = Stage(inner=QueueingTier(talks_after_seconds=None))

    for _ in range(THRESHOLD + 1):
        with pytest.raises(CacheBusy):
            await stage.tier.probe()

    assert stage.is_closed()


async def test_call_times_out_when_it_got_its_turn_early() -> None:
    """A call that could talk for most of its time was not answered, by the tier's fault."""
    stage = Stage(inner=QueueingTier(talks_after_seconds=0.0), timeout_seconds=0.25)

    for _ in range(THRESHOLD):
        with pytest.raises(CacheTimeout):
            await stage.tier.probe()

    assert stage.breaker.state is CircuitState.OPEN


async def test_first_wave_ends_at_the_deadline_when_ten_talk_and_forty_wait() -> None:
    """The waiting ones are busy, the talking ones open the breaker, and the wave after that is bypassed."""

    class NarrowTier(SlowTier):
        def __init__(self) -> None:
            super().__init__(MemoryTier())
            self._turns = asyncio.Semaphore(10)

        async def get_many(self, keys: object) -> list[bytes | None]:
            report_waiting()
            async with self._turns:
                report_talking(asyncio.get_running_loop().time())
                return await super().get_many(["key"])

    inner = NarrowTier()
    inner.hang()
    stage = Stage(inner=inner, timeout_seconds=0.2)

    ended = await asyncio.gather(*(stage.tier.get_many(["key"]) for _ in range(50)), return_exceptions=True)

    kinds = Counter(type(one) for one in ended)
    assert kinds == {CacheTimeout: 10, CacheBusy: 40}
    assert stage.breaker.state is CircuitState.OPEN
    with pytest.raises(CacheBypassed):
        stage.tier.get_many(["key"]).send(None)


async def test_late_outcomes_change_nothing_when_the_circuit_has_closed_again() -> None:
    """A call from before an outage that fails after it does not count for the time after."""
    stage = Stage(timeout_seconds=5)
    stage.slow.hang()
    early = [asyncio.create_task(stage.call()) for _ in range(THRESHOLD)]
    await asyncio.sleep(0)
    stage.breaker.open("an outage")
    before = stage.slow.attempts

    run = asyncio.create_task(stage.run_until(stage.is_closed))
    while stage.slow.attempts == before:  # noqa: ASYNC110  (what is waited for has no event)
        await asyncio.sleep(0.0001)
    stage.failing.script = [CacheUnavailable("late")] * THRESHOLD
    stage.slow.resume()
    await asyncio.gather(*early)
    await run

    assert stage.is_closed()


class BlockingTier(MemoryTier):
    """Holds up the whole event loop for longer than a call may take, then does not answer."""

    @override
    async def get_many(self, keys: Sequence[str]) -> list[bytes | None]:
        time.sleep(2 * TIMEOUT_SECONDS)  # noqa: ASYNC251  (the fault itself)
        await asyncio.Event().wait()
        return []


@pytest.mark.parametrize("own_time", [False], indirect=True)
async def test_call_counts_as_nothing_when_this_process_was_late() -> None:
    """A saturated event loop says nothing about the tier: the breaker stays closed."""
    stage = Stage(inner=BlockingTier())

    for _ in range(THRESHOLD):
        with pytest.raises(CacheBusy):
            await stage.tier.get_many(["key"])

    assert stage.breaker.state is CircuitState.CLOSED


class LateTier(MemoryTier):
    """Answers the first call of each request just in time, and none after it."""

    def __init__(self) -> None:
        """Begin with a first call."""
        super().__init__()
        self.is_first = True

    @override
    async def get_many(self, keys: Sequence[str]) -> list[bytes | None]:
        self.is_first = not self.is_first
        await asyncio.sleep(TIMEOUT_SECONDS if self.is_first else TIMEOUT_SECONDS * 0.8)
        return [None for _ in keys]


async def test_breaker_opens_when_the_first_call_of_each_request_leaves_no_time_for_the_second() -> None:
    """A tier just quicker than the limit is slow all the same: half of all calls fail, and that is told."""
    stage = Stage(inner=LateTier())

    for _ in range(20):
        with open_budget(TIMEOUT_SECONDS):
            await stage.call()
            await stage.call()
        if stage.breaker.state is CircuitState.OPEN:
            break

    assert stage.breaker.state is CircuitState.OPEN


async def test_call_that_never_got_its_turn_is_nobodys_fault_whatever_was_before_it() -> None:
    """One slow conversation of many readers, then a line before the connections: that is one failure at the most."""
    stage = Stage(inner=QueueingTier(talks_after_seconds=None))

    for _ in range(THRESHOLD + 1):
        with open_budget(TIMEOUT_SECONDS) as budget:
            budget.talked_seconds = TIMEOUT_SECONDS / 2
            with pytest.raises(CacheBusy):
                await stage.tier.probe()

    assert stage.is_closed()


async def test_waiting_for_normal_ends_when_the_operator_allows_calls() -> None:
    """At once in the normal mode; in a bypass not before it is over."""
    stage = Stage()
    await stage.tier.normal.wait()
    stage.tier.set_mode(CacheMode.BYPASS)
    waiting = asyncio.create_task(stage.tier.normal.wait())
    await asyncio.sleep(0)
    before = waiting.done()

    stage.tier.set_mode(CacheMode.NORMAL)
    await waiting

    assert not before
