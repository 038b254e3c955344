"""What the relay decides: from where it goes on, what makes everything void, when it leads, when it is silent."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from uuid import UUID

import pytest

from tests.fakes.cached_sessions import LIFETIMES
from tests.fakes.faulty_tier import FaultyTier
from tests.fakes.in_memory_change_log import InMemoryChangeLog
from tests.fakes.memory_tier import MemoryTier
from zpmeow.cache.entry_codec import EntryCodec
from zpmeow.cache.envelope import VERSION_OFFSET
from zpmeow.cache.position import POSITION_KEY, Position, decode_position
from zpmeow.domain.changes import Change
from zpmeow.domain.records import Entity
from zpmeow.events import EpochBegun, Event, InvalidationSent, LeadChanged
from zpmeow.repositories.cache_policies import CachePolicies
from zpmeow.repositories.change_keys import ChangeKeys
from zpmeow.repositories.invalidation_relay import BATCH, GATHER_SECONDS, InvalidationRelay

TURNS = 80  # More turns of the event loop than anything here takes.


def status(number: int, version: int) -> Change:
    """Describe a change of a session's status."""
    return Change(entity="status", key=str(UUID(int=number)), version=version)


@dataclass
class Bench:
    """A relay between a log and a tier, all in a test's hand. The relay's pauses take one turn of the loop."""

    log: InMemoryChangeLog = field(default_factory=InMemoryChangeLog)
    memory: MemoryTier = field(default_factory=MemoryTier)
    events: list[Event] = field(default_factory=list)
    pauses: list[float] = field(default_factory=list)  # After failures.
    now: float = 0.0

    def __post_init__(self) -> None:
        """Put together; nothing runs yet."""
        self.tier = FaultyTier(self.memory)
        self.policies = CachePolicies(LIFETIMES)
        self.gate = asyncio.Event()
        self.gate.set()
        self.tasks: list[asyncio.Task[None]] = []
        self.relay = self.make_relay()

    def make_relay(self) -> InvalidationRelay:
        """Make one more relay on the same log and tier."""

        async def pause(seconds: float) -> None:
            if seconds != GATHER_SECONDS:
                self.pauses.append(seconds)
            await asyncio.sleep(0)

        return InvalidationRelay(
            log=self.log,
            sink=self.tier,
            keys=ChangeKeys(policies=self.policies, codec=EntryCodec(now_ms=lambda: 0)),
            gate=self.gate,
            observer=self.events.append,
            monotonic=lambda: self.now,
            sleep=pause,
        )

    def start(self, relay: InvalidationRelay | None = None) -> asyncio.Task[None]:
        """Let a relay run."""
        task: asyncio.Task[None] = asyncio.create_task((relay or self.relay).run())
        self.tasks.append(task)
        return task

    async def settle(self, *, wake: bool = True) -> None:
        """Let everything happen that can."""
        if wake:
            self.relay.wake()
        for _ in range(TURNS):
            await asyncio.sleep(0)

    async def stop(self) -> None:
        """Stop all relays."""
        for task in self.tasks:
            task.cancel()
        if self.tasks:
            await asyncio.wait(self.tasks)
        self.tasks.clear()

    @property
    def position(self) -> Position:
        """The position that stands in the tier."""
        position = decode_position(self.memory.stored[POSITION_KEY] or b"")
        assert position is not None
        return position

    def place(self, position: Position) -> None:
        """Put another position in the tier."""
        self.memory.place(POSITION_KEY, position.encode())

    def fenced(self, number: int) -> int | None:
        """Return the version below which nothing of a session's status is readable; None: there is no fence."""
        stored = self.memory.stored.get(self.policies.entry_key(UUID(int=number), Entity.STATUS).text)
        return None if stored is None else int.from_bytes(stored[VERSION_OFFSET : VERSION_OFFSET + 8])

    def begun(self) -> list[str]:
        """Why epochs were begun."""
        return [event.reason for event in self.events if isinstance(event, EpochBegun)]

    def led(self) -> list[bool]:
        """When the lead began and ended."""
        return [event.leads for event in self.events if isinstance(event, LeadChanged)]


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    """A bench whose relays are stopped in the end."""
    bench = Bench()
    yield bench
    await bench.stop()


