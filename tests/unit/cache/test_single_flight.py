"""Single flight: one load per key, whoever waits, whoever goes away; and one for those who come together."""

import asyncio
import gc
import math
import weakref
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextvars import ContextVar
from typing import Any

import pytest

from zpmeow.cache.single_flight import Flight, Landing, SingleFlight

Load = Callable[[Sequence[str]], Awaitable[Mapping[str, Any]]]


class Truth:
    """A source that answers when it is told to, and counts how often it was asked for each key."""

    def __init__(self) -> None:
        """Hold every answer back."""
        self.asked: list[list[str]] = []
        self.release = asyncio.Event()
        self.error: Exception | None = None

    async def load(self, keys: Sequence[str]) -> Mapping[str, str]:
        """Answer each key with its upper case, once released."""
        self.asked.append(list(keys))
        await self.release.wait()
        if self.error is not None:
            raise self.error
        return {key: key.upper() for key in keys if key != "absent"}


class Flights:
    """A single flight whose jobs are the loads of their keys."""

    def __init__(self, **options: Any) -> None:  # noqa: ANN401  (those of SingleFlight)
        """Make one with these options."""
        self.coalesced: list[str] = []
        options.setdefault("on_coalesced", self.coalesced.append)
        self.inner: SingleFlight[Load, str, Mapping[str, Any]] = SingleFlight(fly=self._fly, **options)

    async def _fly(self, flight: Flight[Load, str, Mapping[str, Any]]) -> Mapping[str, Any]:
        return await flight.job(flight.keys)

    async def load(
        self, keys: Sequence[str], load: Load, *, asked_at: float = math.inf, lingers: bool = True
    ) -> dict[str, Any]:
        """Return what was found of the keys."""
        flown = await self.inner.load(keys, load, asked_at=asked_at, lingers=lingers)
        return {key: flight.brought[key] for flight, ones in flown.items() for key in ones if key in flight.brought}


async def _settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


@pytest.fixture
def flights() -> Flights:
    """A fresh single flight."""
    return Flights()


async def test_source_is_asked_once_when_a_thousand_callers_want_one_key(flights: Flights) -> None:
    """However many ask for a key at once, the source is asked once."""
    truth = Truth()
    callers = [asyncio.create_task(flights.load(["a"], truth.load)) for _ in range(1000)]
    await _settle()

    truth.release.set()
    answers = await asyncio.gather(*callers)

    assert truth.asked == [["a"]]
    assert answers == [{"a": "A"}] * 1000
    assert len(flights.coalesced) == 999


async def test_caller_joins_what_is_under_way_when_keys_overlap(flights: Flights) -> None:
    """A caller of several keys loads only those that nobody is loading."""
    truth = Truth()
    first = asyncio.create_task(flights.load(["a", "b"], truth.load))
    await _settle()
    second = asyncio.create_task(flights.load(["b", "c"], truth.load))
    await _settle()

    truth.release.set()

    assert await first == {"a": "A", "b": "B"}
    assert await second == {"b": "B", "c": "C"}
    assert truth.asked == [["a", "b"], ["c"]]


async def test_caller_gives_up_when_his_own_time_is_over() -> None:
    """The flight goes on for those who have more."""
    seconds = ContextVar("seconds", default=60.0)
    seen: list[float] = []

    async def wait(landing: Landing) -> None:
        async with asyncio.timeout(seconds.get()):
            await landing

    async def load(keys: Sequence[str]) -> Mapping[str, str]:
        seen.append(seconds.get())
        return await truth.load(keys)

    flights = Flights(wait=wait)
    truth = Truth()
    token = seconds.set(0.0)
    with pytest.raises(TimeoutError):
        await flights.load(["a"], load)
    seconds.reset(token)
    joined = asyncio.create_task(flights.load(["a"], load))
    await _settle()
    truth.release.set()

    assert await joined == {"a": "A"}
    assert truth.asked == [["a"]]
    assert seen == [60.0]  # The flight is bound to nobody's time.


