"""The cached repository where two callers, a write that broke off and an old Redis meet."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import pytest
from typing_extensions import override

from tests.fakes.cached_sessions import CachedSessions, make_cached_sessions
from tests.fakes.faulty_session_repository import FaultySessionRepository
from tests.fakes.faulty_tier import FaultyTier
from tests.fakes.in_memory_change_log import InMemoryChangeLog
from tests.fakes.in_memory_session_repository import InMemorySessionRepository
from tests.fakes.memory_tier import MemoryTier
from zpmeow.cache.tier import PutOutcome, Write
from zpmeow.domain.api_key import generate_api_key, hash_api_key
from zpmeow.domain.changes import Change
from zpmeow.domain.errors import DatabaseUnavailable, Unavailable
from zpmeow.domain.ports import NewSession, SessionChanges, SessionRepository
from zpmeow.domain.records import Entity, ReadSource, SessionStatus, Snapshot
from zpmeow.domain.references import ById, ByKeyHash, ByName, SessionReference
from zpmeow.domain.transitions import report

ONLY_SESSION = frozenset({Entity.SESSION})
ALL = frozenset(Entity)


class GatedSessionRepository(FaultySessionRepository):
    """Asks the truth at once and hands the answer out when the gate is open: a slow answer, not a slow question."""

    def __init__(self, inner: SessionRepository) -> None:
        """Stand open."""
        super().__init__(inner)
        self.gate = asyncio.Event()
        self.gate.set()
        self.error_after_write: Exception | None = None

    @override
    async def find(
        self, reference: SessionReference, entities: frozenset[Entity], *, with_secrets: bool = False
    ) -> Snapshot | None:
        found = await super().find(reference, entities, with_secrets=with_secrets)
        await self.gate.wait()
        return found

    @override
    async def update(self, reference: SessionReference, changes: SessionChanges) -> Snapshot:
        changed = await super().update(reference, changes)
        if self.error_after_write is not None:
            raise self.error_after_write
        return changed


class GatedTier(FaultyTier):
    """Reads at once and hands the answer out when the gate is open that stood there when it was asked."""

    def __init__(self, inner: MemoryTier) -> None:
        """Stand open."""
        super().__init__(inner)
        self.gate = asyncio.Event()
        self.gate.set()

    @override
    async def get_many(self, keys: Sequence[str]) -> list[bytes | None]:
        gate = self.gate
        found = await super().get_many(keys)
        await gate.wait()
        return found

    def hold(self) -> asyncio.Event:
        """Hold back the answers to what is asked from now on, until the event is set."""
        self.gate = asyncio.Event()
        return self.gate

    def stand_open(self) -> None:
        """Answer at once what is asked from now on."""
        self.gate = asyncio.Event()
        self.gate.set()


@dataclass
class Bench:
    """A repository with everything around it in a test's hand. The change feed tells of each commit at once."""

    time: datetime = datetime(2026, 1, 1, tzinfo=UTC)
    memory: MemoryTier = field(default_factory=MemoryTier)

    def __post_init__(self) -> None:
        """Wire up."""
        self.tier = GatedTier(self.memory)
        self.log = InMemoryChangeLog(now=self.now)
        self.processes: list[CachedSessions] = []
        self.inner = InMemorySessionRepository(now=self.now, committed=self._committed)
        self.truth = GatedSessionRepository(self.inner)
        self.cached = self.start_process()
        self.repository = self.cached.repository

    def start_process(self) -> CachedSessions:
        """Begin with an empty memory on the same truth, log and tier."""
        process = make_cached_sessions(
            truth=self.truth, tier=self.tier, clock=self, monotonic=self.monotonic, log=self.log
        )
        self.processes.append(process)
        return process

    def now(self) -> datetime:
        """Return the time."""
        return self.time

    def monotonic(self) -> float:
        """Return the time in seconds."""
        return self.time.timestamp()

    async def pass_time(self, seconds: float) -> None:
        """Let time pass, and the feed and the relay be heard then."""
        self.time += timedelta(seconds=seconds)
        self.memory.now_seconds += seconds
        await self.relay()

    async def relay(self) -> None:
        """Let background work end, and the relay bring what it can."""
        await settle()
        await self.cached.relay_once()
        await settle()

    async def create(self, name: str) -> tuple[Snapshot, bytes]:
        """Make a session and let what follows settle."""
        key_hash = hash_api_key(generate_api_key())
        created = await self.repository.create(NewSession(name=name, key_hash=key_hash))
        await settle()
        return created, key_hash

    async def close(self) -> None:
        """End all processes."""
        for process in self.processes:
            await process.close()

    def _committed(self, changes: Sequence[Change]) -> None:
        self.log.commit(changes)
        for process in self.processes:
            process.feed.changed(changes)


