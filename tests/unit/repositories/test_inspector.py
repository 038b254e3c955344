"""What a comparison of a hit with the database finds, and how many are made."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime

import pytest

from tests.fakes.cached_sessions import LIFETIMES, CachedSessions, make_cached_sessions
from tests.fakes.faulty_session_repository import FaultySessionRepository
from tests.fakes.in_memory_session_repository import InMemorySessionRepository
from tests.fakes.memory_tier import MemoryTier
from zpmeow.domain.errors import Unavailable
from zpmeow.domain.ports import NewSession
from zpmeow.domain.records import Entity, Snapshot
from zpmeow.domain.references import ById
from zpmeow.events import ConsistencyChecked, Event
from zpmeow.repositories.cache_policies import CachePolicies
from zpmeow.repositories.inspector import MAX_PER_SECOND, SECOND_LOOK_SECONDS, Inspector


@dataclass
class Bench:
    """An inspector before a cache and a truth in a test's hand; `meanwhile` happens between the two looks."""

    one_in: int = 1
    memory: MemoryTier = field(default_factory=MemoryTier)
    events: list[Event] = field(default_factory=list)
    seconds: float = 0.0
    waited: list[float] = field(default_factory=list)
    drawn: float = 0.0

    def __post_init__(self) -> None:
        """Put together."""
        self.inner = InMemorySessionRepository(now=self.now)
        self.truth = FaultySessionRepository(self.inner)
        self.cached: CachedSessions = make_cached_sessions(
            truth=self.truth, tier=self.memory, clock=self, monotonic=lambda: self.seconds
        )
        self.meanwhile: Callable[[], object] = lambda: None
        self.inspector = Inspector(
            truth=self.truth,
            cache=self.cached.cache,
            policies=CachePolicies(LIFETIMES),
            one_in=self.one_in,
            observer=self.events.append,
            sleep=self.sleep,
            monotonic=lambda: self.seconds,
            chance=lambda: self.drawn,
        )

    def now(self) -> datetime:
        """Return the time."""
        return datetime.fromtimestamp(1_700_000_000 + self.seconds, UTC)

    async def sleep(self, seconds: float) -> None:
        """Let the second look come at once."""
        self.waited.append(seconds)
        made = self.meanwhile()
        if asyncio.iscoroutine(made):
            await made

    async def create(self) -> Snapshot:
        """Make a session that is cached."""
        await self.cached.relay_once()
        created = await self.cached.repository.create(NewSession(name="alpha", key_hash=b"k" * 32))
        for _ in range(30):
            await asyncio.sleep(0)
        return created

    def found(self) -> list[tuple[str, int, int | None]]:
        """What was told of comparisons."""
        return [
            (event.outcome, event.cached_version, event.true_version)
            for event in self.events
            if isinstance(event, ConsistencyChecked)
        ]


@pytest.fixture
async def bench() -> Bench:
    """A bench that looks at every hit."""
    return Bench()


async def test_comparison_is_a_match_when_the_database_has_the_same_version(bench: Bench) -> None:
    """One question, no second look."""
    created = await bench.create()

    await bench.inspector.inspect(created.session.id, Entity.QR, created.qr.version)

    assert bench.found() == [("match", created.qr.version, created.qr.version)]
    assert bench.waited == []
    await bench.cached.close()


async def test_comparison_is_a_match_when_the_hit_was_overtaken_and_the_cache_has_followed(bench: Bench) -> None:
    """A change in the moment of the look is no old answer: a second later the cache would not say that any more."""
    created = await bench.create()
    await bench.inner.put_qr(ById(created.session.id), "code", 60)
    bench.meanwhile = lambda: bench.cached.cache.changed(
        bench.cached.repository._policies.entry_key(created.session.id, Entity.QR).text, created.qr.version + 1
    )

    await bench.inspector.inspect(created.session.id, Entity.QR, created.qr.version)

    assert [outcome for outcome, *_ in bench.found()] == ["match"]
    assert bench.waited == [SECOND_LOOK_SECONDS]
    await bench.cached.close()