async def test_load_goes_on_when_its_first_caller_is_cancelled(flights: Flights) -> None:
    """A caller that goes away takes nobody along."""
    truth = Truth()
    first = asyncio.create_task(flights.load(["a"], truth.load))
    await _settle()
    second = asyncio.create_task(flights.load(["a"], truth.load))
    await _settle()

    first.cancel()
    await _settle()
    truth.release.set()

    assert await second == {"a": "A"}
    assert first.cancelled()
    assert truth.asked == [["a"]]


async def test_failure_reaches_every_caller_and_is_forgotten_when_a_load_fails(flights: Flights) -> None:
    """All waiters get the error; the next caller loads anew."""
    truth = Truth()
    truth.error = ConnectionError("away")
    truth.release.set()

    results = await asyncio.gather(*(flights.load(["a"], truth.load) for _ in range(3)), return_exceptions=True)
    truth.error = None

    assert [type(result) for result in results] == [ConnectionError] * 3
    assert await flights.load(["a"], truth.load) == {"a": "A"}


async def test_failure_is_quiet_when_every_caller_has_gone(flights: Flights) -> None:
    """A load that fails with nobody waiting leaves no complaint about an unretrieved error."""
    complaints: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: complaints.append(context))
    truth = Truth()
    truth.error = ConnectionError("away")
    caller = asyncio.create_task(flights.load(["a"], truth.load))
    await _settle()

    caller.cancel()
    await _settle()
    truth.release.set()
    await flights.inner.close(grace_seconds=1)
    await _settle()

    assert complaints == []
    assert flights.inner.in_flight == 0


async def test_key_is_missing_in_the_answer_when_it_does_not_exist(flights: Flights) -> None:
    """What does not exist is left out, not None."""
    truth = Truth()
    truth.release.set()

    assert await flights.load(["a", "absent"], truth.load) == {"a": "A"}


@pytest.mark.parametrize(("join_since", "load_count"), [(-math.inf, 1), (1_000.0, 1), (1_000.001, 2), (2_000.0, 2)])
async def test_load_is_not_joined_when_it_began_before_the_time_allowed(join_since: float, load_count: int) -> None:
    """What an old load will bring is as old as its beginning; a caller that comes too late for it asks anew."""
    flights = Flights(join_since=lambda: join_since, monotonic=lambda: 1_000.0)
    truth = Truth()
    first = asyncio.create_task(flights.load(["a"], truth.load))
    await _settle()
    second = asyncio.create_task(flights.load(["a"], truth.load))
    await _settle()

    truth.release.set()

    assert (await first, await second) == ({"a": "A"}, {"a": "A"})
    assert truth.asked == [["a"]] * load_count


async def test_new_load_is_joined_when_an_old_one_is_still_under_way() -> None:
    """The old one ends without taking the new one's place away."""
    now = 1_000.0
    flights = Flights(join_since=lambda: now - 1, monotonic=lambda: now)
    old, new = Truth(), Truth()
    first = asyncio.create_task(flights.load(["a"], old.load))
    await _settle()
    now += 2
    second = asyncio.create_task(flights.load(["a"], new.load))
    await _settle()

    old.release.set()
    await first
    third = asyncio.create_task(flights.load(["a"], new.load))
    await _settle()
    new.release.set()

    assert (await second, await third) == ({"a": "A"}, {"a": "A"})
    assert (old.asked, new.asked) == ([["a"]], [["a"]])


@pytest.mark.parametrize(
    ("asked_at", "load_count"), [(1_000.0, 1), (1_000.04, 1), (1_000.05, 2), (1_000.2, 2), (math.inf, 2)]
)
async def test_landed_load_is_good_enough_when_its_caller_was_on_the_way(asked_at: float, load_count: int) -> None:
    """Whoever began before it ended could have joined it; whoever began later asks anew."""
    now = 1_000.0
    flights = Flights(monotonic=lambda: now)
    truth = Truth()
    truth.release.set()
    now += 0.05
    task = asyncio.create_task(flights.load(["a"], truth.load))
    await task

    found = await flights.load(["a"], truth.load, asked_at=asked_at)

    assert found == {"a": "A"}
    assert len(truth.asked) == load_count


