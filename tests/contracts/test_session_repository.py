"""What every `SessionRepository` promises, whoever implements it.

A new implementation is one more branch of the fixture `repository`.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from hashlib import sha256
from itertools import pairwise
from uuid import UUID, uuid4

import pytest

from tests.fakes.cached_sessions import make_cached_sessions
from tests.fakes.in_memory_session_repository import InMemorySessionRepository
from tests.fakes.memory_tier import MemoryTier
from tests.servers.postgres_server import PostgresServer
from zpmeow.domain import transitions
from zpmeow.domain.errors import (
    AlreadyConnected,
    ApiKeyTaken,
    DeviceAlreadyInUse,
    InvalidTransition,
    SessionNameTaken,
    SessionNotFound,
)
from zpmeow.domain.ports import NewSession, SessionChanges, SessionRepository
from zpmeow.domain.records import Entity, ReadSource, SessionStatus, Snapshot, StatusRecord, Webhook
from zpmeow.domain.references import ById, ByKeyHash, ByName, SessionReference
from zpmeow.domain.transitions import StatusChange
from zpmeow.postgres.clock import DatabaseClock
from zpmeow.postgres.database import Database
from zpmeow.postgres.migrations import migrate
from zpmeow.postgres.session_repository import PostgresSessionRepository

ALL = frozenset(Entity)
DEVICE = "5511999999999:12@s.whatsapp.net"


@pytest.fixture(scope="session")
def shared_database_url(postgres_server: PostgresServer) -> str:
    """One database for all of this suite: to make and migrate one takes longer than most tests."""
    return postgres_server.create_database("session_repository_contract")


@pytest.fixture(params=["in_memory", "postgres", "cached"])
async def repository(request: pytest.FixtureRequest) -> AsyncIterator[SessionRepository]:
    """Each implementation in turn, without any session."""
    if request.param == "in_memory":
        yield InMemorySessionRepository()
        return
    url = request.getfixturevalue("shared_database_url")
    await migrate(url=url)
    database = await Database.open(url=url, pool_size=4, timeout_seconds=10.0)
    try:
        await database.fetch("empty", "DELETE FROM sessions")
        truth = PostgresSessionRepository(database=database)
        if request.param == "postgres":
            yield truth
            return
        cached = make_cached_sessions(truth=truth, tier=MemoryTier(), clock=DatabaseClock(), monotonic=time.monotonic)
        yield cached.repository
        await cached.close()
    finally:
        await database.close()


def key_hash(key: str) -> bytes:
    """Hash a key as the domain does."""
    return sha256(key.encode()).digest()


def new_session(name: str = "test-session") -> NewSession:
    """Describe a session whose key's hash follows from its name."""
    return NewSession(name=name, key_hash=key_hash(name))


async def read(repository: SessionRepository, identifier: UUID, entities: frozenset[Entity] = ALL) -> Snapshot:
    """Read records of a session that is there, whoever answers."""
    found = await repository.find(ById(identifier), entities)
    assert found is not None
    return replace(found, source=ReadSource.MISS)


def report(status: SessionStatus, reason: str | None = None) -> StatusChange:
    """Describe a change to a status, whatever it was before."""
    return StatusChange(status=status, desired_status=SessionStatus.CONNECTED, reason=reason)


async def test_create_returns_all_four_records_when_the_name_is_free(repository: SessionRepository) -> None:
    """A new session is disconnected, without QR code and device, and has all that it was made of but the password."""
    webhook = Webhook(url="https://example.org/hook", events=("message", "status"))
    new = NewSession(
        name="test-session",
        key_hash=key_hash("k"),
        proxy_url="socks5://user@proxy:1080",
        proxy_password="p4ss",
        webhook=webhook,
    )

    made = await repository.create(new)

    session = made.session
    assert (session.name, session.key_hash, session.webhook) == ("test-session", key_hash("k"), webhook)
    assert (session.proxy_url, session.has_proxy_password, session.proxy_password) == (
        "socks5://user@proxy:1080",
        True,
        None,
    )
    assert made.status.status is made.status.desired_status is SessionStatus.DISCONNECTED
    assert (made.status.reason, made.qr.code, made.qr.expires_at) == (None, None, None)
    assert (made.credential.device_jid, made.credential.paired_at) == (None, None)
    assert made.source is ReadSource.MISS
    assert made.status.session_id == made.qr.session_id == made.credential.session_id == session.id
    assert session.created_at.utcoffset() == timedelta(0)
    assert await read(repository, session.id) == made


