"""The deep check: every entry in Redis against the database, and a second look at what was just being changed."""

from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from uuid import UUID

import pytest

from tests.fakes.cached_sessions import LIFETIMES
from tests.fakes.in_memory_session_repository import InMemorySessionRepository
from zpmeow.cache.entry_codec import EntryCodec
from zpmeow.cache.policy import Loaded
from zpmeow.domain.ports import NewSession
from zpmeow.domain.records import Entity, SessionStatus
from zpmeow.domain.references import ById
from zpmeow.domain.transitions import report
from zpmeow.repositories.cache_policies import CachePolicies
from zpmeow.repositories.deep_check import DeepCheck, Difference

EPOCH = b"e" * 16
NOW_MS = int(datetime(2026, 1, 1, tzinfo=UTC).timestamp() * 1000)
ALL = frozenset(Entity)


class Keys:
    """A tier whose keys can be listed, two at a time."""

    def __init__(self) -> None:
        """Begin empty."""
        self.stored: dict[str, bytes] = {}

    async def scan(self, cursor: int, *, pattern: str, count: int) -> tuple[int, list[str]]:
        """Return two keys, and how many were told so far."""
        found = sorted(key for key in self.stored if fnmatchcase(key, pattern.replace("{", "[{]")))
        following = cursor + 2
        return (0 if following >= len(found) else following), found[cursor:following]

    async def get_many(self, keys: Sequence[str]) -> list[bytes | None]:
        """Return what stands there."""
        return [self.stored.get(key) for key in keys]


class Bench:
    """A tier and a database with one session, all of it cached."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self.keys = Keys()
        self.truth = InMemorySessionRepository()
        self.policies = CachePolicies(LIFETIMES)
        self.codec = EntryCodec(now_ms=lambda: NOW_MS, chance=lambda: 0.0)
        self.meanwhile: Callable[[], Awaitable[object]] | None = None

    async def sleep(self, _seconds: float) -> None:
        """Let happen what a test wants to happen before the second look."""
        if self.meanwhile is not None:
            await self.meanwhile()

    async def create(self) -> UUID:
        """Make a session and cache it."""
        new = NewSession(
            name="alpha",
            key_hash=b"k" * 32,
            proxy_url="http://p.test",
            proxy_password="secret",
        )
        session_id = (await self.truth.create(new)).session.id
        await self.fill(session_id)
        return session_id

    async def fill(self, session_id: UUID, *, epoch: bytes = EPOCH) -> None:
        """Cache what the database has."""
        found = await self.truth.find(ById(session_id), ALL)
        assert found is not None
        for entity, record in found.records.items():
            key = self.policies.entry_key(session_id, entity)
            loaded = Loaded(value=record, version=record.version)
            self.keys.stored[key.text] = self.codec.value(key, loaded, epoch=epoch, loaded_at_ms=NOW_MS).envelope

    async def run(self) -> tuple[list[Difference], DeepCheck]:
        """Compare."""
        check = DeepCheck(
            tier=self.keys,
            find_many=self.truth.find_many,
            policies=self.policies,
            codec=self.codec,
            now_ms=lambda: NOW_MS,
            epoch=EPOCH,
            sleep=self.sleep,
        )
        return [difference async for difference in check.differences()], check


@pytest.fixture
def bench() -> Bench:
    """A fresh bench."""
    return Bench()


async def test_nothing_differs_when_all_is_as_the_database_has_it(bench: Bench) -> None:
    """Every entry is counted as equal; that passwords are never cached is no difference."""
    await bench.create()

    differences, check = await bench.run()

    assert differences == []
    assert (check.counts.keys, check.counts.equal) == (4, 4)


async def test_old_entry_is_told_with_both_versions_and_no_value(bench: Bench) -> None:
    """Whoever reads it learns where to look, and nothing of what stands there."""
    session_id = await bench.create()
    await bench.truth.change_status(ById(session_id), report(SessionStatus.ERROR, "a reason"))

    differences, _ = await bench.run()

    key = bench.policies.entry_key(session_id, Entity.STATUS).text
    assert [str(one) for one in differences] == [f"{key}: version 2 in Redis, 5 in the database"]


async def test_entry_of_a_session_that_is_gone_is_told(bench: Bench) -> None:
    """All four of them."""
    session_id = await bench.create()
    await bench.truth.delete(ById(session_id))

    differences, _ = await bench.run()

    assert len(differences) == 4
    assert all("no such session in the database" in one.text for one in differences)


async def test_entry_of_the_same_version_with_other_content_is_told_by_the_fields_names(bench: Bench) -> None:
    """A version says which content it is: two contents of one version are the worst that can be found."""
    session_id = await bench.create()
    key = bench.policies.entry_key(session_id, Entity.SESSION)
    found = await bench.truth.find(ById(session_id), ALL)
    assert found is not None
    forged = bench.truth._sessions[session_id]
    forged.session = type(found.session)(
        **{name: getattr(forged.session, name) for name in found.session.__slots__} | {"name": "other"}
    )

    differences, _ = await bench.run()

    assert [str(one) for one in differences] == [f"{key.text}: version 1 in both, but other content: name"]


async def test_nothing_is_told_when_the_change_arrives_before_the_second_look(bench: Bench) -> None:
    """What was being changed while it was looked at is no difference."""
    session_id = await bench.create()
    await bench.truth.change_status(ById(session_id), report(SessionStatus.ERROR, None))
    bench.meanwhile = lambda: bench.fill(session_id)

    differences, _ = await bench.run()

    assert differences == []


async def test_nothing_is_told_when_the_entry_follows_and_is_overtaken_again(bench: Bench) -> None:
    """An entry that is changed all the time is not old: a second later it was another version."""
    session_id = await bench.create()
    await bench.truth.change_status(ById(session_id), report(SessionStatus.ERROR, None))

    async def change_again() -> None:
        await bench.fill(session_id)
        await bench.truth.change_status(ById(session_id), report(SessionStatus.ERROR, "again"))

    bench.meanwhile = change_again

    differences, _ = await bench.run()

    assert differences == []


async def test_what_no_reader_is_answered_with_is_counted_and_not_compared(bench: Bench) -> None:
    """Fences, other epochs, garbage, and keys that are no entries."""
    session_id = await bench.create()
    await bench.truth.change_status(ById(session_id), report(SessionStatus.ERROR, None))
    await bench.fill(session_id, epoch=b"o" * 16)
    fenced = bench.policies.entry_key(session_id, Entity.STATUS)
    bench.keys.stored[fenced.text] = bench.codec.fence(fenced, 9, epoch=EPOCH, retire=False).envelope
    bench.keys.stored[bench.policies.entry_key(session_id, Entity.QR).text] = b"garbage"
    bench.keys.stored["zpmeow:{not an id}:session"] = b"x"
    bench.keys.stored["zpmeow:position"] = b"x"

    differences, check = await bench.run()

    assert differences == []
    assert (check.counts.keys, check.counts.equal, check.counts.void, check.counts.other) == (5, 0, 3, 2)
