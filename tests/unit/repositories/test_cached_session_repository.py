"""The cached repository where two callers, a doubtful write and an old Redis meet."""

import asyncio
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import pytest
from typing_extensions import override

from tests.fakes.cached_sessions import CachedSessions, make_cached_sessions
from tests.fakes.faulty_session_repository import FaultySessionRepository
from tests.fakes.faulty_tier import FaultyTier
from tests.fakes.in_memory_session_repository import InMemorySessionRepository
from tests.fakes.memory_tier import MemoryTier
from zpmeow.cache.tier import PutOutcome, Write
from zpmeow.domain.api_key import generate_api_key, hash_api_key
from zpmeow.domain.errors import DatabaseUnavailable, Unavailable
from zpmeow.domain.ports import NewSession, SessionChanges, SessionRepository
from zpmeow.domain.records import Entity, ReadSource, SessionStatus, Snapshot
from zpmeow.domain.references import ById, ByKeyHash, ByName, SessionReference
from zpmeow.domain.transitions import report
from zpmeow.repositories.reconciler import Reconciler

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


@dataclass
class Bench:
    """A repository with everything around it in a test's hand."""

    time: datetime = datetime(2026, 1, 1, tzinfo=UTC)
    memory: MemoryTier = field(default_factory=MemoryTier)

    def __post_init__(self) -> None:
        """Wire up."""
        self.tier = FaultyTier(self.memory)
        self.inner = InMemorySessionRepository(now=self.now)
        self.truth = GatedSessionRepository(self.inner)
        self.cached = self.start_process()
        self.repository = self.cached.repository

    def start_process(self) -> CachedSessions:
        """Begin with an empty memory on the same truth and tier."""
        return make_cached_sessions(truth=self.truth, tier=self.tier, clock=self, monotonic=self.monotonic)

    def now(self) -> datetime:
        """Return the time."""
        return self.time

    def monotonic(self) -> float:
        """Return the time in seconds."""
        return self.time.timestamp()

    def pass_time(self, seconds: float) -> None:
        """Let time pass."""
        self.time += timedelta(seconds=seconds)
        self.memory.now_seconds += seconds

    async def create(self, name: str) -> tuple[Snapshot, bytes]:
        """Make a session and let what follows settle."""
        key_hash = hash_api_key(generate_api_key())
        created = await self.repository.create(NewSession(name=name, key_hash=key_hash))
        await settle()
        return created, key_hash


async def settle() -> None:
    """Let background work end."""
    for _ in range(30):
        await asyncio.sleep(0)


async def reconcile(bench: Bench) -> None:
    """Let the reconciler do all that it will do."""
    await settle()
    for _ in range(50):
        if not bench.repository._reconciler.in_doubt:
            return
        await asyncio.sleep(0)


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Bench:
    """A bench whose reconciler does not wait."""
    one = Bench()
    make_instant(one.repository._reconciler, monkeypatch)
    return one


def make_instant(reconciler: Reconciler, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let its pauses take no time."""

    async def no_wait(_seconds: float) -> None:
        await asyncio.sleep(0)

    monkeypatch.setattr(reconciler, "_sleep", no_wait)


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

    assert await early is None
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


async def test_broken_off_rotation_is_reconciled(bench: Bench) -> None:
    """The old key opens nothing once the truth has answered."""
    created, old = await bench.create("alpha")
    bench.truth.error_after_write = DatabaseUnavailable("broken off")

    with pytest.raises(Unavailable):
        await bench.repository.update(ById(created.session.id), SessionChanges(key_hash=hash_api_key("n" * 32)))
    await reconcile(bench)

    assert await bench.repository.find(ByKeyHash(old), ONLY_SESSION) is None


async def test_broken_off_rename_by_name_is_reconciled(bench: Bench) -> None:
    """The hint tells which session is meant, for the name is gone."""
    await bench.create("alpha")
    bench.truth.error_after_write = DatabaseUnavailable("broken off")

    with pytest.raises(Unavailable):
        await bench.repository.update(ByName("alpha"), SessionChanges(name="beta"))
    await reconcile(bench)

    assert await bench.repository.find(ByName("alpha"), ONLY_SESSION) is None


async def test_broken_off_delete_by_name_is_reconciled_when_redis_is_away_too(bench: Bench) -> None:
    """A network that breaks takes both: nobody knows the id, and the deleted session's key must not open it."""
    _, key_hash = await bench.create("alpha")
    bench.tier.fault = "timeout"
    bench.truth.fault = "broken_off"
    with pytest.raises(Unavailable):
        await bench.repository.delete(ByName("alpha"))
    bench.truth.fault = None
    await reconcile(bench)
    bench.tier.fault = None
    bench.pass_time(100)

    assert await bench.repository.find(ByKeyHash(key_hash), ONLY_SESSION) is None


async def test_broken_off_write_by_name_is_reconciled_when_the_hint_is_wrong(bench: Bench) -> None:
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
    await reconcile(bench)

    assert await bench.repository.find(ByKeyHash(old), ONLY_SESSION) is None


async def test_writes_in_doubt_are_bounded_when_the_database_is_away(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A database that returns must not be met by a crowd of our own making."""
    ids = [(await bench.create(f"name-{number}"))[0].session.id for number in range(200)]
    bench.truth.fault = "away"
    started = 0
    running = 0

    original = bench.truth.find

    async def counted(reference: SessionReference, entities: frozenset[Entity]) -> Snapshot | None:
        nonlocal running, started
        running += 1
        started = max(started, running)
        try:
            await asyncio.sleep(0)
            return await original(reference, entities)
        finally:
            running -= 1

    monkeypatch.setattr(bench.truth, "find", counted)
    for session_id in ids:
        with pytest.raises(Unavailable):
            await bench.repository.put_qr(ById(session_id), "code", 60)
    await settle()
    await bench.repository._reconciler.close()

    assert started <= 10


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
            bench.pass_time(80)
            bench.tier.wipe()
        return await plain(writes)

    bench.memory.put_many = slow  # type: ignore[assignment,method-assign]
    await bench.repository.warm(10)
    await settle()
    bench.pass_time(80)

    assert await bench.repository.find(ByKeyHash(old), ONLY_SESSION) is None


async def test_load_from_before_a_new_epoch_is_not_kept_in_it(bench: Bench) -> None:
    """TRUNCATE raises the epoch and no version tells of it: what was read before belongs to the old one."""
    created, _ = await bench.create("alpha")
    await bench.repository.change_status(ById(created.session.id), report(SessionStatus.CONNECTING, None))
    bench.tier.wipe()
    bench.pass_time(80)
    bench.truth.gate.clear()
    early = asyncio.create_task(bench.repository.find(ById(created.session.id), frozenset({Entity.STATUS})))
    await settle()
    # TRUNCATE session_status, and the database gives the row back, empty, with a newer version.
    await bench.inner.change_status(ById(created.session.id), report(SessionStatus.DISCONNECTED, None))
    bench.cached.cache.set_epoch(b"f" * 16)
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
    bench.pass_time(400)
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
    bench.pass_time(86_400)
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


async def test_broken_off_delete_is_reconciled(bench: Bench) -> None:
    """A session that is gone is answered no more, by id or by key, though Redis has it."""
    created, key_hash = await bench.create("alpha")
    bench.truth.fault = "broken_off"
    with pytest.raises(Unavailable):
        await bench.repository.delete(ById(created.session.id))
    bench.truth.fault = None

    await reconcile(bench)

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