async def test_create_is_refused_when_the_name_is_taken(repository: SessionRepository) -> None:
    """Two sessions never have one name."""
    await repository.create(new_session())

    with pytest.raises(SessionNameTaken):
        await repository.create(NewSession(name="test-session", key_hash=key_hash("other")))


async def test_create_is_refused_when_the_key_is_taken(repository: SessionRepository) -> None:
    """Two sessions never have one key."""
    await repository.create(new_session())

    with pytest.raises(ApiKeyTaken):
        await repository.create(replace(new_session("other-session"), key_hash=key_hash("test-session")))


async def test_create_succeeds_once_when_many_want_one_name(repository: SessionRepository) -> None:
    """Of many who create one name at the same time one wins, and the others are told that it is taken."""
    wanted = [replace(new_session(), key_hash=key_hash(str(number))) for number in range(8)]

    outcomes = await asyncio.gather(*(repository.create(new) for new in wanted), return_exceptions=True)

    assert sorted(type(outcome).__name__ for outcome in outcomes) == ["SessionNameTaken"] * 7 + ["Snapshot"]


@pytest.mark.parametrize("kind", [ById, ByName, ByKeyHash])
async def test_find_returns_the_session_when_the_reference_leads_to_it(
    repository: SessionRepository, kind: type[SessionReference]
) -> None:
    """A session is found by its id, by its name, by its key."""
    await repository.create(new_session("other-session"))
    made = await repository.create(new_session())
    references: dict[type[SessionReference], SessionReference] = {
        ById: ById(made.session.id),
        ByName: ByName("test-session"),
        ByKeyHash: ByKeyHash(key_hash("test-session")),
    }

    found = await repository.find(references[kind], ALL)

    assert found is not None
    assert found.records == made.records


@pytest.mark.parametrize(
    "reference",
    [
        ById(uuid4()),
        ByName("nobody"),
        ByName("a\0b"),
        ByName("ünknown"),
        ByName(""),
        ByName("\ud800"),
        ByKeyHash(b"x" * 32),
    ],
    ids=["id", "name", "nul", "not_ascii", "empty", "surrogate", "key"],
)
async def test_find_returns_none_when_there_is_no_such_session(
    repository: SessionRepository, reference: SessionReference
) -> None:
    """Nothing is found, whatever the text: a path may hold anything."""
    await repository.create(new_session())

    found = await repository.find(reference, ALL)

    assert found is None


@pytest.mark.parametrize(
    "entities",
    [
        frozenset[Entity](),
        frozenset({Entity.SESSION}),
        frozenset({Entity.QR}),
        frozenset({Entity.STATUS, Entity.CREDENTIAL}),
    ],
    ids=["none", "session", "qr", "status_and_credential"],
)
async def test_find_returns_what_was_asked_for_when_that_is_less_than_all(
    repository: SessionRepository, entities: frozenset[Entity]
) -> None:
    """The records that were asked for, and always the session's own, and no other."""
    made = await repository.create(new_session())

    found = await repository.find(ById(made.session.id), entities)

    assert found is not None
    assert found.records == {entity: made.records[entity] for entity in {Entity.SESSION, *entities}}


async def test_find_shows_the_proxy_password_when_secrets_are_asked_for(repository: SessionRepository) -> None:
    """The proxy's password is read on request only."""
    new = replace(new_session(), proxy_url="http://user@proxy:3128", proxy_password="p4ss")
    made = await repository.create(new)

    plain = await repository.find(ById(made.session.id), frozenset())
    secret = await repository.find(ById(made.session.id), frozenset(), with_secrets=True)

    assert plain is not None
    assert secret is not None
    assert (plain.session.proxy_password, secret.session.proxy_password) == (None, "p4ss")
    assert plain.session.has_proxy_password


async def test_update_changes_the_named_fields_when_others_are_unset(repository: SessionRepository) -> None:
    """What a change does not name stays as it was, and only the session's own record gets a new version."""
    webhook = Webhook(url="https://example.org", events=())
    made = await repository.create(
        replace(new_session(), proxy_url="http://u@proxy:1", proxy_password="p4ss", webhook=webhook)
    )

    changed = await repository.update(ByName("test-session"), SessionChanges(name="renamed", key_hash=key_hash("new")))

    session = changed.session
    assert (session.id, session.name, session.key_hash) == (made.session.id, "renamed", key_hash("new"))
    assert (session.proxy_url, session.has_proxy_password, session.webhook) == ("http://u@proxy:1", True, webhook)
    assert session.version > made.session.version
    assert session.updated_at >= made.session.updated_at
    assert session.created_at == made.session.created_at
    assert (changed.status, changed.qr, changed.credential) == (made.status, made.qr, made.credential)
    assert await read(repository, session.id) == changed
    assert await repository.find(ByName("test-session"), ALL) is None
    assert await repository.find(ByKeyHash(key_hash("test-session")), ALL) is None
    by_new_key = await repository.find(ByKeyHash(key_hash("new")), ALL)
    assert by_new_key is not None
    assert by_new_key.records == changed.records