async def settle() -> None:
    """Let background work end."""
    for _ in range(30):
        await asyncio.sleep(0)


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    """A bench whose relay has brought a position: Redis is believed."""
    one = Bench()
    await one.relay()
    yield one
    await one.close()


async def test_name_is_found_when_it_was_created_during_a_look_up(bench: Bench) -> None:
    """Who asks after the creation was acknowledged does not share the "not found" of who asked before."""
    bench.tier.fault = "bypassed"
    bench.truth.gate.clear()
    early = asyncio.create_task(bench.repository.find(ByName("alpha"), ONLY_SESSION))
    await settle()
    await bench.repository.create(NewSession(name="alpha", key_hash=hash_api_key("k" * 32)))

    late = asyncio.create_task(bench.repository.find(ByName("alpha"), ONLY_SESSION))
    await settle()
    bench.truth.gate.set()

    await early  # Either answer was right at some time while it waited.
    assert await late is not None


async def test_name_is_found_when_a_rename_came_during_a_look_up(bench: Bench) -> None:
    """The same with a rename."""
    created, _ = await bench.create("alpha")
    bench.tier.fault = "bypassed"
    bench.truth.gate.clear()
    early = asyncio.create_task(bench.repository.find(ByName("beta"), ONLY_SESSION))
    await settle()
    await bench.repository.update(ById(created.session.id), SessionChanges(name="beta"))

    late = asyncio.create_task(bench.repository.find(ByName("beta"), ONLY_SESSION))
    await settle()
    bench.truth.gate.set()

    await early
    assert await late is not None


async def test_broken_off_rotation_is_told_by_the_feed(bench: Bench) -> None:
    """The old key opens nothing once the truth has answered."""
    created, old = await bench.create("alpha")
    bench.truth.error_after_write = DatabaseUnavailable("broken off")

    with pytest.raises(Unavailable):
        await bench.repository.update(ById(created.session.id), SessionChanges(key_hash=hash_api_key("n" * 32)))
    await settle()

    assert await bench.repository.find(ByKeyHash(old), ONLY_SESSION) is None


async def test_broken_off_rename_by_name_is_told_by_the_feed(bench: Bench) -> None:
    """The hint tells which session is meant, for the name is gone."""
    await bench.create("alpha")
    bench.truth.error_after_write = DatabaseUnavailable("broken off")

    with pytest.raises(Unavailable):
        await bench.repository.update(ByName("alpha"), SessionChanges(name="beta"))
    await settle()

    assert await bench.repository.find(ByName("alpha"), ONLY_SESSION) is None


async def test_broken_off_delete_by_name_is_told_by_the_feed_when_redis_is_away_too(bench: Bench) -> None:
    """A network that breaks takes both: nobody knows the id, and the deleted session's key must not open it."""
    _, key_hash = await bench.create("alpha")
    bench.tier.fault = "timeout"
    bench.truth.fault = "broken_off"
    with pytest.raises(Unavailable):
        await bench.repository.delete(ByName("alpha"))
    bench.truth.fault = None
    await settle()
    bench.tier.fault = None
    await bench.pass_time(100)

    assert await bench.repository.find(ByKeyHash(key_hash), ONLY_SESSION) is None


async def test_broken_off_write_by_name_is_told_by_the_feed_when_the_hint_is_wrong(bench: Bench) -> None:
    """A hint is a guess: here it leads to the session that had the name before."""
    first, _ = await bench.create("alpha")
    await bench.repository.update(ById(first.session.id), SessionChanges(name="gamma"))
    second, old = await bench.create("beta")
    await settle()
    await bench.repository.update(ById(second.session.id), SessionChanges(name="alpha"))
    await settle()
    bench.memory.place("zpmeow:name:alpha", str(first.session.id).encode())  # The new hint was lost.
    bench.truth.error_after_write = DatabaseUnavailable("broken off")

    with pytest.raises(Unavailable):
        await bench.repository.update(ByName("alpha"), SessionChanges(key_hash=hash_api_key("n" * 32)))
    await settle()

    assert await bench.repository.find(ByKeyHash(old), ONLY_SESSION) is None


async def test_invalidate_empties_the_cache_of_a_session_that_the_truth_does_not_have(bench: Bench) -> None:
    """Somebody deleted it by psql; the operator's remedy is this call."""
    created, key_hash = await bench.create("alpha")
    await bench.inner.delete(ById(created.session.id))

    await bench.repository.invalidate(ById(created.session.id))
    await settle()

    assert await bench.repository.find(ByKeyHash(key_hash), ONLY_SESSION) is None