async def test_comparison_is_stale_when_the_cache_still_answers_the_old_version(bench: Bench) -> None:
    """Nobody told the cache: that is what the inspector is for. Both versions are told."""
    created = await bench.create()
    changed = await bench.inner.put_qr(ById(created.session.id), "code", 60)
    bench.cached.confirm_feed()

    await bench.inspector.inspect(created.session.id, Entity.QR, created.qr.version)

    assert bench.found() == [("stale", created.qr.version, changed.qr.version)]
    await bench.cached.close()


async def test_comparison_is_missing_when_the_cache_still_answers_a_session_that_is_gone(bench: Bench) -> None:
    """A removed session that is answered is told apart from an old one."""
    created = await bench.create()
    await bench.inner.delete(ById(created.session.id))

    await bench.inspector.inspect(created.session.id, Entity.QR, created.qr.version)

    assert bench.found() == [("missing", created.qr.version, None)]
    await bench.cached.close()


async def test_comparison_is_a_match_when_a_removed_session_is_answered_no_more(bench: Bench) -> None:
    """The removal reached the cache within the second."""
    created = await bench.create()
    await bench.inner.delete(ById(created.session.id))
    bench.meanwhile = bench.memory.stored.clear

    await bench.inspector.inspect(created.session.id, Entity.QR, created.qr.version)

    assert [outcome for outcome, *_ in bench.found()] == ["match"]
    await bench.cached.close()


async def test_comparison_fails_when_the_database_is_away(bench: Bench) -> None:
    """Nothing is said, good or bad."""
    created = await bench.create()
    bench.truth.fault = "away"

    with pytest.raises(Unavailable):
        await bench.inspector.inspect(created.session.id, Entity.QR, created.qr.version)

    assert bench.found() == []
    await bench.cached.close()


async def consider_all(bench: Bench, created: Snapshot, times: int) -> None:
    """Show the inspector hits, and let it look at those that it takes."""
    task = asyncio.create_task(bench.inspector.run())
    for _ in range(times):
        bench.inspector.consider(created.session.id, Entity.QR, created.qr.version)
    for _ in range(100):
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])


async def test_inspector_goes_on_when_the_database_was_away(bench: Bench) -> None:
    """Samples from then are dropped; later ones are looked at."""
    created = await bench.create()
    bench.truth.fault = "away"
    await consider_all(bench, created, 1)
    bench.truth.fault = None
    bench.seconds += 1

    await consider_all(bench, created, 1)

    assert [outcome for outcome, *_ in bench.found()] == ["match"]
    await bench.cached.close()


async def test_few_hits_are_compared_when_many_come_at_once(bench: Bench) -> None:
    """The database is not asked more often than the limit allows, however many hits there are."""
    created = await bench.create()

    await consider_all(bench, created, 1000)
    at_once = len(bench.found())
    for _ in range(20):
        bench.seconds += 0.5 / MAX_PER_SECOND
        await consider_all(bench, created, 10)

    assert at_once in range(10, 12)
    assert len(bench.found()) - at_once in range(9, 12)
    await bench.cached.close()


async def test_each_entity_of_a_request_is_compared_when_requests_are_few(bench: Bench) -> None:
    """The first entity of each request does not take the turn of the others."""
    created = await bench.create()

    for entity in (Entity.SESSION, Entity.STATUS, Entity.QR):
        bench.inspector.consider(created.session.id, entity, created.records[entity].version)
    await consider_all(bench, created, 0)

    told = [event.entity for event in bench.events if isinstance(event, ConsistencyChecked)]
    assert told == [Entity.SESSION, Entity.STATUS, Entity.QR]
    await bench.cached.close()


@pytest.mark.parametrize(("drawn", "compared"), [(0.19, 1), (0.2, 0), (0.99, 0)])
async def test_hit_is_compared_when_it_is_drawn(drawn: float, compared: int) -> None:
    """One in five, by chance and not by count: a count would meet the same entity again and again."""
    bench = Bench(one_in=5)
    bench.drawn = drawn
    created = await bench.create()

    await consider_all(bench, created, 1)

    assert len(bench.found()) == compared
    await bench.cached.close()


async def test_nothing_is_compared_when_it_is_switched_off() -> None:
    """0: at none."""
    bench = Bench(one_in=0)
    created = await bench.create()

    for _ in range(5):
        await consider_all(bench, created, 100)
        bench.seconds += 1

    assert bench.found() == []
    await bench.cached.close()