async def test_update_removes_proxy_and_webhook_when_they_are_set_to_none(repository: SessionRepository) -> None:
    """None removes, and the proxy's password goes with its URL."""
    made = await repository.create(
        replace(
            new_session(),
            proxy_url="http://u@proxy:1",
            proxy_password="p4ss",
            webhook=Webhook(url="https://example.org", events=("message",)),
        )
    )

    await repository.update(ById(made.session.id), SessionChanges(proxy_url=None, webhook=None))

    found = await repository.find(ById(made.session.id), frozenset(), with_secrets=True)
    assert found is not None
    assert (found.session.proxy_url, found.session.proxy_password, found.session.has_proxy_password) == (
        None,
        None,
        False,
    )
    assert found.session.webhook is None


async def test_update_sets_proxy_and_webhook_when_there_were_none(repository: SessionRepository) -> None:
    """A new proxy brings its password, and a new webhook its events in their order."""
    made = await repository.create(new_session())
    webhook = Webhook(url="https://example.org", events=("b", "a"))

    changed = await repository.update(
        ById(made.session.id),
        SessionChanges(proxy_url="http://u@proxy:1", proxy_password="n3w", webhook=webhook),
    )

    found = await repository.find(ById(made.session.id), frozenset(), with_secrets=True)
    assert found is not None
    assert (found.session.proxy_url, found.session.proxy_password) == ("http://u@proxy:1", "n3w")
    assert changed.session.webhook == webhook


async def test_update_writes_nothing_when_no_field_is_named(repository: SessionRepository) -> None:
    """A change of nothing leaves every version as it is."""
    made = await repository.create(new_session())

    changed = await repository.update(ById(made.session.id), SessionChanges())

    assert changed == made


async def test_update_is_refused_when_name_or_key_belong_to_another(repository: SessionRepository) -> None:
    """A refused change changes nothing."""
    await repository.create(new_session("other-session"))
    made = await repository.create(new_session())

    with pytest.raises(SessionNameTaken):
        await repository.update(ById(made.session.id), SessionChanges(name="other-session"))
    with pytest.raises(ApiKeyTaken):
        await repository.update(ById(made.session.id), SessionChanges(key_hash=key_hash("other-session")))

    assert await read(repository, made.session.id) == made


async def test_update_succeeds_when_the_name_stays_the_same(repository: SessionRepository) -> None:
    """A session's own name is not taken for itself."""
    made = await repository.create(new_session())

    changed = await repository.update(ById(made.session.id), SessionChanges(name="test-session"))

    assert changed.session.version > made.session.version


async def test_delete_removes_all_when_the_session_exists(repository: SessionRepository) -> None:
    """Nothing of the session can be found, and the removal's version is above all that its rows ever had."""
    made = await repository.create(new_session())
    await repository.put_qr(ById(made.session.id), "code", 60.0)
    last = await repository.put_credential(ById(made.session.id), DEVICE)

    removal = await repository.delete(ByKeyHash(key_hash("test-session")))

    assert removal.session == made.session
    assert removal.version > max(last.versions)
    assert await repository.find(ById(made.session.id), ALL) is None
    assert await repository.find(ByName("test-session"), ALL) is None


async def test_name_key_and_device_are_free_when_their_session_was_deleted(repository: SessionRepository) -> None:
    """What a deleted session held can be used by a new one, whose versions are higher."""
    made = await repository.create(new_session())
    await repository.put_credential(ById(made.session.id), DEVICE)
    removal = await repository.delete(ById(made.session.id))

    again = await repository.create(new_session())
    paired = await repository.put_credential(ById(again.session.id), DEVICE)

    assert again.session.id != made.session.id
    assert min(*again.versions, *paired.versions) > removal.version