async def test_failed_load_is_not_taken_when_it_has_landed(flights: Flights) -> None:
    """Who comes after a failure tries again."""
    truth = Truth()
    truth.release.set()
    truth.error = ConnectionError("away")
    with pytest.raises(ConnectionError):
        await flights.load(["a"], truth.load)
    truth.error = None

    assert await flights.load(["a"], truth.load, asked_at=0.0) == {"a": "A"}


async def test_what_has_landed_is_forgotten_when_nobody_can_be_on_his_way_any_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """However many keys were loaded, nothing of them stays."""
    monkeypatch.setattr("zpmeow.cache.single_flight.LINGER_SECONDS", 0.01)
    flights = Flights()
    brought: weakref.WeakSet[Value] = weakref.WeakSet()

    async def load(keys: Sequence[str]) -> Mapping[str, Value]:
        values = {key: Value() for key in keys}
        brought.update(values.values())
        return values

    for number in range(20):
        await flights.load([str(number), "again"], load)
        await asyncio.sleep(0.001)

    async with asyncio.timeout(10):
        while len(brought):
            gc.collect()
            await asyncio.sleep(0.01)


class Value:
    """Something that can be seen to be forgotten."""


async def test_waiting_for_several_flights_ends_with_the_first_that_fails(flights: Flights) -> None:
    """The others land all the same."""
    good, bad = Truth(), Truth()
    bad.error = ConnectionError("away")
    loads = [asyncio.create_task(flights.load([key], truth.load)) for key, truth in (("a", bad), ("b", good))]
    await _settle()
    both = asyncio.create_task(flights.load(["a", "b"], good.load))
    await _settle()
    bad.release.set()
    with pytest.raises(ConnectionError):
        await both
    good.release.set()

    ended = await asyncio.gather(*loads, return_exceptions=True)
    assert [type(ended[0]), ended[1]] == [ConnectionError, {"b": "B"}]


async def test_landed_load_is_not_kept_when_nobody_can_be_on_his_way(flights: Flights) -> None:
    """Who asked no tier first has no reason to take what has landed."""
    truth = Truth()
    truth.release.set()
    await flights.load(["a"], truth.load, lingers=False)

    await flights.load(["a"], truth.load, asked_at=0.0)

    assert truth.asked == [["a"], ["a"]]


async def test_keys_of_one_turn_are_one_flight_when_their_jobs_are_equal(flights: Flights) -> None:
    """Each caller gets its own; what is to be loaded otherwise is loaded otherwise."""
    truth, other = Truth(), Truth()
    truth.release.set()
    other.release.set()

    found = await asyncio.gather(
        flights.load(["a", "b"], truth.load), flights.load(["c"], truth.load), flights.load(["d"], other.load)
    )

    assert list(found) == [{"a": "A", "b": "B"}, {"c": "C"}, {"d": "D"}]
    assert (truth.asked, other.asked) == ([["a", "b", "c"]], [["d"]])


async def test_keys_wait_for_a_flight_to_land_when_so_many_are_under_way() -> None:
    """What comes meanwhile is one flight then; those who wait for it are counted."""
    flights, truth = Flights(most_under_way=2), Truth()
    callers = []
    for key in "abcdef":
        callers.append(asyncio.create_task(flights.load([key], truth.load)))
        await _settle()
    twice = asyncio.create_task(flights.load(["f"], truth.load))
    gone = asyncio.create_task(flights.load(["f"], truth.load))
    await _settle()
    gone.cancel()
    await _settle()

    asked, waiting = list(truth.asked), flights.inner.waiting
    truth.release.set()
    found = await asyncio.gather(*callers, twice)

    assert (asked, waiting) == ([["a"], ["b"]], 5)
    assert truth.asked[2:] == [["c", "d", "e", "f"]]
    assert found == [*({key: key.upper()} for key in "abcdef"), {"f": "F"}]
    assert (flights.inner.waiting, flights.inner.in_flight) == (0, 0)


async def test_flight_takes_no_more_when_it_is_full() -> None:
    """The next one is opened; nobody's keys are parted."""
    flights, truth = Flights(most_keys=3), Truth()
    truth.release.set()

    await asyncio.gather(*(flights.load([f"{number}a", f"{number}b"], truth.load) for number in range(3)))

    assert [len(keys) for keys in truth.asked] == [4, 2]