@pytest.fixture
async def running(bench: Bench) -> Bench:
    """A bench whose relay leads, in an epoch that it has begun."""
    bench.start()
    await bench.settle()
    assert bench.relay.leads
    bench.events.clear()
    return bench


async def test_new_epoch_begins_when_the_tier_is_empty(bench: Bench) -> None:
    """A tier without a position may hold anything: nothing of it is believed, and the position says from where on."""
    before = bench.log.epoch

    bench.start()
    await bench.settle()

    assert bench.log.epoch != before
    assert (bench.position.epoch, bench.position.database) == (bench.log.epoch, bench.log.database)
    assert bench.begun() == ["Redis has no position: it is empty, or has lost it"]
    assert bench.led() == [True]


async def test_changes_become_fences_when_the_relay_is_woken(running: Bench) -> None:
    """What was committed is applied, the position moves behind it, and one event tells how much it was."""
    running.log.commit([status(1, 7), status(2, 8), Change(entity="name", key="alpha", version=7)])

    await running.settle()

    assert (running.fenced(1), running.fenced(2)) == (7, 8)
    newest = running.log.lines[-1]
    assert running.position.anchor == (newest.txid, newest.seq, newest.nonce)
    assert running.events == [InvalidationSent("relay", "applied", 3)]


async def test_position_goes_on_where_it_stands_when_a_relay_begins(running: Bench) -> None:
    """The next leader applies what was committed meanwhile, in the same epoch."""
    await running.stop()
    epoch = running.log.epoch
    running.log.commit([status(1, 7)])

    running.start(running.make_relay())
    await running.settle()

    assert running.fenced(1) == 7
    assert running.position.epoch == running.log.epoch == epoch
    assert running.begun() == []


async def test_line_is_applied_when_its_transaction_commits_late(running: Bench) -> None:
    """Others are not held up by an open transaction, and it is not forgotten."""
    txid = running.log.begin()
    running.log.commit([status(1, 7)])
    await running.settle()
    early = (running.fenced(1), running.fenced(2))

    running.log.end(txid, [status(2, 6)])
    await running.settle()

    assert early == (7, None)
    assert running.fenced(2) == 6
    assert running.position.snapshot == running.log.snapshot()


async def test_all_batches_are_applied_when_there_is_a_backlog(running: Bench) -> None:
    """Batch by batch; the snapshot of the position moves only when all that was visible in it has been applied."""
    await running.stop()
    before = running.position
    running.log.commit([status(number, number) for number in range(1, 2 * BATCH + 2)])
    positions: list[Position] = []
    plain = running.memory.apply

    async def apply(*arguments: object, **named: object) -> bool:
        applied = await plain(*arguments, **named)  # type: ignore[arg-type]
        positions.append(running.position)
        return applied

    running.memory.apply = apply  # type: ignore[method-assign]
    running.start()
    await running.settle(wake=False)

    assert [running.fenced(number) for number in (1, BATCH, BATCH + 1, 2 * BATCH + 1)] == [
        1,
        BATCH,
        BATCH + 1,
        2 * BATCH + 1,
    ]
    assert [position.snapshot for position in positions[:3]] == [before.snapshot] * 2 + [running.log.snapshot()]
    assert [position.at_ms == before.at_ms for position in positions[:3]] == [True, True, False]