async def test_change_status_stores_the_decision_when_it_differs(repository: SessionRepository) -> None:
    """`decide` sees the current record, and what it says is stored under a new version."""
    made = await repository.create(new_session())
    seen: list[StatusRecord] = []

    def decide(current: StatusRecord) -> StatusChange:
        seen.append(current)
        return report(SessionStatus.CONNECTING, "scan the code")

    changed = await repository.change_status(ByName("test-session"), decide)

    assert seen == [made.status]
    assert changed.records.keys() == {Entity.SESSION, Entity.STATUS}
    assert (changed.status.status, changed.status.desired_status, changed.status.reason) == (
        SessionStatus.CONNECTING,
        SessionStatus.CONNECTED,
        "scan the code",
    )
    assert changed.status.version > made.status.version
    assert changed.status.changed_at >= made.status.changed_at
    assert await read(repository, made.session.id) == replace(
        made, records={**made.records, Entity.STATUS: changed.status}
    )


async def test_change_status_writes_nothing_when_the_decision_changes_nothing(repository: SessionRepository) -> None:
    """The same status again keeps version and time."""
    made = await repository.create(new_session())

    changed = await repository.change_status(ById(made.session.id), transitions.disconnect)

    assert changed.status == made.status
    assert await read(repository, made.session.id) == made


@pytest.mark.parametrize("reason", [AlreadyConnected, InvalidTransition, ZeroDivisionError])
async def test_change_status_changes_nothing_when_the_decision_raises(
    repository: SessionRepository, reason: type[Exception]
) -> None:
    """What `decide` raises is raised, nothing is written, and the repository goes on."""
    made = await repository.create(new_session())

    def decide(current: StatusRecord) -> StatusChange:
        if reason is InvalidTransition:
            raise InvalidTransition(current.status, SessionStatus.CONNECTED)
        raise reason

    with pytest.raises(reason):
        await repository.change_status(ById(made.session.id), decide)

    assert await read(repository, made.session.id) == made


async def test_change_status_drops_the_qr_code_when_the_decision_says_so(repository: SessionRepository) -> None:
    """The answer holds the emptied QR record if there was a code, even where the status stays."""
    made = await repository.create(new_session())
    stored = await repository.put_qr(ById(made.session.id), "code", 60.0)

    first = await repository.change_status(ById(made.session.id), transitions.disconnect)
    second = await repository.change_status(ById(made.session.id), transitions.disconnect)

    assert (first.qr.code, first.qr.expires_at) == (None, None)
    assert first.qr.version > stored.qr.version
    assert Entity.QR not in second.records
    assert (await read(repository, made.session.id)).qr == first.qr


async def test_change_status_is_one_step_when_many_decide_at_once(repository: SessionRepository) -> None:
    """Each decision is made on what the one before it left: none is lost."""
    made = await repository.create(new_session())

    def count_up(current: StatusRecord) -> StatusChange:
        return report(SessionStatus.CONNECTING, str(int(current.reason or "0") + 1))

    answers = await asyncio.gather(*(repository.change_status(ById(made.session.id), count_up) for _ in range(25)))

    assert sorted(int(answer.status.reason or "0") for answer in answers) == list(range(1, 26))
    in_order = sorted(answers, key=lambda answer: int(answer.status.reason or "0"))
    versions = [answer.status.version for answer in in_order]
    assert versions == sorted(set(versions))


async def test_put_qr_stores_the_code_when_there_was_one_before(repository: SessionRepository) -> None:
    """The newest code counts, and lives its own time."""
    made = await repository.create(new_session())
    first = await repository.put_qr(ById(made.session.id), "first", 20.0)

    second = await repository.put_qr(ByName("test-session"), "second", 60.5)

    assert second.records.keys() == {Entity.SESSION, Entity.QR}
    assert second.qr.code == "second"
    assert second.qr.version > first.qr.version > made.qr.version
    assert first.qr.expires_at is not None
    assert second.qr.expires_at is not None
    assert second.qr.expires_at - first.qr.expires_at >= timedelta(seconds=40.5)
    assert (await read(repository, made.session.id)).qr == second.qr


async def test_put_credential_drops_the_qr_code_when_the_device_is_stored(repository: SessionRepository) -> None:
    """A paired session needs no code: both records change, and both are in the answer."""
    made = await repository.create(new_session())
    stored = await repository.put_qr(ById(made.session.id), "code", 60.0)

    paired = await repository.put_credential(ByName("test-session"), DEVICE)

    assert paired.credential.device_jid == DEVICE
    assert paired.credential.paired_at is not None
    assert paired.credential.version > made.credential.version
    assert (paired.qr.code, paired.qr.expires_at) == (None, None)
    assert paired.qr.version > stored.qr.version
    assert await read(repository, made.session.id) == replace(
        made, records={**paired.records, Entity.STATUS: made.status}
    )