async def test_flight_that_has_waited_takes_no_other_keys() -> None:
    """Who comes late would have too little of its time, be it for a key that is in it."""
    now = 1_000.0
    flights, truth = Flights(most_under_way=1, boarding_seconds=1.0, monotonic=lambda: now), Truth()
    callers = []
    for key in ("a", "b", "c", "b", "a"):
        callers.append(asyncio.create_task(flights.load([key], truth.load)))
        await _settle()
        now += 2
    truth.release.set()
    await asyncio.gather(*callers)

    assert truth.asked == [["a"], ["b"], ["c"], ["b"]]
    assert flights.coalesced == ["a"]  # That one had begun.
    assert flights.inner.in_flight == 0


async def test_flight_that_waits_stays_open_when_an_older_one_of_its_job_begins() -> None:
    """Who comes then boards it."""
    now = 1_000.0
    flights, gate = Flights(most_under_way=1, boarding_seconds=1.0, monotonic=lambda: now), asyncio.Semaphore(0)
    asked: list[list[str]] = []

    async def load(keys: Sequence[str]) -> Mapping[str, str]:
        asked.append(list(keys))
        await gate.acquire()
        return dict.fromkeys(keys, "")

    callers = []
    for key in "abc":
        callers.append(asyncio.create_task(flights.load([key], load)))
        await _settle()
        now += 1.5
    now -= 1.5
    gate.release()
    await _settle()
    callers.append(asyncio.create_task(flights.load(["d"], load)))
    await _settle()
    gate.release()
    gate.release()
    await asyncio.gather(*callers)

    assert asked == [["a"], ["b"], ["c", "d"]]


async def test_flight_that_waits_is_joined_when_it_has_not_begun() -> None:
    """What it will bring is younger than whoever joins, however long ago it was opened."""
    now = 1_000.0
    flights = Flights(most_under_way=1, join_since=lambda: now, monotonic=lambda: now)
    truth = Truth()
    callers = []
    for key in "ab":
        callers.append(asyncio.create_task(flights.load([key], truth.load)))
        await _settle()
    now += 5
    callers += [asyncio.create_task(flights.load([key], truth.load)) for key in ("a", "b")]
    await _settle()
    truth.release.set()
    await asyncio.gather(*callers)

    assert truth.asked == [["a"], ["b", "a"]]
    assert flights.coalesced == ["b"]


async def test_others_are_answered_when_one_goes_away_before_the_flight_begins(flights: Flights) -> None:
    """Its keys are loaded all the same."""
    truth = Truth()
    truth.release.set()
    callers = [asyncio.create_task(flights.load([key], truth.load)) for key in "ab"]
    await asyncio.sleep(0)
    callers[0].cancel()

    assert await callers[1] == {"b": "B"}
    assert truth.asked == [["a", "b"]]


@pytest.mark.parametrize("order", ["ab", "ba"])
async def test_failure_of_the_second_flight_is_quiet_when_the_first_has_failed(flights: Flights, order: str) -> None:
    """A caller of both is told of the first, and nobody of an error that was never looked at."""
    complaints: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: complaints.append(context["message"]))
    releases = {key: asyncio.Event() for key in "ab"}

    async def fail(keys: Sequence[str]) -> Mapping[str, str]:
        await releases[keys[0]].wait()
        raise ConnectionError(keys[0])

    async def fail_too(keys: Sequence[str]) -> Mapping[str, str]:
        return await fail(keys)

    alone = [asyncio.create_task(flights.load([key], load)) for key, load in (("a", fail), ("b", fail_too))]
    await _settle()
    both = asyncio.create_task(flights.load(["a", "b"], fail))
    await _settle()

    for key in order:
        releases[key].set()
        await _settle()
    ended = [str(error) for error in await asyncio.gather(both, *alone, return_exceptions=True)]
    del both, alone
    await _settle()
    gc.collect()

    assert ended == ["a", "a", "b"]
    assert complaints == []


