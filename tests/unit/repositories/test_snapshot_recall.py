"""A snapshot's recall: it holds as long as a read would find the very same in this process, and counts as one."""

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from tests.fakes.cached_sessions import make_cached_sessions
from tests.fakes.in_memory_change_log import InMemoryChangeLog
from tests.fakes.in_memory_session_repository import InMemorySessionRepository
from tests.fakes.memory_tier import MemoryTier
from zpmeow.domain.api_key import generate_api_key, hash_api_key
from zpmeow.domain.ports import NewSession, SessionChanges
from zpmeow.domain.records import Entity, ReadSource, SessionStatus, Snapshot, SnapshotRecall
from zpmeow.domain.references import ById, ByKeyHash, ByName, SessionReference
from zpmeow.domain.transitions import report
from zpmeow.events import CacheLookedUp, Event, SessionRead

INFO = frozenset({Entity.SESSION, Entity.STATUS, Entity.CREDENTIAL})
KEY = generate_api_key()


@dataclass
class Bench:
    """A cached repository with a local tier, and one session in it."""

    local_bytes: int = 100_000
    time: datetime = datetime(2026, 1, 1, tzinfo=UTC)
    events: list[Event] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Wire up."""
        self.log = InMemoryChangeLog(now=self.now)
        self.truth = InMemorySessionRepository(now=self.now)
        self.cached = make_cached_sessions(
            truth=self.truth,
            tier=MemoryTier(),
            clock=self,
            monotonic=self.monotonic,
            log=self.log,
            local_bytes=self.local_bytes,
            observer=self.events.append,
        )
        self.cached.confirm_feed()
        self.repository = self.cached.repository

    def now(self) -> datetime:
        """Return the time."""
        return self.time

    def monotonic(self) -> float:
        """Return the time."""
        return self.time.timestamp()

    def pass_time(self, seconds: float) -> None:
        """Let time pass, with the feed alive."""
        self.time += timedelta(seconds=seconds)
        self.cached.confirm_feed()

    async def create(self, name: str = "a-session", key: str = KEY) -> UUID:
        """Make a session."""
        made = await self.repository.create(
            NewSession(name=name, key_hash=hash_api_key(key), proxy_url=None, proxy_password=None, webhook=None)
        )
        return made.session.id

    async def read_locally(self, reference: SessionReference) -> Snapshot:
        """Read until this process' memory answers."""
        for _ in range(3):
            found = await self.repository.find(reference, INFO)
            assert found is not None
            if found.source is ReadSource.LOCAL:
                return found
        message = "it is never answered from this process' memory"
        raise AssertionError(message)

    async def recall(self, reference: SessionReference) -> SnapshotRecall:
        """Return the recall of a local read."""
        found = await self.read_locally(reference)
        assert found.make_recall is not None
        return found.make_recall()


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    """A bench with one session."""
    bench = Bench()
    yield bench
    await bench.cached.close()


async def change_status(bench: Bench, session_id: UUID) -> None:
    """Change one of the records."""
    await bench.repository.change_status(ById(session_id), report(SessionStatus.CONNECTING, None))


async def rename(bench: Bench, session_id: UUID) -> None:
    """Change the session's own record."""
    await bench.repository.update(ById(session_id), SessionChanges(name="another-name"))


async def rotate_key(bench: Bench, session_id: UUID) -> None:
    """Change who may read it."""
    await bench.repository.update(ById(session_id), SessionChanges(key_hash=hash_api_key(generate_api_key())))


async def pair(bench: Bench, session_id: UUID) -> None:
    """Change the device."""
    await bench.repository.put_credential(ById(session_id), "1@device.test")


async def delete(bench: Bench, session_id: UUID) -> None:
    """Remove the session."""
    await bench.repository.delete(ById(session_id))


async def retire(bench: Bench, session_id: UUID) -> None:
    """Empty the cache as an operator can."""
    await bench.repository.invalidate(ById(session_id))


async def hear_of_a_change(bench: Bench, session_id: UUID) -> None:
    """Be told by the feed that somebody else has changed it."""
    found = await bench.truth.find(ById(session_id), INFO)
    assert found is not None
    for entity, record in found.records.items():
        bench.cached.cache.changed(f"zpmeow:{{{session_id}}}:{entity}", record.version + 1)


