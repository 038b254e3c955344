"""What a comparison of a hit with the database finds, and how many are made."""

import asyncio
import random
from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

import pytest

from tests.fakes.cached_sessions import LIFETIMES, CachedSessions, make_cached_sessions
from tests.fakes.faulty_session_repository import FaultySessionRepository
from tests.fakes.in_memory_session_repository import InMemorySessionRepository
from tests.fakes.memory_tier import MemoryTier
from zpmeow.cache.policy import Loaded
from zpmeow.domain.ports import NewSession
from zpmeow.domain.records import Entity, Snapshot
from zpmeow.domain.references import ById
from zpmeow.events import ConsistencyChecked, Event
from zpmeow.repositories.cache_policies import CachePolicies
from zpmeow.repositories.inspector import WINDOW_SECONDS, Inspector


@dataclass
class Bench:
    """An inspector before a cache and a truth in a test's hand; `meanwhile` happens between the two looks.

    Of the hits of one window the last is chosen, unless `chance` says something else.
    """

    one_in: int = 1
    chance: Callable[[], float] = lambda: 0.0
    memory: MemoryTier = field(default_factory=MemoryTier)
    events: list[Event] = field(default_factory=list)
    seconds: float = 0.0
    windows: int = 0
    second_looks: int = 0

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
            chance=self.chance,
        )

    def now(self) -> datetime:
        """Return the time."""
        return datetime.fromtimestamp(1_700_000_000 + self.seconds, UTC)

    async def sleep(self, seconds: float) -> None:
        """Let windows pass, and second looks come, at once."""
        if seconds == WINDOW_SECONDS:
            self.windows += 1
            await asyncio.sleep(0)
            return
        self.second_looks += 1
        made = self.meanwhile()
        if asyncio.iscoroutine(made):
            await made

    async def create(self) -> Snapshot:
        """Make a session that is cached."""
        self.start()
        await self.cached.relay_once()
        created = await self.cached.repository.create(NewSession(name="alpha", key_hash=b"k" * 32))
        await turns(30)
        return created

    async def show(self, *reads: tuple[Snapshot, Collection[Entity]]) -> None:
        """Show the inspector what was read in one window, and let it compare."""
        for snapshot, entities in reads:
            self.inspector.consider(
                snapshot.session.id, [(entity, snapshot.records[entity].version) for entity in entities]
            )
        await turns(100)
        assert not self._running.done(), self._running

    async def take_in(self, snapshot: Snapshot) -> None:
        """Let Redis answer the codes of this snapshot from now on."""
        key = self.cached.repository._policies.entry_key(snapshot.session.id, Entity.QR)
        loaded = Loaded(value=snapshot.qr, version=snapshot.qr.version)
        assert await self.cached.cache.warm({key: loaded}, self.cached.cache.begin_load()) == 1

    def start(self) -> None:
        """Let the inspector run."""
        self._running = asyncio.create_task(self.inspector.run())

    async def close(self) -> None:
        """Stop all."""
        self._running.cancel()
        await asyncio.wait([self._running])
        await self.cached.close()

    def found(self) -> list[tuple[str, int | None, int | None]]:
        """What was told of comparisons."""
        return [(event.outcome, event.cached_version, event.true_version) for event in self.told()]

    def told(self) -> list[ConsistencyChecked]:
        """What was told of comparisons, whole."""
        return [event for event in self.events if isinstance(event, ConsistencyChecked)]


async def turns(count: int) -> None:
    """Let all others have so many turns."""
    for _ in range(count):
        await asyncio.sleep(0)


@pytest.fixture
async def bench() -> Bench:
    """A bench that looks at every hit."""
    return Bench()


async def test_comparison_is_a_match_when_the_database_has_the_same_version(bench: Bench) -> None:
    """One question, no second look."""
    created = await bench.create()
    asked_before = bench.truth.finds

    await bench.show((created, [Entity.QR, Entity.STATUS]))

    assert ("match", created.qr.version, created.qr.version) in bench.found()
    assert len(bench.found()) == 2
    assert (bench.truth.finds - asked_before, bench.second_looks) == (1, 0)
    await bench.close()


async def test_comparison_is_a_match_when_the_hit_was_overtaken_and_the_cache_has_followed(bench: Bench) -> None:
    """A change in the moment of the look is no old answer: a second later the cache would not say that any more."""
    created = await bench.create()
    await bench.inner.put_qr(ById(created.session.id), "code", 60)
    bench.meanwhile = lambda: bench.cached.cache.changed(
        bench.cached.repository._policies.entry_key(created.session.id, Entity.QR).text, created.qr.version + 1
    )

    await bench.show((created, [Entity.QR]))

    assert [outcome for outcome, *_ in bench.found()] == ["match"]
    assert bench.second_looks == 1
    await bench.close()