@pytest.mark.parametrize("cut", [1, 2])
async def test_backlog_is_applied_from_its_beginning_when_the_relay_was_cut_off_in_it(running: Bench, cut: int) -> None:
    """A position in the middle of a backlog says nothing of the part that is missing."""
    await running.stop()
    running.log.commit([status(number, number) for number in range(1, 3 * BATCH)])
    plain, calls = running.memory.apply, 0

    async def apply(*arguments: object, **named: object) -> bool:
        nonlocal calls
        calls += 1
        if calls > cut:
            await asyncio.Event().wait()
        return await plain(*arguments, **named)  # type: ignore[arg-type]

    running.memory.apply = apply  # type: ignore[method-assign]
    running.start()
    await running.settle(wake=False)
    await running.stop()
    running.memory.apply = plain  # type: ignore[method-assign]

    running.start(running.make_relay())
    await running.settle(wake=False)

    assert all(running.fenced(number) == number for number in range(1, 3 * BATCH))
    assert running.begun() == []


@pytest.mark.parametrize(
    ("way", "reason"),
    [
        ("missing", "no position"),
        ("garbage", "no position"),
        ("wrong type", "no position"),
        ("other epoch", "another epoch"),
        ("other database", "another database"),
        ("other line", "does not have the line"),
        ("pruned", "longer than the change log is kept"),
    ],
)
async def test_new_epoch_begins_when_the_position_does_not_fit(running: Bench, way: str, reason: str) -> None:
    """What cannot be told from the log makes everything void, once, and the reason is told."""
    await running.stop()
    position, epoch = running.position, running.log.epoch
    running.log.commit([status(1, 7)])
    match way:
        case "missing":
            del running.memory.stored[POSITION_KEY]
        case "garbage":
            running.memory.place(POSITION_KEY, b"garbage")
        case "wrong type":
            running.memory.place(POSITION_KEY, None)
        case "other epoch":
            running.place(replace(position, epoch=b"x" * 16))
        case "other database":
            running.place(replace(position, database=b"x" * 16))
        case "other line":
            running.place(replace(position, anchor=(position.anchor[0], position.anchor[1], "0" * 32)))
        case "pruned":
            running.log.pruned_txid = position.snapshot[0]

    running.start(running.make_relay())
    await running.settle()

    assert running.log.epoch != epoch
    assert running.position.epoch == running.log.epoch
    assert len(running.begun()) == 1
    assert reason in running.begun()[0]
    assert running.log.epochs_raised == 2


async def test_new_epoch_begins_when_the_position_vanishes_under_a_running_relay(running: Bench) -> None:
    """FLUSHALL: the next position is refused, and the place is found empty."""
    epoch = running.log.epoch
    running.tier.wipe()

    await running.settle()

    assert running.position.epoch == running.log.epoch != epoch
    assert len(running.begun()) == 1


async def test_changes_are_applied_again_when_the_tier_was_set_back(running: Bench) -> None:
    """An old snapshot of the server has an old position beside old entries: what they have not seen is told again."""
    old = dict(running.memory.stored)
    running.log.commit([status(1, 7)])
    await running.settle()
    running.memory.stored.clear()
    running.memory.stored.update(old)

    await running.settle()

    assert running.fenced(1) == 7
    assert running.begun() == []


async def test_nothing_moves_when_somebody_else_has_moved_the_position(running: Bench) -> None:
    """Who was frozen while another led finds another position, applies nothing on top of it, and goes on from there."""
    await running.stop()
    other = running.make_relay()
    running.log.commit([status(1, 7)])
    stalled, released = asyncio.Event(), asyncio.Event()
    plain = running.memory.apply

    async def apply(*arguments: object, **named: object) -> bool:
        if not stalled.is_set():
            stalled.set()
            await released.wait()
        return await plain(*arguments, **named)  # type: ignore[arg-type]

    running.memory.apply = apply  # type: ignore[method-assign]
    running.start()
    await running.settle(wake=False)
    assert stalled.is_set()
    running.log.take_lead_away()
    running.start(other)
    await running.settle(wake=False)
    moved = running.memory.stored[POSITION_KEY]
    assert running.fenced(1) == 7

    released.set()
    await running.settle(wake=False)

    assert running.position.order >= decode_position(moved or b"").order  # type: ignore[union-attr]
    assert running.begun() == []