async def test_flights_in_line_land_when_it_is_closed() -> None:
    """Within the grace; a flight that takes longer is left alone."""
    flights, truth = Flights(most_under_way=1), Truth()
    callers = []
    for key in "abc":
        callers.append(asyncio.create_task(flights.load([key], truth.load)))
        await _settle()
    await flights.inner.close(grace_seconds=0)
    under_way = [caller.done() for caller in callers]
    truth.release.set()
    await flights.inner.close(grace_seconds=10)
    await _settle()

    assert under_way == [False] * 3
    assert [caller.done() for caller in callers] == [True] * 3
    assert truth.asked == [["a"], ["b", "c"]]


async def test_callers_are_cancelled_when_the_flight_is(flights: Flights) -> None:
    """At the end of the event loop, that is."""

    async def load(_keys: Sequence[str]) -> Mapping[str, str]:
        raise asyncio.CancelledError

    callers = [asyncio.create_task(flights.load([key], load)) for key in "ab"]
    await asyncio.wait(callers)

    assert [caller.cancelled() for caller in callers] == [True, True]
    assert flights.inner.in_flight == 0


async def test_flight_that_was_only_just_opened_lands_when_it_is_closed(flights: Flights) -> None:
    """It begins when the turn is over."""
    truth = Truth()
    truth.release.set()
    caller = asyncio.create_task(flights.load(["a"], truth.load))
    await asyncio.sleep(0)

    await flights.inner.close(grace_seconds=10)

    assert truth.asked == [["a"]]
    assert await caller == {"a": "A"}


async def test_nobody_waits_for_ever_when_flights_are_cancelled_before_they_begin(flights: Flights) -> None:
    """By whoever cancels all tasks that there are."""
    truth = Truth()
    others = asyncio.all_tasks()
    caller = asyncio.create_task(flights.load(["a"], truth.load))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    for task in asyncio.all_tasks() - others - {caller}:
        task.cancel()
    await asyncio.wait([caller])
    truth.release.set()

    assert caller.cancelled()
    assert truth.asked == []
    assert await flights.load(["a"], truth.load) == {"a": "A"}


async def test_landed_load_is_not_taken_when_it_began_before_the_time_allowed() -> None:
    """However lately it landed."""
    now = 1_000.0
    flights = Flights(join_since=lambda: now - 1, monotonic=lambda: now)
    truth = Truth()
    first = asyncio.create_task(flights.load(["a"], truth.load))
    await _settle()
    now += 2
    truth.release.set()
    await first

    await flights.load(["a"], truth.load, asked_at=1_001.0)

    assert truth.asked == [["a"], ["a"]]


async def test_landed_load_is_kept_when_one_of_those_who_shared_it_may_be_followed(flights: Flights) -> None:
    """By those who asked a tier first, as he did."""
    truth = Truth()
    truth.release.set()
    await asyncio.gather(flights.load(["a"], truth.load, lingers=True), flights.load(["b"], truth.load, lingers=False))

    await flights.load(["a", "b"], truth.load, asked_at=0.0)

    assert truth.asked == [["a", "b"]]


async def test_landed_load_is_taken_only_for_keys_for_which_it_may() -> None:
    """Others are loaded again."""
    flights, truth = Flights(may_linger=lambda brought, key: brought[key] != "B"), Truth()
    truth.release.set()
    await flights.load(["a", "b"], truth.load)

    found = await flights.load(["a", "b"], truth.load, asked_at=0.0)

    assert found == {"a": "A", "b": "B"}
    assert truth.asked == [["a", "b"], ["b"]]


async def test_nobody_waits_for_ever_when_it_cannot_be_told_what_may_linger() -> None:
    """A mistake of ours is reported, and costs nobody his answer."""
    complaints: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: complaints.append(context["exception"]))

    def fail(_brought: object, _key: str) -> bool:
        raise KeyError

    flights, truth = Flights(may_linger=fail, most_under_way=1), Truth()
    truth.release.set()
    found = [await flights.load([key], truth.load) for key in "ab"]

    assert found == [{"a": "A"}, {"b": "B"}]
    assert [type(one) for one in complaints] == [KeyError] * 2
    assert flights.inner.in_flight == 0