async def test_put_credential_keeps_the_record_when_the_device_is_the_same(repository: SessionRepository) -> None:
    """The same device again leaves the record as it is, but drops the QR code all the same."""
    made = await repository.create(new_session())
    first = await repository.put_credential(ById(made.session.id), DEVICE)
    await repository.put_qr(ById(made.session.id), "code", 60.0)

    second = await repository.put_credential(ById(made.session.id), DEVICE)
    third = await repository.put_credential(ById(made.session.id), DEVICE)

    assert second.credential == first.credential
    assert second.qr.code is None
    assert Entity.QR not in third.records


async def test_put_credential_is_refused_when_another_session_has_the_device(repository: SessionRepository) -> None:
    """A device belongs to one session; a refused one changes nothing, not even the QR code."""
    owner = await repository.create(new_session("other-session"))
    await repository.put_credential(ById(owner.session.id), DEVICE)
    made = await repository.create(new_session())
    await repository.put_qr(ById(made.session.id), "code", 60.0)
    before = await read(repository, made.session.id)

    with pytest.raises(DeviceAlreadyInUse) as refused:
        await repository.put_credential(ById(made.session.id), DEVICE)

    assert DEVICE not in str(refused.value)
    assert await read(repository, made.session.id) == before


async def test_put_credential_succeeds_once_when_many_want_one_device(repository: SessionRepository) -> None:
    """Of many sessions that are paired with one device at the same time one wins."""
    made = [await repository.create(new_session(f"session-{number}")) for number in range(6)]

    outcomes = await asyncio.gather(
        *(repository.put_credential(ById(each.session.id), DEVICE) for each in made), return_exceptions=True
    )

    assert sorted(type(outcome).__name__ for outcome in outcomes) == ["DeviceAlreadyInUse"] * 5 + ["Snapshot"]


async def test_remove_credential_forgets_the_device_when_there_is_one(repository: SessionRepository) -> None:
    """The device is gone under a new version, and free for others."""
    made = await repository.create(new_session())
    other = await repository.create(new_session("other-session"))
    paired = await repository.put_credential(ById(made.session.id), DEVICE)

    removed = await repository.remove_credential(ByName("test-session"))

    assert removed.records.keys() == {Entity.SESSION, Entity.CREDENTIAL}
    assert (removed.credential.device_jid, removed.credential.paired_at) == (None, None)
    assert removed.credential.version > paired.credential.version
    assert (await read(repository, made.session.id)).credential == removed.credential
    await repository.put_credential(ById(other.session.id), DEVICE)


async def test_remove_credential_writes_nothing_when_there_is_no_device(repository: SessionRepository) -> None:
    """Nothing to forget: the record keeps its version."""
    made = await repository.create(new_session())

    removed = await repository.remove_credential(ById(made.session.id))

    assert removed.credential == made.credential


@pytest.mark.parametrize("reference", [ById(uuid4()), ByName("nobody"), ByName("a\0b"), ByKeyHash(b"x" * 32)])
async def test_writes_are_refused_when_there_is_no_such_session(
    repository: SessionRepository, reference: SessionReference
) -> None:
    """Every write that names a session says so when it is not there."""
    await repository.create(new_session())

    writes: list[Callable[[], Awaitable[object]]] = [
        lambda: repository.update(reference, SessionChanges(webhook=None)),
        lambda: repository.update(reference, SessionChanges()),
        lambda: repository.change_status(reference, transitions.connect),
        lambda: repository.put_qr(reference, "code", 60.0),
        lambda: repository.put_credential(reference, DEVICE),
        lambda: repository.remove_credential(reference),
        lambda: repository.delete(reference),
    ]

    for write in writes:
        with pytest.raises(SessionNotFound):
            await write()


async def test_list_returns_every_session_once_when_read_page_by_page(repository: SessionRepository) -> None:
    """Oldest first, each page begins after the last session of the one before, the last one says that it is."""
    names = [f"session-{number}" for number in range(7)]
    for name in names:
        await repository.create(replace(new_session(name), proxy_url="http://u@proxy:1", proxy_password="p4ss"))

    pages = [await repository.list_sessions(limit=3, cursor=None, status=None)]
    while pages[-1].next_cursor is not None:
        pages.append(await repository.list_sessions(limit=3, cursor=pages[-1].next_cursor, status=None))

    assert [[line.session.name for line in page.sessions] for page in pages] == [names[:3], names[3:6], names[6:]]
    assert {line.session.proxy_password for page in pages for line in page.sessions} == {None}


