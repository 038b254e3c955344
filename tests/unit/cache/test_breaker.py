"""The breaker: when it opens, who may pass, and how it comes back."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from zpmeow.cache.breaker import CircuitBreaker, CircuitState
from zpmeow.cache.errors import CacheBusy, CacheTimeout, CacheUnavailable
from zpmeow.events import CircuitChanged, Event

THRESHOLD = 5
WINDOW_SECONDS = 10.0
INTERVAL_SECONDS = 1.0


class Time:
    """A clock that only `sleep` and the test move on; a sleep lets other tasks run."""

    def __init__(self) -> None:
        """Begin at an arbitrary moment."""
        self.now = 1000.0
        self.slept: list[float] = []

    def clock(self) -> float:
        """Tell the time."""
        return self.now

    async def sleep(self, seconds: float) -> None:
        """Let the time pass at once."""
        self.slept.append(seconds)
        self.now += seconds
        await asyncio.sleep(0)


class Stage:
    """A breaker, its time and what it told."""

    def __init__(self, *, closed: bool = True, jitter: float = 1.0) -> None:
        """Make a breaker that is closed, unless told otherwise."""
        self.time = Time()
        self.events: list[Event] = []
        self.breaker = CircuitBreaker(
            failure_threshold=THRESHOLD,
            window_seconds=WINDOW_SECONDS,
            failure_rate=0.5,
            probe_interval_seconds=INTERVAL_SECONDS,
            observer=self.events.append,
            closed=closed,
            clock=self.time.clock,
            sleep=self.time.sleep,
            jitter=lambda: jitter,
        )

    def fail(self, times: int = 1, reason: str = "timeout") -> None:
        """Report failed calls."""
        for _ in range(times):
            self.breaker.failed(self.breaker.begin(), reason)

    def succeed(self, times: int = 1) -> None:
        """Report good calls."""
        for _ in range(times):
            self.breaker.succeeded(self.breaker.begin())

    @property
    def transitions(self) -> list[tuple[str, str]]:
        """The transitions told so far."""
        return [(event.previous, event.current) for event in self.events if isinstance(event, CircuitChanged)]

    async def run_until(self, condition: Callable[[], bool], **hooks: Callable[[], Awaitable[None]]) -> None:
        """Run the probe loop until the condition holds."""
        task = asyncio.create_task(self.breaker.run(**hooks))
        for _ in range(1000):
            await asyncio.sleep(0)
            if condition():
                break
        else:
            pytest.fail("the breaker did not get there")
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


async def probe_succeeds() -> None:
    """Find the tier well."""


async def probe_times_out() -> None:
    """Find the tier hung."""
    message = "timeout"
    raise CacheTimeout(message)


def closed(stage: Stage) -> Callable[[], bool]:
    """Ask whether the breaker is closed."""
    return lambda: stage.breaker.state is CircuitState.CLOSED


def test_breaker_opens_when_twenty_timeouts_come_in_a_row() -> None:
    """It opens at the threshold, once, and the failures after that change nothing."""
    stage = Stage()

    stage.fail(20)

    assert stage.breaker.state is CircuitState.OPEN
    assert not stage.breaker.allows_calls
    assert stage.transitions == [("closed", "open")]
    assert stage.breaker.reason == "5 failures in a row, the last: timeout"


def test_breaker_stays_closed_when_failures_are_fewer_than_the_threshold() -> None:
    """One success starts the count of failures in a row anew."""
    stage = Stage()

    for _ in range(3):
        stage.fail(THRESHOLD - 1)
        stage.succeed()

    assert stage.breaker.allows_calls
    assert stage.breaker.reason is None


def test_breaker_opens_when_four_of_five_calls_fail() -> None:
    """Never five failures in a row, yet it opens as soon as twenty calls were seen."""
    stage = Stage()

    for calls in range(1, 21):
        assert stage.breaker.allows_calls, calls
        if calls % 5 == 0:
            stage.succeed()
        else:
            stage.fail()

    assert stage.breaker.state is CircuitState.OPEN
    assert stage.transitions == [("closed", "open")]
    assert stage.breaker.reason == "16 of 20 calls failed"


def test_breaker_opens_at_exactly_the_rate() -> None:
    """Half of twenty is enough; less than half is not, however long it lasts."""
    below, at = Stage(), Stage()

    for _ in range(200):
        below.succeed(3)
        below.fail(2)
    for _ in range(10):
        at.succeed()
        at.fail()

    assert below.breaker.allows_calls
    assert not at.breaker.allows_calls


def test_breaker_stays_closed_when_the_failures_are_spread_over_more_than_the_window() -> None:
    """What is older than the window is forgotten."""
    stage = Stage()

    for _ in range(30):
        stage.fail(4)
        stage.succeed()
        stage.time.now += WINDOW_SECONDS / 2.5

    assert stage.breaker.allows_calls


def test_breaker_ignores_outcomes_when_the_call_began_before_a_transition() -> None:
    """Late news from before a transition neither opens a closed breaker nor is counted."""
    stage = Stage()
    early = [stage.breaker.begin() for _ in range(50)]
    stage.fail(THRESHOLD)
    asyncio.run(stage.run_until(closed(stage), probe=probe_succeeds))

    for token in early:
        stage.breaker.failed(token, "timeout")
    stage.fail(THRESHOLD - 1)

    assert stage.breaker.allows_calls


def test_breaker_ignores_late_successes_when_it_is_open() -> None:
    """A success of a call that began before opening does not close it."""
    stage = Stage()
    token = stage.breaker.begin()
    stage.fail(THRESHOLD)

    stage.breaker.succeeded(token)
    stage.breaker.succeeded(stage.breaker.begin())

    assert stage.breaker.state is CircuitState.OPEN


async def test_breaker_probes_at_once_when_it_begins_open() -> None:
    """The start does not wait: the first probe decides."""
    stage = Stage(closed=False)
    assert stage.breaker.state is CircuitState.OPEN
    assert stage.events == []

    await stage.run_until(closed(stage), probe=probe_succeeds)

    assert stage.time.slept == []
    assert stage.transitions == [("open", "half_open"), ("half_open", "closed")]


async def test_breaker_backs_off_when_probes_fail() -> None:
    """Waits double from an eighth of the interval and never exceed it."""
    stage = Stage()
    stage.fail(THRESHOLD)

    await stage.run_until(lambda: len(stage.time.slept) >= 7, probe=probe_times_out)

    assert stage.time.slept[:7] == [0.125, 0.25, 0.5, 1.0, 1.0, 1.0, 1.0]
    assert stage.breaker.reason == "timeout"


async def test_breaker_spreads_its_probes_when_many_processes_wait() -> None:
    """Jitter takes up to half off a wait, and nothing more."""
    stage = Stage(jitter=0.0)
    stage.fail(THRESHOLD)

    await stage.run_until(lambda: len(stage.time.slept) >= 5, probe=probe_times_out)

    assert stage.time.slept[:5] == [0.0625, 0.125, 0.25, 0.5, 0.5]


async def test_breaker_backs_off_further_when_it_opens_again_soon() -> None:
    """A tier that passes probes but fails calls is not let back in ten times a second."""
    stage = Stage()

    for _ in range(5):
        stage.fail(THRESHOLD)
        await stage.run_until(closed(stage), probe=probe_succeeds)

    assert stage.time.slept == [0.125, 0.25, 0.5, 1.0, 1.0]


async def test_breaker_begins_with_a_short_wait_when_it_was_closed_for_long() -> None:
    """After a calm window the next outage is probed quickly again."""
    stage = Stage()
    for _ in range(3):
        stage.fail(THRESHOLD)
        await stage.run_until(closed(stage), probe=probe_succeeds)
    stage.time.now += WINDOW_SECONDS + 1

    stage.fail(THRESHOLD)
    await stage.run_until(closed(stage), probe=probe_succeeds)

    assert stage.time.slept[-1] == 0.125


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (CacheTimeout("timeout"), "timeout"),
        (CacheUnavailable("connection refused"), "connection refused"),
        (CacheBusy("no connection came free in time"), "no connection came free in time"),
        (RuntimeError("a secret"), "the probe failed: RuntimeError"),
    ],
)
async def test_breaker_opens_again_with_the_real_reason_when_the_probe_fails(error: Exception, reason: str) -> None:
    """The reason is the probe's own, and an unexpected error shows only its type."""
    stage = Stage()
    stage.fail(THRESHOLD)

    async def probe() -> None:
        raise error

    await stage.run_until(lambda: len(stage.transitions) >= 3, probe=probe)

    assert stage.transitions[:3] == [("closed", "open"), ("open", "half_open"), ("half_open", "open")]
    assert stage.breaker.reason == reason