async def begin_anew(bench: Bench, _session_id: UUID) -> None:
    """Forget all."""
    bench.cached.cache.begin_anew()


async def grow_old(bench: Bench, _session_id: UUID) -> None:
    """Let the local lifetime end."""
    bench.pass_time(5.0)


async def hear_nothing(bench: Bench, _session_id: UUID) -> None:
    """Let the feed fall silent."""
    bench.time += timedelta(seconds=1.5)


async def bypass(bench: Bench, _session_id: UUID) -> None:
    """Switch the cache off."""
    bench.cached.coherence.bypassed = True


async def crowd_out(bench: Bench, _session_id: UUID) -> None:
    """Fill the memory with others."""
    for number in range(100):
        await bench.create(f"other-{number}", generate_api_key())


@pytest.mark.parametrize(
    "reference",
    [ById, lambda _: ByName("a-session"), lambda _: ByKeyHash(hash_api_key(KEY), None)],
)
async def test_recall_holds_and_counts_as_a_read_when_nothing_has_changed(
    bench: Bench, reference: Callable[[UUID], SessionReference]
) -> None:
    """The same events as a read that this process' memory answers, the hint's look-up apart."""
    session_id = await bench.create()
    await bench.read_locally(reference(session_id))
    bench.events.clear()
    recall = await bench.recall(reference(session_id))
    read = [event for event in bench.events if isinstance(event, CacheLookedUp | SessionRead)]
    read = [event for event in read if isinstance(event, SessionRead) or event.entity not in {"name", "key"}]
    bench.events.clear()

    assert recall.repeat()

    assert bench.events == read


@pytest.mark.parametrize(
    "happen",
    [
        change_status,
        rename,
        rotate_key,
        pair,
        delete,
        retire,
        hear_of_a_change,
        begin_anew,
        grow_old,
        hear_nothing,
        bypass,
        crowd_out,
    ],
)
async def test_recall_ends_without_a_count_when_a_read_would_find_something_else(
    bench: Bench, happen: Callable[[Bench, UUID], Awaitable[None]]
) -> None:
    """Whatever makes one of its entries go, or what is kept here not to be believed, ends it."""
    session_id = await bench.create()
    recall = await bench.recall(ById(session_id))

    await happen(bench, session_id)

    bench.events.clear()
    assert not recall.repeat()
    assert bench.events == []


@pytest.mark.parametrize("happen", [change_status, rename, delete, retire, begin_anew, grow_old])
async def test_recall_never_holds_when_what_was_read_has_gone_before_it_was_made(
    bench: Bench, happen: Callable[[Bench, UUID], Awaitable[None]]
) -> None:
    """Between the read and the wish for its recall something happened."""
    session_id = await bench.create()
    found = await bench.read_locally(ById(session_id))
    assert found.make_recall is not None

    await happen(bench, session_id)

    assert not found.make_recall().repeat()


@pytest.mark.parametrize(
    "reference", [lambda _: ByName("a-session"), lambda _: ByKeyHash(hash_api_key(KEY), None), ById]
)
@pytest.mark.parametrize("taken", ["name", "key"])
async def test_recall_ends_when_this_process_has_given_its_name_or_key_to_another_session(
    bench: Bench, reference: Callable[[UUID], SessionReference], taken: str
) -> None:
    """Somebody else took them from the session, which is not known here yet; our own write is known at once."""
    session_id = await bench.create()
    recall = await bench.recall(reference(session_id))
    gone = SessionChanges(name="b-session") if taken == "name" else SessionChanges(key_hash=hash_api_key("k" * 40))
    await bench.truth.update(ById(session_id), gone)

    await bench.create(*(("a-session", "l" * 40) if taken == "name" else ("c-session", KEY)))

    assert not recall.repeat()


REFERENCES: list[Callable[[UUID], SessionReference]] = [
    ById,
    lambda _: ByName("a-session"),
    lambda _: ByKeyHash(hash_api_key(KEY), None),
    lambda session_id: ByKeyHash(hash_api_key(KEY), session_id),
]


async def recall_of(bench: Bench, reference: SessionReference) -> SnapshotRecall:
    """Return the recall of a read, whoever answers it."""
    found = await bench.repository.find(reference, INFO)
    assert found is not None
    assert found.make_recall is not None
    return found.make_recall()