async def test_list_says_that_it_is_the_last_page_when_it_is_just_full(repository: SessionRepository) -> None:
    """A full page after which nothing comes has no next one."""
    for number in range(3):
        await repository.create(new_session(f"session-{number}"))

    page = await repository.list_sessions(limit=3, cursor=None, status=None)

    assert len(page.sessions) == 3
    assert page.next_cursor is None


async def test_list_shows_status_and_device_when_they_are_set(repository: SessionRepository) -> None:
    """A line holds the session, its status and its device."""
    made = await repository.create(new_session())
    changed = await repository.change_status(ById(made.session.id), transitions.connect)
    await repository.put_credential(ById(made.session.id), DEVICE)

    page = await repository.list_sessions(limit=10, cursor=None, status=None)

    (line,) = page.sessions
    assert (line.session, line.status, line.device_jid) == (made.session, changed.status, DEVICE)


async def test_list_returns_the_sessions_of_a_status_when_asked_for_one(repository: SessionRepository) -> None:
    """The filter goes with the pages."""
    for number in range(6):
        made = await repository.create(new_session(f"session-{number}"))
        if number % 2:
            await repository.change_status(ById(made.session.id), transitions.connect)

    first = await repository.list_sessions(limit=2, cursor=None, status=SessionStatus.CONNECTING)
    second = await repository.list_sessions(limit=2, cursor=first.next_cursor, status=SessionStatus.CONNECTING)
    none = await repository.list_sessions(limit=2, cursor=None, status=SessionStatus.ERROR)

    assert [line.session.name for line in first.sessions] == ["session-1", "session-3"]
    assert [line.session.name for line in second.sessions] == ["session-5"]
    assert (second.next_cursor, none.sessions, none.next_cursor) == (None, [], None)


async def test_list_returns_an_empty_last_page_when_the_cursor_is_gone(repository: SessionRepository) -> None:
    """A cursor whose session was deleted ends the list instead of starting it again."""
    first = await repository.create(new_session("session-1"))
    await repository.create(new_session("session-2"))
    await repository.delete(ById(first.session.id))

    page = await repository.list_sessions(limit=10, cursor=first.session.id, status=None)

    assert (list(page.sessions), page.next_cursor) == ([], None)


@pytest.mark.parametrize("entities", [frozenset(), frozenset({Entity.SESSION, Entity.STATUS}), frozenset(Entity)])
async def test_find_many_returns_those_that_there_are(
    repository: SessionRepository, entities: frozenset[Entity]
) -> None:
    """Each is as `find` has it; one that is not there, or asked for twice, is no error."""
    made = [await repository.create(new_session(f"session-{number}")) for number in range(4)]
    await repository.put_qr(ById(made[0].session.id), "code", 60.0)
    await repository.delete(ById(made[1].session.id))
    ids = [one.session.id for one in made]

    found = await repository.find_many([*ids[:3], ids[0], uuid4()], entities)

    assert found.keys() == {ids[0], ids[2]}
    for session_id, snapshot in found.items():
        assert snapshot.records == (await read(repository, session_id, entities)).records
    assert await repository.find_many([], entities) == {}


async def test_find_many_shows_each_change_when_it_was_asked_before(repository: SessionRepository) -> None:
    """What was read of a session before has no say in what is read now."""
    made = await repository.create(new_session("alpha"))
    reference = ById(made.session.id)
    changes: list[Callable[[], Awaitable[object]]] = [
        lambda: repository.update(reference, SessionChanges(webhook=Webhook(url="https://a.test", events=("status",)))),
        lambda: repository.update(reference, SessionChanges(webhook=Webhook(url="https://a.test", events=("qr",)))),
        lambda: repository.update(reference, SessionChanges(name="beta", key_hash=b"2" * 32)),
        lambda: repository.change_status(reference, transitions.connect),
        lambda: repository.put_qr(reference, "one", 60.0),
        lambda: repository.put_qr(reference, "two", 60.0),
        lambda: repository.put_credential(reference, DEVICE),
        lambda: repository.remove_credential(reference),
    ]

    said = [(await repository.find_many([reference.id], ALL))[reference.id].records]
    for change in changes:
        await change()
        found = await repository.find_many([reference.id], ALL)
        assert found[reference.id].records == (await read(repository, reference.id)).records
        said.append(found[reference.id].records)
    await repository.delete(reference)

    assert all(one != other for one, other in pairwise(said))
    assert await repository.find_many([reference.id], ALL) == {}