async def test_breaker_lets_nobody_pass_while_half_open() -> None:
    """A thousand callers at half-open: one probe runs, none of them passes, and outcomes change nothing."""
    stage = Stage()
    stage.fail(THRESHOLD)
    probes = 0
    began, answer = asyncio.Event(), asyncio.Event()
    passed: list[bool] = []

    async def probe() -> None:
        nonlocal probes
        probes += 1
        began.set()
        await answer.wait()

    async def caller() -> None:
        passed.append(stage.breaker.allows_calls)
        stage.breaker.failed(stage.breaker.begin(), "timeout")

    async def call_a_thousand_times() -> None:
        await began.wait()
        await asyncio.gather(*(caller() for _ in range(1000)))
        assert stage.breaker.state is CircuitState.HALF_OPEN
        answer.set()

    await asyncio.gather(stage.run_until(closed(stage), probe=probe), call_a_thousand_times())

    assert probes == 1
    assert passed == [False] * 1000


async def test_breaker_is_open_when_its_probe_was_cancelled() -> None:
    """A cancelled trial does not stay half-open, and a new loop can bring the breaker back."""
    stage = Stage()
    stage.fail(THRESHOLD)

    async def probe() -> None:
        await asyncio.Event().wait()

    await stage.run_until(lambda: stage.breaker.state is CircuitState.HALF_OPEN, probe=probe)
    assert stage.breaker.state is CircuitState.OPEN
    assert stage.breaker.reason == "the probe was cancelled"

    await stage.run_until(closed(stage), probe=probe_succeeds)