async def test_nobody_else_leads_when_one_does(running: Bench) -> None:
    """The second waits, and leads when the first is gone."""
    second = running.make_relay()
    running.start(second)
    await running.settle()
    led_before = second.leads

    running.tasks[0].cancel()
    await running.settle()

    assert not led_before
    assert second.leads
    assert not running.relay.leads


@pytest.mark.parametrize("fault", ["refused", "timeout", "bypassed"])
async def test_relay_leads_again_when_the_tier_was_away(running: Bench, fault: str) -> None:
    """It steps down, so that others may try, and brings what was committed when the tier is back."""
    running.tier.fault = fault
    running.log.commit([status(1, 7)])
    await running.settle()
    led_meanwhile = running.relay.leads

    running.tier.fault = None
    await running.settle()

    assert not led_meanwhile
    assert running.relay.leads
    assert running.fenced(1) == 7
    assert running.led() == [False, True]
    assert running.begun() == []


async def test_relay_leads_again_when_the_database_was_away(running: Bench) -> None:
    """The same with the database."""
    running.log.fault = "away"
    await running.settle()
    led_meanwhile = running.relay.leads
    running.log.fault = None
    running.log.commit([status(1, 7)])

    await running.settle()

    assert not led_meanwhile
    assert running.fenced(1) == 7
    assert running.led() == [False, True]
    assert [event.reason for event in running.events if isinstance(event, LeadChanged)] == ["away", ""]


async def test_database_is_left_alone_when_the_tier_is_away(bench: Bench) -> None:
    """Without Redis there is nothing to lead for: a process that cannot reach it does not take the lead from others."""
    bench.tier.fault = "refused"

    bench.start()
    await bench.settle()

    assert not bench.log.is_led
    assert bench.log.epochs_raised == 0
    assert bench.led() == [False]  # Why nobody leads is told once, however often it is tried.


async def test_pauses_grow_when_nothing_works_and_are_short_again_when_it_did(bench: Bench) -> None:
    """Servers that come back are not met by a crowd; one that was led for a while is tried again at once."""
    bench.log.fault = "away"
    bench.start()
    await bench.settle()
    growing = list(bench.pauses)
    bench.log.fault = None
    await bench.settle()
    assert bench.relay.leads
    bench.now += 10
    bench.pauses.clear()

    bench.log.fault = "away again"
    await bench.settle()

    assert growing[:4] == sorted(growing[:4])
    assert growing[0] < growing[-1] == max(growing)
    assert bench.pauses[0] == growing[0]


async def test_nothing_is_sent_when_it_may_not_be(bench: Bench) -> None:
    """An operator's bypass is one for the relay as well, from its start."""
    bench.gate.clear()

    bench.start()
    await bench.settle()
    calls_before = list(bench.memory.calls)
    bench.gate.set()
    await bench.settle()

    assert calls_before == []
    assert bench.relay.leads


async def test_nothing_is_sent_when_it_may_not_be_any_more(running: Bench) -> None:
    """What was committed in a bypass is brought after it, in the same epoch."""
    running.gate.clear()
    await running.settle()
    running.memory.calls.clear()
    running.log.commit([status(1, 7)])
    await running.settle()
    calls_meanwhile = list(running.memory.calls)

    running.gate.set()
    await running.settle()

    assert calls_meanwhile == []
    assert running.fenced(1) == 7
    assert running.begun() == []


async def test_log_is_read_once_more_when_the_wake_comes_during_a_reading(running: Bench) -> None:
    """A change that is told while the log is being read may not have been in it: it does not wait for the next beat."""
    plain, woken = running.memory.apply, False

    async def apply(*arguments: object, **named: object) -> bool:
        nonlocal woken
        if not woken:
            woken = True
            running.log.commit([status(1, 7)])
            running.relay.wake()
        return await plain(*arguments, **named)  # type: ignore[arg-type]

    running.memory.apply = apply  # type: ignore[method-assign]
    await running.settle()

    assert running.fenced(1) == 7