async def test_recent_returns_the_last_changed_first_when_there_are_more_than_asked_for(
    repository: SessionRepository,
) -> None:
    """Any record's change makes its session recent; all four records are there."""
    made = [await repository.create(new_session(f"session-{number}")) for number in range(4)]
    await repository.put_qr(ById(made[0].session.id), "code", 60.0)

    recent = await repository.recent(3)

    assert [each.session.name for each in recent] == ["session-0", "session-3", "session-2"]
    assert recent[0] == await read(repository, made[0].session.id)


async def test_recent_returns_nothing_when_there_is_no_session(repository: SessionRepository) -> None:
    """An empty database has nothing recent."""
    assert list(await repository.recent(10)) == []


def promised(seconds: float, status: SessionStatus = SessionStatus.CONNECTED) -> StatusChange:
    """Describe a report that holds for so long."""
    return replace(report(status), valid_for_seconds=seconds)


async def test_a_promise_is_kept_with_the_status_when_it_is_made(repository: SessionRepository) -> None:
    """The end of a promise is that much after the report, and is read back."""
    made = await repository.create(new_session())
    before = await repository.change_status(ById(made.session.id), lambda _: report(SessionStatus.CONNECTED))

    after = await repository.change_status(ById(made.session.id), lambda _: promised(30))

    assert before.status.valid_until is None
    assert after.status.valid_until is not None
    assert after.status.version > before.status.version
    assert after.status.changed_at == before.status.changed_at  # A promise alone is no change of the status.
    assert timedelta(0) <= after.status.valid_until - after.status.changed_at - timedelta(seconds=30)
    assert (await read(repository, made.session.id)).status == after.status


@pytest.mark.parametrize("keeps", [True, False])
async def test_a_promise_ends_or_stays_as_the_change_says(repository: SessionRepository, *, keeps: bool) -> None:
    """A new wish of the owner leaves the engine's promise alone; a report without one takes it back."""
    made = await repository.create(new_session())
    reference = ById(made.session.id)
    before = await repository.change_status(reference, lambda _: promised(30))

    after = await repository.change_status(
        reference, lambda _: replace(report(SessionStatus.CONNECTED, "again"), keeps_promise=keeps)
    )

    assert after.status.valid_until == (before.status.valid_until if keeps else None)


def _decide(change: StatusChange, _current: StatusRecord) -> StatusChange:
    return change


async def test_an_ended_promise_is_listed_as_an_error(repository: SessionRepository) -> None:
    """The list's filter goes by the moment, before any sweep."""
    made = {name: await repository.create(new_session(name)) for name in ("ended", "holds", "reported", "unbound")}
    reports = {
        "ended": promised(0.001),
        "holds": promised(60),
        "reported": report(SessionStatus.ERROR, "banned"),
        "unbound": report(SessionStatus.CONNECTED),
    }
    for name, change in reports.items():
        await repository.change_status(ById(made[name].session.id), partial(_decide, change))
    await asyncio.sleep(0.01)

    errors = await repository.list_sessions(limit=10, cursor=None, status=SessionStatus.ERROR)
    connected = await repository.list_sessions(limit=10, cursor=None, status=SessionStatus.CONNECTED)

    assert [(one.session.name, one.status.reason) for one in errors.sessions] == [
        ("ended", "engine_silent"),
        ("reported", "banned"),
    ]
    assert [one.session.name for one in connected.sessions] == ["holds", "unbound"]


async def test_list_finds_what_is_wished(repository: SessionRepository) -> None:
    """The wish is a filter of its own, and goes together with the others."""
    for name in ("first", "second", "third"):
        await repository.create(new_session(name))
    for name in ("first", "third"):
        await repository.change_status(ByName(name), transitions.connect)
    await repository.change_status(ByName("third"), lambda _: report(SessionStatus.CONNECTED))

    wished = await repository.list_sessions(limit=1, cursor=None, desired_status=SessionStatus.CONNECTED)
    rest = await repository.list_sessions(limit=10, cursor=wished.next_cursor, desired_status=SessionStatus.CONNECTED)
    both = await repository.list_sessions(
        limit=10, cursor=None, status=SessionStatus.CONNECTING, desired_status=SessionStatus.CONNECTED
    )

    assert [one.session.name for one in wished.sessions] == ["first"]
    assert [one.session.name for one in rest.sessions] == ["third"]
    assert [one.session.name for one in both.sessions] == ["first"]