async def test_warm_sends_nothing_that_was_loaded_longer_ago_than_floors_live(bench: Bench) -> None:
    """Ten thousand sessions take minutes on a slow Redis: the last of them were loaded before what changed since."""
    created, old = await bench.create("alpha")
    newest, _ = await bench.create("omega")
    await bench.repository.update(ById(newest.session.id), SessionChanges(name="omega2"))
    plain = bench.memory.put_many
    done = False

    async def slow(writes: list[Write]) -> list[PutOutcome]:
        nonlocal done
        if not done:
            done = True
            await bench.repository.update(ById(created.session.id), SessionChanges(key_hash=hash_api_key("n" * 32)))
            await bench.pass_time(80)
            bench.tier.wipe()
        return await plain(writes)

    bench.memory.put_many = slow  # type: ignore[assignment,method-assign]
    await bench.repository.warm(10)
    await settle()
    await bench.pass_time(80)

    assert await bench.repository.find(ByKeyHash(old), ONLY_SESSION) is None


async def test_load_from_before_a_new_epoch_is_not_kept_in_it(bench: Bench) -> None:
    """TRUNCATE raises the epoch and no version tells of it: what was read before belongs to the old one."""
    created, _ = await bench.create("alpha")
    await bench.repository.change_status(ById(created.session.id), report(SessionStatus.CONNECTING, None))
    bench.tier.wipe()
    await bench.pass_time(80)
    bench.truth.gate.clear()
    early = asyncio.create_task(bench.repository.find(ById(created.session.id), frozenset({Entity.STATUS})))
    await settle()
    # TRUNCATE session_status, and the database gives the row back, empty, with a newer version.
    await bench.inner.change_status(ById(created.session.id), report(SessionStatus.DISCONNECTED, None))
    bench.log.raise_epoch()
    bench.cached.confirm_feed()
    bench.truth.gate.set()
    await early
    await settle()

    found = await bench.repository.find(ById(created.session.id), frozenset({Entity.STATUS}))

    assert found is not None
    assert found.status.status is SessionStatus.DISCONNECTED


async def test_stale_value_is_not_answered_when_a_newer_one_became_known(bench: Bench) -> None:
    """The load took its time to fail; a write succeeded meanwhile."""
    created, _ = await bench.create("alpha")
    wanted = frozenset({Entity.STATUS})
    await bench.pass_time(400)
    bench.truth.gate.clear()
    gone = DatabaseUnavailable("away")
    plain = bench.truth.find

    async def failing(reference: SessionReference, entities: frozenset[Entity]) -> Snapshot | None:
        await plain(reference, entities)
        raise gone

    bench.truth.find = failing  # type: ignore[method-assign,assignment]
    early = asyncio.create_task(bench.repository.find(ById(created.session.id), wanted))
    await settle()
    await bench.repository.change_status(ById(created.session.id), report(SessionStatus.CONNECTING, None))
    bench.truth.gate.set()

    try:
        found = await early
    except Unavailable:
        return
    assert found is not None
    assert found.status.status is SessionStatus.CONNECTING


async def test_authentication_is_refused_by_503_when_only_a_stale_session_is_there(bench: Bench) -> None:
    """A key is not let in on a record past its freshness, whoever guessed the id; the same record answers by name."""
    created, key_hash = await bench.create("alpha")
    await bench.pass_time(86_400)
    bench.truth.fault = "away"
    # hint keys are gone by now; the caller's own guess leads to the record
    for guess in (created.session.id, None):
        if guess is None:
            bench.memory.place(f"zpmeow:key:{key_hash.hex()}", str(created.session.id).encode())
        with pytest.raises(Unavailable):
            await bench.repository.find(ByKeyHash(key_hash, guess), ONLY_SESSION)

    by_id = await bench.repository.find(ById(created.session.id), ONLY_SESSION)

    assert by_id is not None
    assert by_id.source is ReadSource.STALE


async def test_authentication_is_refused_by_503_when_a_read_is_repeated_and_only_a_stale_session_is_there(
    bench: Bench,
) -> None:
    """Nor is a key let in that was let in before; who was not let in by the record still gets it."""
    created, key_hash = await bench.create("alpha")
    recalls = []
    for reference in (ByKeyHash(key_hash, created.session.id), ById(created.session.id)):
        found = await bench.repository.find(reference, ONLY_SESSION)
        assert found is not None
        assert found.make_recall is not None
        recalls.append(found.make_recall())
    await bench.pass_time(86_400)
    bench.truth.fault = "away"
    by_key, by_id = recalls

    with pytest.raises(Unavailable):
        await by_key.read()
    again = await by_id.read()

    assert again is not None
    assert again.source is ReadSource.STALE