async def test_position_is_renewed_when_it_is_asked_for_and_nothing_has_changed(running: Bench) -> None:
    """Readers believe a position for a while only: each wake leaves a new one."""
    before = running.memory.stored[POSITION_KEY]

    await running.settle()

    assert running.memory.stored[POSITION_KEY] != before
    assert running.position.anchor == decode_position(before or b"").anchor  # type: ignore[union-attr]
    assert running.events == []


async def test_lead_is_given_up_when_the_relay_is_stopped(running: Bench) -> None:
    """A stop leaves the lead to others at once."""
    await running.stop()

    assert not running.relay.leads
    assert not running.log.is_led


async def test_position_is_of_the_new_epoch_when_somebody_raised_it_under_a_running_relay(running: Bench) -> None:
    """TRUNCATE, or an operator: the position follows, or Redis would stay unbelieved until the leader changes."""
    running.log.raise_epoch()

    await running.settle()
    await running.settle()

    assert running.position.epoch == running.log.epoch
    assert len(running.begun()) == 1


async def test_epochs_are_not_raised_without_end_when_the_bound_makes_every_position_doubtful(running: Bench) -> None:
    """However wrong the bound is, there is a pause between two epochs."""
    plain = running.memory.apply

    async def apply(*arguments: object, **named: object) -> bool:
        await asyncio.sleep(0)  # A loop without a pause would never let this test go on.
        return await plain(*arguments, **named)  # type: ignore[arg-type]

    running.memory.apply = apply  # type: ignore[method-assign]
    running.log.pruned_txid = 2**63
    raised = running.log.epochs_raised
    running.relay.wake()

    for _ in range(80):
        await asyncio.sleep(0)

    assert running.log.epochs_raised - raised <= 3  # Or however many pauses of yours fit into 80 turns.


async def test_nothing_is_sent_when_a_bypass_began_while_the_lead_was_waited_for(running: Bench) -> None:
    """A follower may wait for hours: what an operator wants now counts, not what he wanted then."""
    second = running.make_relay()
    running.start(second)
    await running.settle()
    running.gate.clear()
    running.log.take_lead_away()  # The leader says nothing in a bypass, and has lost the lead.
    running.tasks[0].cancel()
    for task in running.tasks[1:]:
        task.cancel()
    await running.settle(wake=False)
    running.gate.set()
    waiting = running.make_relay()
    holder = running.log.lead()
    await holder.__aenter__()
    running.start(waiting)
    await running.settle(wake=False)
    running.gate.clear()
    running.memory.calls.clear()

    await holder.__aexit__(None, None, None)
    await running.settle(wake=False)

    assert running.memory.calls == []
    running.gate.set()


async def test_position_does_not_hold_what_a_crash_may_take_back(running: Bench) -> None:
    """Numbers of transactions beyond the newest line may be given out again after a crash: they are not seen."""
    newest = running.log.lines[-1].txid
    for _ in range(10):
        running.log.end(running.log.begin(), [])  # Rolled back, or not waiting for the disk.

    await running.settle()

    assert running.position.snapshot[1] <= newest + 1


async def test_no_epoch_is_begun_when_the_tier_takes_no_writes(bench: Bench) -> None:
    """A full or read-only Redis could not be told: epoch after epoch would make everything void for nothing."""
    bench.tier.fault = "read only"
    raised = bench.log.epochs_raised

    bench.start()
    for _ in range(5):
        await bench.settle()
    bench.tier.fault = None
    await bench.settle()

    assert bench.log.epochs_raised - raised == 1
    assert len(bench.begun()) == 1
    assert bench.relay.leads


async def test_lead_is_left_when_a_bypass_begins(running: Bench) -> None:
    """Who may not send does not lead, and does not say that he does."""
    running.gate.clear()

    await running.settle()

    assert not running.relay.leads
    assert not running.log.is_led