async def test_comparison_is_stale_when_the_cache_still_answers_the_old_version(bench: Bench) -> None:
    """Nobody told the cache: that is what the inspector is for. Both versions are told."""
    created = await bench.create()
    changed = await bench.inner.put_qr(ById(created.session.id), "code", 60)
    bench.cached.confirm_feed()

    await bench.show((created, [Entity.QR]))

    assert bench.found() == [("stale", created.qr.version, changed.qr.version)]
    await bench.close()


async def test_comparison_is_stale_when_the_cache_follows_too_slowly(bench: Bench) -> None:
    """It does not answer the hit's version any more, but one that was old when the hit was looked at."""
    created = await bench.create()
    lagging = await bench.inner.put_qr(ById(created.session.id), "code", 60)
    newest = await bench.inner.put_qr(ById(created.session.id), "another", 60)
    bench.cached.confirm_feed()
    bench.meanwhile = lambda: bench.take_in(lagging)

    await bench.show((created, [Entity.QR]))

    assert bench.found() == [("stale", lagging.qr.version, newest.qr.version)]
    await bench.close()


async def test_comparison_is_a_match_when_database_and_cache_have_both_gone_on(bench: Bench) -> None:
    """What is answered is above what the database had at the first look, and is what it has at the second."""
    created = await bench.create()
    await bench.inner.put_qr(ById(created.session.id), "code", 60)
    bench.cached.confirm_feed()

    async def go_on() -> None:
        await bench.take_in(await bench.inner.put_qr(ById(created.session.id), "another", 60))

    bench.meanwhile = go_on
    await bench.show((created, [Entity.QR]))

    newest = await bench.inner.find(ById(created.session.id), frozenset({Entity.QR}))
    assert newest is not None
    assert bench.found() == [("match", newest.qr.version, newest.qr.version)]
    await bench.close()


async def test_comparison_is_stale_when_the_cache_answers_what_the_database_never_had(bench: Bench) -> None:
    """A database that was put back behind our backs."""
    created = await bench.create()
    bench.cached.confirm_feed()
    ahead = replace(created.qr, version=created.qr.version + 5)
    from_the_future = replace(created, records={**created.records, Entity.QR: ahead})
    bench.meanwhile = lambda: bench.take_in(from_the_future)

    await bench.show((from_the_future, [Entity.QR]))

    assert bench.found() == [("stale", ahead.version, created.qr.version)]
    await bench.close()


async def test_comparison_is_missing_when_the_cache_still_answers_a_session_that_is_gone(bench: Bench) -> None:
    """A removed session that is answered is told apart from an old one."""
    created = await bench.create()
    await bench.inner.delete(ById(created.session.id))

    await bench.show((created, [Entity.QR]))

    assert bench.found() == [("missing", created.qr.version, None)]
    await bench.close()


async def test_comparison_is_a_match_when_a_removed_session_is_answered_no_more(bench: Bench) -> None:
    """The removal reached the cache within the second."""
    created = await bench.create()
    await bench.inner.delete(ById(created.session.id))
    bench.meanwhile = bench.memory.stored.clear

    await bench.show((created, [Entity.QR]))

    assert [outcome for outcome, *_ in bench.found()] == ["match"]
    await bench.close()


async def test_each_hit_of_a_read_is_judged_when_they_differ(bench: Bench) -> None:
    """One question for all of a read; what is in order is told at once, the old one after a second look."""
    created = await bench.create()
    changed = await bench.inner.put_qr(ById(created.session.id), "code", 60)
    bench.cached.confirm_feed()

    await bench.show((created, [Entity.SESSION, Entity.QR, Entity.STATUS]))

    told = {event.entity: event.outcome for event in bench.told()}
    assert told == {Entity.SESSION: "match", Entity.STATUS: "match", Entity.QR: "stale"}
    assert bench.found()[-1] == ("stale", created.qr.version, changed.qr.version)
    await bench.close()


async def test_inspector_goes_on_when_the_database_was_away(bench: Bench) -> None:
    """Nothing is said of hits from then, good or bad; later ones are compared."""
    created = await bench.create()
    bench.truth.fault = "away"
    await bench.show((created, [Entity.QR]))
    bench.truth.fault = None
    told_meanwhile = bench.found()

    await bench.show((created, [Entity.QR]))

    assert told_meanwhile == []
    assert [outcome for outcome, *_ in bench.found()] == ["match"]
    await bench.close()


