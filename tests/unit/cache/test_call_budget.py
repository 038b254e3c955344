"""How the time of one request is shared by its cache calls."""

import asyncio

import pytest

from zpmeow.cache.call_budget import (
    CallBudget,
    budget_or_fresh,
    observe_progress,
    open_budget,
    outside_budget,
    renew_budget,
    report_talking,
    report_waiting,
)


def test_budget_is_shared_when_calls_follow_each_other() -> None:
    """The second call has what the first one left; the time in between is free."""
    budget = CallBudget(seconds=0.05)

    first = budget.begin(100.0)
    budget.end(100.03)
    second = budget.begin(200.0)

    assert first == pytest.approx(100.05)
    assert second == pytest.approx(200.02)


def test_budget_is_charged_once_when_calls_run_at_the_same_time() -> None:
    """Parallel calls share one deadline, and only the time from the first to the last counts."""
    budget = CallBudget(seconds=0.05)

    first = budget.begin(100.0)
    second = budget.begin(100.01)
    budget.end(100.02)
    third = budget.begin(100.025)
    budget.end(100.03)
    budget.end(100.04)

    assert first == second == third == pytest.approx(100.05)
    assert budget.begin(200.0) == pytest.approx(200.01)


def test_budget_is_used_up_when_calls_took_all_of_it() -> None:
    """Then the next deadline has passed before the call begins."""
    budget = CallBudget(seconds=0.05)
    budget.begin(100.0)
    budget.end(100.06)

    assert budget.begin(200.0) < 200.0


def test_budget_begins_anew_when_it_is_renewed() -> None:
    """After a pause at the caller's wish; while a call runs, nothing changes."""
    with open_budget(0.05) as budget:
        budget.begin(100.0)
        budget.talked_seconds = 0.04
        renew_budget()
        during = (budget.is_whole, budget.talked_seconds)
        budget.end(100.06)
        renew_budget()

    renew_budget()  # Outside there is none.
    assert during == (False, 0.04)
    assert (budget.is_whole, budget.talked_seconds) == (True, 0.0)
    assert budget.begin(200.0) == pytest.approx(200.05)


def test_budget_is_found_within_its_block_only() -> None:
    """Inside the block all calls find the same one; outside each gets a fresh one."""
    with open_budget(0.05) as opened:
        assert budget_or_fresh(1.0) is opened
        assert budget_or_fresh(1.0) is opened
        with outside_budget():
            assert budget_or_fresh(1.0) is not opened
        assert budget_or_fresh(1.0) is opened

    assert budget_or_fresh(1.0) is not opened
    assert budget_or_fresh(1.0).begin(10.0) == 11.0


async def test_budget_is_fresh_when_a_task_outlives_its_request() -> None:
    """A task made within a request shares its budget, until the request has ended."""
    found: list[CallBudget] = []
    ended = asyncio.Event()

    async def task() -> None:
        found.append(budget_or_fresh(1.0))
        await ended.wait()
        found.append(budget_or_fresh(1.0))

    with open_budget(0.05) as opened:
        running = asyncio.create_task(task())
        await asyncio.sleep(0)
    ended.set()
    await running

    assert found[0] is opened
    assert found[1] is not opened


async def test_budgets_are_apart_when_requests_run_at_the_same_time() -> None:
    """Each request finds its own."""

    async def request() -> None:
        with open_budget(0.05) as opened:
            await asyncio.sleep(0)
            assert budget_or_fresh(1.0) is opened

    await asyncio.gather(*(request() for _ in range(10)))


def test_progress_tells_since_when_a_call_talks() -> None:
    """A call talks from its beginning, until it says that it waits, and again when it says so."""
    progress = observe_progress(100.0)

    assert progress.talked_seconds(100.5) == 0.5
    report_waiting()
    assert progress.talked_seconds(101.0) == 0.0
    report_talking(102.0)
    assert progress.talked_seconds(102.25) == 0.25


def test_progress_is_the_next_calls_when_calls_follow_each_other() -> None:
    """A report concerns the last call alone."""
    first = observe_progress(100.0)
    second = observe_progress(200.0)

    report_talking(201.0)

    assert first.talking_since == 100.0
    assert second.talking_since == 201.0


async def test_progress_is_each_calls_own_when_calls_run_at_the_same_time() -> None:
    """Reports of one task never reach the call of another."""

    async def call(number: int) -> None:
        progress = observe_progress(number)
        await asyncio.sleep(0)
        report_talking(number + 0.5)
        await asyncio.sleep(0)
        assert progress.talking_since == number + 0.5

    await asyncio.gather(*(call(number) for number in range(10)))