async def test_look_up_joined_across_a_rotation_is_repeated(bench: Bench) -> None:
    """Who knocks with the old key after the rotation does not share the answer of who knocked before."""
    created, old = await bench.create("alpha")
    bench.tier.fault = "bypassed"
    bench.truth.gate.clear()
    early = asyncio.create_task(bench.repository.find(ByKeyHash(old), ONLY_SESSION))
    await settle()
    await bench.repository.update(ById(created.session.id), SessionChanges(key_hash=hash_api_key("n" * 32)))

    late = asyncio.create_task(bench.repository.find(ByKeyHash(old), ONLY_SESSION))
    await settle()
    bench.truth.gate.set()

    await early
    assert await late is None


async def test_broken_off_delete_is_told_by_the_feed(bench: Bench) -> None:
    """A session that is gone is answered no more, by id or by key, though Redis has it."""
    created, key_hash = await bench.create("alpha")
    bench.truth.fault = "broken_off"
    with pytest.raises(Unavailable):
        await bench.repository.delete(ById(created.session.id))
    bench.truth.fault = None

    await settle()

    assert await bench.repository.find(ByKeyHash(key_hash), ONLY_SESSION) is None
    assert await bench.repository.find(ById(created.session.id), ALL) is None


async def test_invalidate_makes_the_next_read_ask_the_truth(bench: Bench) -> None:
    """All four entries are gone, and the read after that is answered by the cache again."""
    created, _ = await bench.create("alpha")
    reference = ById(created.session.id)
    before = await bench.repository.find(reference, ALL)

    await bench.repository.invalidate(reference)
    first = await bench.repository.find(reference, ALL)
    await settle()
    second = await bench.repository.find(reference, ALL)

    sources = [found.source for found in (before, first, second) if found is not None]
    assert sources == [ReadSource.REDIS, ReadSource.MISS, ReadSource.REDIS]


async def test_invalidate_removes_an_entry_that_a_foreign_writer_made_old(bench: Bench) -> None:
    """Psql changed the row; the operator's call makes that visible."""
    created, _ = await bench.create("alpha")
    await bench.inner.update(ById(created.session.id), SessionChanges(name="beta"))

    await bench.repository.invalidate(ById(created.session.id))

    found = await bench.repository.find(ById(created.session.id), ONLY_SESSION)
    assert found is not None
    assert found.session.name == "beta"


async def test_warmed_session_is_found_by_name_and_key_without_the_truth(bench: Bench) -> None:
    """Warming leaves the hints too."""
    _, key_hash = await bench.create("alpha")
    bench.tier.wipe()
    await bench.relay()

    sent = await bench.repository.warm(10)
    await settle()
    asked = bench.truth.finds
    by_name = await bench.repository.find(ByName("alpha"), ALL)
    by_key = await bench.repository.find(ByKeyHash(key_hash), ALL)

    assert sent == 4
    assert by_name is not None
    assert by_key is not None
    assert bench.truth.finds == asked


async def test_hint_that_proved_wrong_is_dropped(bench: Bench) -> None:
    """It would cost each later reader of a name that nobody has a look-up more."""
    created, _ = await bench.create("alpha")
    await bench.repository.update(ById(created.session.id), SessionChanges(name="beta"))
    await settle()

    assert await bench.repository.find(ByName("alpha"), ONLY_SESSION) is None
    await settle()

    assert "zpmeow:name:alpha" not in bench.memory.stored


async def test_foreign_change_is_answered_when_the_feed_has_told_of_it(bench: Bench) -> None:
    """Psql changed the row: from the feed's word on, what Redis still has is a miss."""
    created, old = await bench.create("alpha")

    await bench.inner.update(ById(created.session.id), SessionChanges(name="beta", key_hash=b"n" * 32))

    found = await bench.repository.find(ById(created.session.id), ONLY_SESSION)
    assert found is not None
    assert found.session.name == "beta"
    assert await bench.repository.find(ByKeyHash(old), ONLY_SESSION) is None