@pytest.fixture
async def lean() -> AsyncIterator[Bench]:
    """A bench without a local tier, with one session that Redis has."""
    bench = Bench(local_bytes=0)
    session_id = await bench.create()
    for reference in REFERENCES:
        await bench.repository.find(reference(session_id), INFO)
    yield bench
    await bench.cached.close()


async def the_id(bench: Bench) -> UUID:
    """Return the id of the bench's session."""
    found = await bench.truth.find(ByKeyHash(hash_api_key(KEY)), INFO)
    assert found is not None
    return found.session.id


async def test_recall_never_holds_when_another_tier_has_answered(lean: Bench) -> None:
    """Without a memory of its own a process cannot tell whether something has changed."""
    recall = await recall_of(lean, ById(await the_id(lean)))
    lean.events.clear()

    assert not recall.repeat()
    assert lean.events == []


@pytest.mark.parametrize("reference", REFERENCES)
@pytest.mark.parametrize("local_bytes", [0, 100_000])
async def test_reading_again_is_a_read_like_the_first(
    local_bytes: int, reference: Callable[[UUID], SessionReference]
) -> None:
    """The same records from the same place, counted the same; but for the hint, which nobody follows again."""
    bench = Bench(local_bytes=local_bytes)
    session_id = await bench.create()
    await bench.repository.find(reference(session_id), INFO)
    bench.events.clear()
    first = await bench.repository.find(reference(session_id), INFO)
    counted = [event for event in bench.events if isinstance(event, CacheLookedUp | SessionRead)]
    assert first is not None
    assert first.make_recall is not None
    recall = first.make_recall()
    bench.events.clear()

    again = await recall.read()

    assert again == first
    assert [event for event in bench.events if isinstance(event, CacheLookedUp | SessionRead)] == [
        event for event in counted if isinstance(event, SessionRead) or event.entity not in {"name", "key"}
    ]
    await bench.cached.close()


@pytest.mark.parametrize("reference", REFERENCES)
@pytest.mark.parametrize("happen", [change_status, rename, rotate_key, pair, retire, begin_anew, grow_old, bypass])
async def test_reading_again_finds_what_is_true_whatever_has_happened(
    lean: Bench, happen: Callable[[Bench, UUID], Awaitable[None]], reference: Callable[[UUID], SessionReference]
) -> None:
    """It is never older than a read by id; what the session is named by now is for the caller to see."""
    session_id = await the_id(lean)
    recall = await recall_of(lean, reference(session_id))

    await happen(lean, session_id)

    again, true = await recall.read(), await lean.truth.find(ById(session_id), INFO)
    assert true is not None
    # Whoever was led here by a name or key that this process has given away or changed must be led anew.
    assert again is None if happen in {rename, rotate_key} else again is not None
    assert again is None or again.records == true.records


async def test_reading_again_finds_nothing_when_the_session_is_removed(lean: Bench) -> None:
    """Whoever asks next is told on the long way."""
    session_id = await the_id(lean)
    recall = await recall_of(lean, ById(session_id))

    await delete(lean, session_id)

    assert await recall.read() is None


@pytest.mark.parametrize("taken", ["name", "key"])
@pytest.mark.parametrize("later_seconds", [0, 60])
async def test_reading_again_finds_nothing_when_this_process_has_given_its_name_or_key_to_another_session(
    lean: Bench, taken: str, later_seconds: int
) -> None:
    """Another process took it from the session, which neither Redis nor this process knows yet, if ever."""
    session_id = await the_id(lean)
    recall = await recall_of(lean, ByName("a-session"))
    gone = SessionChanges(name="b-session") if taken == "name" else SessionChanges(key_hash=hash_api_key("k" * 40))
    await lean.truth.update(ById(session_id), gone)

    await lean.create(*(("a-session", "l" * 40) if taken == "name" else ("c-session", KEY)))
    lean.pass_time(later_seconds)

    assert await recall.read() is None


async def test_what_is_recalled_is_not_crowded_out_when_others_come(bench: Bench) -> None:
    """A recall is a use: others that nobody asks for go first."""
    session_id = await bench.create()
    recall = await bench.recall(ById(session_id))

    for number in range(30):
        await bench.create(f"other-{number}", generate_api_key())
        bench.pass_time(0.1)
        assert recall.repeat()