async def test_inspector_goes_on_when_the_database_went_away_before_the_second_look(bench: Bench) -> None:
    """What may be an old answer is called neither that nor a match."""
    created = await bench.create()
    await bench.inner.put_qr(ById(created.session.id), "code", 60)
    bench.cached.confirm_feed()

    def away() -> None:
        bench.truth.fault = "away"

    bench.meanwhile = away
    await bench.show((created, [Entity.QR]), (created, [Entity.QR]))

    assert bench.found() == []
    assert bench.second_looks == 1
    bench.truth.fault = None
    await bench.show((created, [Entity.STATUS]))
    assert [outcome for outcome, *_ in bench.found()] == ["match"]
    await bench.close()


async def test_nothing_is_said_when_redis_cannot_be_asked_a_second_time(bench: Bench) -> None:
    """It may still have the old one."""
    created = await bench.create()
    await bench.inner.put_qr(ById(created.session.id), "code", 60)

    def close() -> None:
        bench.memory.closed = True

    bench.meanwhile = close
    await bench.show((created, [Entity.QR]))

    assert bench.second_looks == 1
    assert bench.found() == []
    await bench.close()


async def test_other_hits_of_a_read_are_judged_when_redis_cannot_tell_of_one(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What this process answers from its own memory needs no Redis."""
    created = await bench.create()
    await bench.inner.put_qr(ById(created.session.id), "code", 60)
    changed = await bench.inner.put_credential(ById(created.session.id), "5511@s.whatsapp.net")
    cache, policies = bench.cached.cache, bench.cached.repository._policies
    kept = {policies.entry_key(created.session.id, Entity.QR): created.qr.version}
    monkeypatch.setattr(cache, "peek", kept.get)

    def close() -> None:
        bench.memory.closed = True

    bench.meanwhile = close
    await bench.show((created, [Entity.CREDENTIAL, Entity.QR]))

    assert changed.records[Entity.CREDENTIAL].version > created.records[Entity.CREDENTIAL].version
    assert [(event.entity, event.outcome) for event in bench.told()] == [(Entity.QR, "stale")]
    await bench.close()


async def test_others_are_compared_when_one_waits_for_its_second_look(bench: Bench) -> None:
    """Sessions that change all the time do not keep the inspector from looking at the others."""
    created = await bench.create()
    await bench.inner.put_qr(ById(created.session.id), "code", 60)
    bench.cached.confirm_feed()
    never = asyncio.Event()
    bench.meanwhile = never.wait

    for entity in (Entity.QR, Entity.STATUS):
        bench.inspector.consider(created.session.id, [(entity, created.records[entity].version)])
        await turns(30)

    assert bench.second_looks == 1
    assert [(event.entity, event.outcome) for event in bench.told()] == [(Entity.STATUS, "match")]
    await bench.close()


async def test_one_read_is_compared_when_many_come_at_once(bench: Bench) -> None:
    """The database is asked once in each window, however many hits there are."""
    created = await bench.create()

    await bench.show(*[(created, [Entity.QR])] * 1000)

    assert len(bench.found()) == 1
    assert bench.windows == 1
    await bench.close()


async def test_reads_have_the_same_chance_when_they_always_come_in_the_same_order() -> None:
    """The first, or the last, of each window would be the same client's, or the same entity, again and again."""
    bench = Bench(chance=random.Random(7).random)
    created = await bench.create()
    kinds = [Entity.SESSION, Entity.STATUS, Entity.QR, Entity.CREDENTIAL]

    for _ in range(400):
        await bench.show(*[(created, [entity]) for entity in kinds])

    counts = Counter(event.entity for event in bench.told())
    assert counts.total() == 400
    assert all(70 <= counts[entity] <= 130 for entity in kinds), counts
    await bench.close()


@pytest.mark.parametrize(("drawn", "compared"), [(0.19, 1), (0.2, 0), (0.99, 0)])
async def test_read_is_compared_when_it_is_drawn(drawn: float, compared: int) -> None:
    """One in five, by chance and not by count: a count would meet the same entity again and again."""
    bench = Bench(one_in=5, chance=lambda: drawn)
    created = await bench.create()

    await bench.show((created, [Entity.QR]))

    assert len(bench.found()) == compared
    await bench.close()


async def test_nothing_is_compared_when_it_is_switched_off() -> None:
    """0: at none."""
    bench = Bench(one_in=0)
    created = await bench.create()

    for _ in range(5):
        await bench.show(*[(created, [Entity.QR])] * 100)

    assert bench.found() == []
    await bench.close()