async def test_foreign_change_is_answered_when_only_the_relay_has_seen_it(bench: Bench) -> None:
    """A process that was not there when it was told finds Redis without the old entry."""
    created, old = await bench.create("alpha")
    bench.processes.remove(bench.cached)  # It hears nothing any more.
    await bench.inner.update(ById(created.session.id), SessionChanges(key_hash=b"n" * 32))
    await bench.relay()

    process = bench.start_process()
    process.confirm_feed()

    assert await process.repository.find(ByKeyHash(old), ONLY_SESSION) is None
    assert await process.repository.find(ByKeyHash(b"n" * 32), ONLY_SESSION) is not None
    bench.processes.append(bench.cached)


async def test_redis_is_not_believed_when_its_position_is_from_before_the_feed(bench: Bench) -> None:
    """Who begins to listen after a change waits for a position from after that, and asks the truth until then."""
    created, old = await bench.create("alpha")
    bench.processes.remove(bench.cached)
    await bench.inner.update(ById(created.session.id), SessionChanges(key_hash=b"n" * 32))
    bench.time += timedelta(seconds=1)

    process = bench.start_process()
    process.confirm_feed()
    early = await process.repository.find(ByKeyHash(old, created.session.id), ONLY_SESSION)
    asked = bench.truth.finds
    await bench.relay()
    await process.repository.find(ById(created.session.id), ALL)
    await settle()
    await process.repository.find(ById(created.session.id), ALL)

    assert early is None
    assert bench.truth.finds == asked + 1
    bench.processes.append(bench.cached)


async def test_write_that_broke_off_is_not_hidden_when_the_feed_is_silent(bench: Bench) -> None:
    """Without word from the feed nothing cached is answered while the database answers."""
    created, old = await bench.create("alpha")
    bench.processes.remove(bench.cached)
    bench.truth.error_after_write = DatabaseUnavailable("broken off")
    with pytest.raises(Unavailable):
        await bench.repository.update(ById(created.session.id), SessionChanges(key_hash=b"n" * 32))
    bench.time += timedelta(seconds=2)

    found = await bench.repository.find(ByKeyHash(old, created.session.id), ONLY_SESSION)

    assert found is None
    bench.processes.append(bench.cached)


async def test_reader_by_name_is_not_answered_with_a_load_from_before_a_gap_of_the_feed(bench: Bench) -> None:
    """What was changed in the gap is known to nobody here: whoever comes after it asks anew, by name as by id."""
    created, _ = await bench.create("alpha")
    reader = bench.start_process()
    bench.memory.stored.pop("zpmeow:name:alpha")
    bench.processes.remove(reader)  # It hears nothing from now on.
    bench.truth.gate.clear()
    before = asyncio.create_task(reader.repository.find(ByName("alpha"), ALL))
    await settle()
    reader.feed.lost("broken off")
    await bench.inner.change_status(ById(created.session.id), report(SessionStatus.CONNECTING, None))
    bench.time += timedelta(seconds=2)
    reader.feed.opened(database=bench.log.database, since=bench.now(), heard_at=bench.monotonic())

    after = asyncio.create_task(reader.repository.find(ByName("alpha"), ALL))
    await settle()
    bench.truth.gate.set()
    await before

    found = await after
    assert found is not None
    assert found.status.status is SessionStatus.CONNECTING


@pytest.mark.parametrize("by", ["name", "key"])
async def test_caller_takes_what_a_load_has_brought_while_it_asked_for_a_hint(bench: Bench, by: str) -> None:
    """Of a crowd that misses one name or key, those who come too late to join the load take what it brought."""
    created, key_hash = await bench.create("alpha")
    reference = ByName("alpha") if by == "name" else ByKeyHash(key_hash)
    bench.memory.stored.clear()
    before = bench.truth.finds
    release = bench.tier.hold()
    late = asyncio.create_task(bench.repository.find(reference, ONLY_SESSION))
    await settle()
    bench.tier.stand_open()
    bench.time += timedelta(seconds=0.01)

    early = await bench.repository.find(reference, ONLY_SESSION)
    release.set()
    found = await late

    assert early is not None
    assert found is not None
    assert early.session == found.session == created.session
    assert bench.truth.finds == before + 1


async def test_caller_asks_again_when_the_name_was_taken_away_since_the_load_began(bench: Bench) -> None:
    """What landed meanwhile is held against what is known, like every load."""
    created, _ = await bench.create("alpha")
    bench.memory.stored.clear()
    release = bench.tier.hold()
    late = asyncio.create_task(bench.repository.find(ByName("alpha"), ONLY_SESSION))
    await settle()
    bench.tier.stand_open()
    bench.time += timedelta(seconds=0.01)
    await bench.repository.find(ByName("alpha"), ONLY_SESSION)
    await bench.repository.update(ById(created.session.id), SessionChanges(name="beta"))

    release.set()

    assert await late is None