MADE = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("second", "wins"),
    [(MADE + timedelta(seconds=20), True), (MADE, True), (MADE - timedelta(seconds=20), False), (None, True)],
)
async def test_the_newest_qr_code_wins_whatever_the_order_of_arrival(
    repository: SessionRepository, second: datetime | None, *, wins: bool
) -> None:
    """Of two codes the one that was made later stays, and who comes too late is answered with it."""
    made = await repository.create(new_session())
    reference = ById(made.session.id)
    first = await repository.put_qr(reference, "first", 60, issued_at=MADE)

    after = await repository.put_qr(reference, "second", 60, issued_at=second)

    assert after.qr.code == ("second" if wins else "first")
    assert (after.qr == first.qr) is not wins
    assert (await read(repository, made.session.id)).qr == after.qr


async def test_an_older_qr_code_does_not_come_back_when_the_newer_one_was_dropped(
    repository: SessionRepository,
) -> None:
    """What was dropped stays dropped, whatever was still on its way; a newer code is welcome."""
    made = await repository.create(new_session())
    reference = ById(made.session.id)
    await repository.put_qr(reference, "newer", 60, issued_at=MADE)
    await repository.change_status(reference, transitions.disconnect)

    late = await repository.put_qr(reference, "older", 60, issued_at=MADE - timedelta(seconds=20))
    next_one = await repository.put_qr(reference, "newest", 60, issued_at=MADE + timedelta(seconds=20))

    assert late.qr.code is None
    assert next_one.qr.code == "newest"


async def test_a_clock_that_was_wrong_keeps_codes_out_no_longer_than_its_code_lived(
    repository: SessionRepository,
) -> None:
    """An engine whose clock was set back is heard again when the code from the future is over."""
    made = await repository.create(new_session())
    reference = ById(made.session.id)
    await repository.put_qr(reference, "from the future", 0.001, issued_at=MADE + timedelta(days=365))
    await asyncio.sleep(0.01)

    after = await repository.put_qr(reference, "now", 60, issued_at=MADE)

    assert after.qr.code == "now"


async def test_a_pairing_code_stands_beside_the_qr_code(repository: SessionRepository) -> None:
    """Neither touches the other."""
    made = await repository.create(new_session())
    reference = ById(made.session.id)
    await repository.put_qr(reference, "to scan", 60)
    with_both = await repository.put_pairing_code(reference, "ABCD-EFGH", 160)
    rotated = await repository.put_qr(reference, "to scan next", 60)

    assert (with_both.qr.code, with_both.qr.pairing_code) == ("to scan", "ABCD-EFGH")
    assert with_both.qr.pairing_expires_at is not None
    assert (rotated.qr.code, rotated.qr.pairing_code) == ("to scan next", "ABCD-EFGH")
    assert rotated.qr.pairing_expires_at == with_both.qr.pairing_expires_at
    assert (await read(repository, made.session.id)).qr == rotated.qr


@pytest.mark.parametrize("drops", ["disconnect", "credential"])
async def test_both_codes_go_when_nobody_needs_them_any_more(repository: SessionRepository, drops: str) -> None:
    """Who is paired, or does not want to be, has no code."""
    made = await repository.create(new_session())
    reference = ById(made.session.id)
    await repository.put_pairing_code(reference, "ABCD-EFGH", 160)

    if drops == "disconnect":
        after = await repository.change_status(reference, transitions.disconnect)
    else:
        after = await repository.put_credential(reference, DEVICE)

    assert (after.qr.code, after.qr.pairing_code, after.qr.pairing_expires_at) == (None, None, None)
    assert (await read(repository, made.session.id)).qr == after.qr


async def test_a_new_wish_to_pair_drops_the_code_of_the_one_before(repository: SessionRepository) -> None:
    """Who waits for the code of another telephone does not get the last one's."""
    made = await repository.create(new_session())
    reference = ById(made.session.id)
    await repository.put_qr(reference, "to scan", 60)
    await repository.put_pairing_code(reference, "ABCD-EFGH", 160)

    after = await repository.change_status(reference, transitions.pair("5511999999999"))

    assert (after.qr.code, after.qr.pairing_code) == ("to scan", None)
    assert (await read(repository, made.session.id)).qr == after.qr


async def test_a_status_is_new_when_a_promise_has_ended_before_it(repository: SessionRepository) -> None:
    """Between the end of a promise and its recording, the same report is another status: readers saw an error."""
    made = await repository.create(new_session())
    reference = ById(made.session.id)
    before = await repository.change_status(reference, lambda _: promised(0.001))
    await asyncio.sleep(0.01)

    after = await repository.change_status(reference, lambda _: promised(30))

    assert before.status.valid_until is not None
    assert after.status.changed_at > before.status.valid_until