async def test_breaker_catches_up_before_it_closes() -> None:
    """Nobody passes before the catch-up has ended."""
    stage = Stage()
    stage.fail(THRESHOLD)
    seen: list[CircuitState] = []

    async def catch_up() -> None:
        seen.append(stage.breaker.state)
        await asyncio.sleep(0)
        seen.append(stage.breaker.state)

    await stage.run_until(closed(stage), probe=probe_succeeds, catch_up=catch_up)

    assert seen == [CircuitState.HALF_OPEN] * 2


async def test_breaker_opens_again_when_the_catch_up_fails() -> None:
    """Without having caught up it does not close; it tries again."""
    stage = Stage()
    stage.fail(THRESHOLD)
    outcomes = [CacheUnavailable("connection reset by peer"), None]

    async def catch_up() -> None:
        error = outcomes.pop(0)
        if error is not None:
            raise error

    await stage.run_until(closed(stage), probe=probe_succeeds, catch_up=catch_up)

    assert stage.transitions == [
        ("closed", "open"),
        ("open", "half_open"),
        ("half_open", "open"),
        ("open", "half_open"),
        ("half_open", "closed"),
    ]


async def test_breaker_waits_for_leave_before_it_probes() -> None:
    """While `prepare` waits, nothing is probed."""
    stage = Stage(closed=False)
    leave = asyncio.Event()
    probes = 0

    async def prepare() -> None:
        await leave.wait()

    async def probe() -> None:
        nonlocal probes
        probes += 1

    async def give_leave() -> None:
        for _ in range(100):
            await asyncio.sleep(0)
        assert probes == 0
        leave.set()

    await asyncio.gather(stage.run_until(closed(stage), probe=probe, prepare=prepare), give_leave())

    assert probes == 1


async def test_open_makes_the_next_probe_decide_when_the_breaker_was_closed() -> None:
    """It opens without a failure and probes at once."""
    stage = Stage()

    stage.breaker.open("back from bypass")
    assert stage.breaker.reason == "back from bypass"
    await stage.run_until(closed(stage), probe=probe_succeeds)

    assert stage.time.slept == []
    assert stage.transitions == [("closed", "open"), ("open", "half_open"), ("half_open", "closed")]


async def test_open_overtakes_a_trial_that_is_under_way() -> None:
    """A trial that began before it cannot close the breaker; a second one can."""
    stage = Stage(closed=False)
    catch_ups = 0

    async def catch_up() -> None:
        nonlocal catch_ups
        catch_ups += 1
        if catch_ups == 1:
            stage.breaker.open("back from bypass")

    await stage.run_until(closed(stage), probe=probe_succeeds, catch_up=catch_up)

    assert catch_ups == 2
    assert stage.transitions == [
        ("open", "half_open"),
        ("half_open", "open"),
        ("open", "half_open"),
        ("half_open", "closed"),
    ]


async def test_run_refuses_to_run_twice() -> None:
    """Two loops would make two trials at a time."""
    stage = Stage(closed=False)
    task = asyncio.create_task(stage.breaker.run(probe=asyncio.Event().wait))  # type: ignore[arg-type]
    await asyncio.sleep(0)

    with pytest.raises(RuntimeError, match="already"):
        await stage.breaker.run(probe=probe_succeeds)
    task.cancel()


async def test_breaker_tells_each_transition_once() -> None:
    """Two outages make six events, in order, each beginning where the last one ended."""
    stage = Stage()

    for _ in range(2):
        stage.fail(50)
        await stage.run_until(closed(stage), probe=probe_succeeds)

    assert stage.transitions == [("closed", "open"), ("open", "half_open"), ("half_open", "closed")] * 2


def test_breaker_forgets_no_failures_when_a_success_began_before_a_transition() -> None:
    """A late success does not interrupt failures in a row that came after the breaker had closed again."""
    stage = Stage()
    early = stage.breaker.begin()
    stage.fail(THRESHOLD)
    asyncio.run(stage.run_until(closed(stage), probe=probe_succeeds))
    stage.fail(THRESHOLD - 1)

    stage.breaker.succeeded(early)
    stage.fail(1)

    assert stage.breaker.state is CircuitState.OPEN
