"""The schema keeps its promises for every writer, psql included: four rows, versions in order, no deadlock."""

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime
from uuid import RFC_4122, UUID

import asyncpg
import pytest

from zpmeow.domain import transitions
from zpmeow.domain.errors import DomainError, SessionNotFound, Unavailable
from zpmeow.domain.ports import NewSession, SessionChanges
from zpmeow.domain.records import Entity, SessionStatus
from zpmeow.domain.references import ById, ByName
from zpmeow.postgres.control_store import PostgresControlStore
from zpmeow.postgres.database import Database
from zpmeow.postgres.promises import PostgresOverduePromises
from zpmeow.postgres.session_repository import PostgresSessionRepository

TABLES = ["sessions", "session_status", "session_qr", "session_credential"]
CHILDREN = TABLES[1:]
ALL = frozenset(Entity)
INSERT = "INSERT INTO sessions (name, key_hash) VALUES ($1, sha256($1::text::bytea)) RETURNING id"


@pytest.fixture
def repository(database: Database) -> PostgresSessionRepository:
    """The repository under test."""
    return PostgresSessionRepository(database=database)


def new_session(name: str) -> NewSession:
    """Describe a session whose key follows from its name."""
    return NewSession(name=name, key_hash=name.encode().ljust(32, b"."))


async def versions(psql: "asyncpg.Connection[asyncpg.Record]", session_id: UUID) -> list[int]:
    """Read the versions of the four rows."""
    found = [
        await psql.fetchval(
            f"SELECT version FROM {table} WHERE {'id' if table == 'sessions' else 'session_id'} = $1", session_id
        )
        for table in TABLES
    ]
    assert None not in found
    return found


async def test_all_rows_are_made_when_somebody_inserts_into_sessions(
    psql: "asyncpg.Connection[asyncpg.Record]", repository: PostgresSessionRepository
) -> None:
    """A session made by hand is a whole one."""
    session_id = await psql.fetchval(INSERT, "by-hand")

    found = await repository.find(ByName("by-hand"), ALL)

    assert found is not None
    assert found.session.id == session_id
    assert len(set(found.versions)) == 4


async def test_ids_begin_with_their_time_when_sessions_are_made(
    psql: "asyncpg.Connection[asyncpg.Record]", repository: PostgresSessionRepository
) -> None:
    """Whoever makes them: 48 bits of milliseconds, then chance, as RFC 9562 has it for version 7."""
    before = await psql.fetchval("SELECT clock_timestamp()")
    by_hand = [await psql.fetchval(INSERT, f"by-hand-{number}") for number in range(50)]
    ours = (await repository.create(new_session("ours"))).session.id
    after = await psql.fetchval("SELECT clock_timestamp()")

    ids = [UUID(int=each.int) for each in (*by_hand, ours)]

    assert {(each.version, each.variant) for each in ids} == {(7, RFC_4122)}
    milliseconds = [each.int >> 80 for each in ids]
    assert milliseconds == sorted(milliseconds)
    assert int(before.timestamp() * 1000) <= milliseconds[0] <= milliseconds[-1] <= after.timestamp() * 1000
    chance = [each.int & ((1 << 62) - 1) for each in ids]
    assert len(set(chance)) == len(ids)
    assert len({part >> 54 for part in chance}) > 10  # The first bits are of chance, too.


@pytest.mark.parametrize("role", ["origin", "replica"])
@pytest.mark.parametrize("table", TABLES)
async def test_version_grows_when_anybody_updates_a_row(
    psql: "asyncpg.Connection[asyncpg.Record]", table: str, role: str
) -> None:
    """Any update draws a new version, whoever makes it, whatever version it brings, with replication's triggers too."""
    session_id = await psql.fetchval(INSERT, "by-hand")
    before = await versions(psql, session_id)
    key = "id" if table == "sessions" else "session_id"
    await psql.execute(f"SET session_replication_role = {role}")

    await psql.execute(f"UPDATE {table} SET version = 1 WHERE {key} = $1", session_id)

    after = await versions(psql, session_id)
    changed = TABLES.index(table)
    assert after[changed] > max(before)
    assert [number for number in range(4) if after[number] != before[number]] == [changed]


async def test_version_is_drawn_when_the_writer_has_no_search_path(psql: "asyncpg.Connection[asyncpg.Record]") -> None:
    """Replication applies changes with an empty search_path: the triggers work all the same."""
    await psql.execute("SET search_path = ''")

    await psql.execute("INSERT INTO public.sessions (name, key_hash) VALUES ('by-hand', sha256('x'))")
    await psql.execute("UPDATE public.session_status SET reason = 'because'")
    await psql.execute("TRUNCATE public.sessions CASCADE")


async def test_commit_waits_for_the_disk_when_a_version_was_drawn(psql: "asyncpg.Connection[asyncpg.Record]") -> None:
    """A version that was seen survives a crash, even for writers who gave up on that; only this transaction waits."""
    await psql.execute("SET synchronous_commit = off")
    await psql.fetchval(INSERT, "by-hand")

    async with psql.transaction():
        await psql.execute("UPDATE session_status SET reason = 'because'")
        within = await psql.fetchval("SHOW synchronous_commit")

    assert within == "on"
    assert await psql.fetchval("SHOW synchronous_commit") == "off"


@pytest.mark.parametrize("table", CHILDREN)
async def test_a_row_is_not_deleted_when_its_session_lives(
    psql: "asyncpg.Connection[asyncpg.Record]", table: str
) -> None:
    """Rows go with their session, never alone."""
    await psql.fetchval(INSERT, "by-hand")

    with pytest.raises(asyncpg.RestrictViolationError):
        await psql.execute(f"DELETE FROM {table}")
    await psql.execute("DELETE FROM sessions")

    assert await psql.fetchval(f"SELECT count(*) FROM {table}") == 0


@pytest.mark.parametrize("table", TABLES)
async def test_epoch_is_raised_when_a_table_is_truncated(
    psql: "asyncpg.Connection[asyncpg.Record]", database: Database, repository: PostgresSessionRepository, table: str
) -> None:
    """TRUNCATE voids what is cached, keeps the mode, and leaves no session without its rows."""
    store = PostgresControlStore(database=database)
    await store.set_mode("bypass")
    before = await store.read()
    session_id = await psql.fetchval(INSERT, "by-hand")

    await psql.execute(f"TRUNCATE {table} CASCADE")

    after = await store.read()
    assert after.epoch != before.epoch
    assert (after.mode, len(after.epoch)) == ("bypass", 16)
    found = await repository.find(ById(session_id), ALL)
    assert (found is None) == (table == "sessions")


@pytest.mark.parametrize(
    "sql",
    [
        "UPDATE sessions SET name = 'ab'",
        "UPDATE sessions SET name = repeat('a', 51)",
        "UPDATE sessions SET name = 'a b c'",
        "UPDATE sessions SET name = E'abc\\n'",
        "UPDATE sessions SET name = 'A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11'",
        "UPDATE sessions SET key_hash = '\\x00'",
        "UPDATE sessions SET proxy_password = 'secret'",
        "UPDATE sessions SET webhook_url = 'https://example.org'",
        "UPDATE sessions SET webhook_events = '{}'",
        "UPDATE session_status SET status = 'asleep'",
        "UPDATE session_status SET desired_status = 'asleep'",
        "UPDATE session_qr SET code = 'code'",
        "UPDATE session_credential SET device_jid = 'jid'",
        "UPDATE control_settings SET cache_mode = 'sometimes'",
        "UPDATE control_settings SET epoch = '\\x00'",
        "INSERT INTO control_settings (the_only_row) VALUES (false)",
    ],
)
async def test_a_senseless_row_is_refused_when_anybody_writes_it(
    psql: "asyncpg.Connection[asyncpg.Record]", sql: str
) -> None:
    """The constraints are the second net behind the service's own checks."""
    await psql.fetchval(INSERT, "by-hand")

    with pytest.raises(asyncpg.CheckViolationError):
        await psql.execute(sql)


async def test_control_settings_come_back_when_their_row_was_deleted(
    psql: "asyncpg.Connection[asyncpg.Record]", database: Database
) -> None:
    """An emptied table is filled again, under another epoch, at the next reading."""
    store = PostgresControlStore(database=database)
    before = await store.read()
    await psql.execute("DELETE FROM control_settings")

    after = await store.read()

    assert after.mode == "normal"
    assert after.epoch != before.epoch
    assert (await store.read()).epoch == after.epoch


async def test_control_settings_are_read_when_all_connections_are_busy(database: Database) -> None:
    """An operator's switch works while the database is overloaded."""
    store = PostgresControlStore(database=database)
    busy = [asyncio.create_task(database.fetch("sleep", "SELECT pg_sleep(5)")) for _ in range(20)]
    await asyncio.sleep(0)

    await store.set_mode("bypass")
    state = await store.read()

    assert state.mode == "bypass"
    assert not any(task.done() for task in busy)
    for task in busy:
        task.cancel()
    await asyncio.gather(*busy, return_exceptions=True)


async def test_versions_follow_the_order_of_commits_when_many_write_one_row(
    database: Database, repository: PostgresSessionRepository, psql: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    """Of a row's states the later one has the higher version, for our writers and for raw SQL among them."""
    made = await repository.create(new_session("busy"))
    reference = ById(made.session.id)
    await psql.execute("CREATE TABLE seen (place bigserial, version bigint, code text)")
    # The trigger notes each state in the order in which the row's lock was held.
    await psql.execute("""
        CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN INSERT INTO seen (version, code) VALUES (NEW.version, NEW.code); RETURN NULL; END $$;
        CREATE TRIGGER note AFTER UPDATE ON session_qr FOR EACH ROW EXECUTE FUNCTION note();
    """)

    raw = "UPDATE session_qr SET code = 'raw', expires_at = now()"
    await asyncio.gather(
        *(repository.put_qr(reference, str(number), 60.0) for number in range(60)),
        *(database.fetch("raw", raw) for _ in range(60)),
    )

    in_order = [row["version"] for row in await psql.fetch("SELECT version FROM seen ORDER BY place")]
    assert len(in_order) == 120
    assert in_order == sorted(set(in_order))
    assert (await versions(psql, made.session.id))[2] == in_order[-1]


async def test_removal_is_newest_when_others_write_the_rows_meanwhile(
    repository: PostgresSessionRepository, database: Database, psql: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    """A removal's version is above that of a write it had to wait for, even one that locks only a child's row."""
    for number in range(20):
        made = await repository.create(new_session(f"session-{number}"))
        async with psql.transaction():
            await psql.execute(
                "UPDATE session_qr SET code = 'raw', expires_at = now() WHERE session_id = $1", made.session.id
            )
            removal = asyncio.create_task(repository.delete(ById(made.session.id)))
            await asyncio.sleep(0.01)
            await psql.execute("UPDATE session_qr SET code = 'last' WHERE session_id = $1", made.session.id)
            last = max(await versions(psql, made.session.id))

        assert (await removal).version > last


async def test_writers_see_the_newest_state_when_they_waited_for_it(
    repository: PostgresSessionRepository, psql: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    """What a write answers, and decides on, is the state under its lock, not that of when it began."""
    made = await repository.create(new_session("waited"))
    reference = ById(made.session.id)

    async with psql.transaction():
        await psql.execute("SELECT FROM sessions FOR NO KEY UPDATE")
        writes = [
            asyncio.create_task(repository.update(reference, SessionChanges(webhook=None))),
            asyncio.create_task(repository.put_credential(reference, "device")),
        ]
        await asyncio.sleep(0.2)  # Long enough for both to wait; if not, nothing is proved and nothing fails.
        await psql.execute("UPDATE session_qr SET code = 'newest', expires_at = now()")
        await psql.execute("UPDATE session_status SET status = 'connecting'")
        await psql.execute("UPDATE sessions SET name = 'renamed'")
    updated, paired = await asyncio.gather(*writes)

    assert updated.session.name == paired.session.name == "renamed"
    assert updated.status.status is SessionStatus.CONNECTING
    assert paired.qr.code is None
    found = await repository.find(reference, ALL)
    assert found is not None
    assert found.qr.code is None
    assert found.credential.device_jid == "device"


async def test_a_write_finds_nothing_when_its_session_is_deleted_while_it_waits(
    repository: PostgresSessionRepository, psql: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    """Who waited for a session that went is told that it is not there."""
    made = await repository.create(new_session("going"))
    reference = ByName("going")

    async with psql.transaction():
        await psql.execute("DELETE FROM sessions WHERE id = $1", made.session.id)
        writes = [
            asyncio.create_task(repository.put_qr(reference, "code", 60.0)),
            asyncio.create_task(repository.put_credential(reference, "device")),
            asyncio.create_task(repository.remove_credential(reference)),
            asyncio.create_task(repository.update(reference, SessionChanges(webhook=None))),
            asyncio.create_task(repository.change_status(reference, transitions.connect)),
            asyncio.create_task(repository.delete(reference)),
        ]
        await asyncio.sleep(0.2)
    outcomes = await asyncio.gather(*writes, return_exceptions=True)

    assert [type(outcome) for outcome in outcomes] == [SessionNotFound] * 6


async def test_nobody_deadlocks_when_everybody_writes_the_same_sessions(
    repository: PostgresSessionRepository, psql: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    """A thousand random writes on four sessions, devices swapped among them: each is done or refused for a reason."""
    chance = random.Random(11)
    names = [f"session-{number}" for number in range(4)]
    devices = [f"device-{number}" for number in range(4)]
    for name in names:
        await repository.create(new_session(name))
    outcomes = Counter[str]()

    def a_write() -> Awaitable[object]:
        name = chance.choice(names)
        reference = ByName(name)
        writes: list[Callable[[], Awaitable[object]]] = [
            lambda: repository.create(new_session(name)),
            lambda: repository.delete(reference),
            lambda: repository.change_status(reference, transitions.disconnect),
            lambda: repository.change_status(reference, transitions.connect),
            lambda: repository.put_qr(reference, "code", 60.0),
            lambda: repository.put_credential(reference, chance.choice(devices)),
            lambda: repository.remove_credential(reference),
            lambda: repository.update(reference, SessionChanges(name=chance.choice(names))),
        ]
        return chance.choice(writes)()

    async def writer() -> None:
        for _ in range(50):
            try:
                await a_write()
            except Unavailable:
                outcomes["unavailable"] += 1
            except DomainError:
                outcomes["refused"] += 1
            else:
                outcomes["done"] += 1

    await asyncio.gather(*(writer() for _ in range(20)))

    assert await psql.fetchval("SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()") == 0
    assert outcomes["unavailable"] == 0
    assert outcomes.total() == 1000
    counts = {await psql.fetchval(f"SELECT count(*) FROM {table}") for table in TABLES}
    assert len(counts) == 1


async def test_nobody_deadlocks_when_sessions_swap_their_names(
    repository: PostgresSessionRepository, psql: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    """Four thousand renames, removals and creations among four names: each is done or refused for a reason."""
    chance = random.Random(1)
    names = [f"session-{number}" for number in range(4)]
    outcomes = Counter[str]()

    def a_write() -> Awaitable[object]:
        name = chance.choice(names)
        writes: list[Callable[[], Awaitable[object]]] = [
            lambda: repository.create(new_session(name)),
            lambda: repository.delete(ByName(name)),
            lambda: repository.update(ByName(name), SessionChanges(name=chance.choice(names))),
        ]
        return chance.choice(writes)()

    async def writer() -> None:
        for _ in range(200):
            try:
                await a_write()
            except DomainError as error:
                outcomes[type(error).__name__] += 1
            else:
                outcomes["done"] += 1

    await asyncio.gather(*(writer() for _ in range(20)))

    assert await psql.fetchval("SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()") == 0
    assert outcomes.keys() <= {"done", "SessionNameTaken", "ApiKeyTaken", "SessionNotFound"}
    assert outcomes["done"] > 100


async def test_silence_is_recorded_as_readers_have_seen_it(
    repository: PostgresSessionRepository, database: Database, psql: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    """The sweep writes what was read at the moment itself, once, and leaves what still holds."""
    promises = PostgresOverduePromises(database=database)
    ended = await repository.create(new_session("ended"))
    holds = await repository.create(new_session("holds"))
    for made, seconds in ((ended, 0.001), (holds, 60)):
        await repository.change_status(ById(made.session.id), transitions.report(SessionStatus.ERROR, "x", seconds))
    before = await repository.find(ById(ended.session.id), ALL)
    assert before is not None
    await asyncio.sleep(0.01)

    counts = [await promises.record_silence(limit=10), await promises.record_silence(limit=10)]

    after = await repository.find(ById(ended.session.id), ALL)
    assert after is not None
    assert counts == [1, 0]
    expected = before.status.at(before.status.valid_until or datetime.min.replace(tzinfo=UTC))
    assert after.status == replace(expected, is_overdue=False, version=after.status.version)
    assert after.status.version > before.status.version
    lines = await psql.fetch("SELECT entity, key, version FROM change_log ORDER BY txid DESC, seq DESC LIMIT 1")
    assert [tuple(line) for line in lines] == [("status", str(ended.session.id), after.status.version)]


async def test_silence_is_not_recorded_while_somebody_writes_the_session(
    repository: PostgresSessionRepository, database: Database, psql: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    """The sweep waits for nobody, and does not overwrite a report that comes at the last moment."""
    promises = PostgresOverduePromises(database=database)
    made = await repository.create(new_session("late"))
    await repository.change_status(ById(made.session.id), transitions.report(SessionStatus.ERROR, None, 0.001))
    await asyncio.sleep(0.01)

    async with psql.transaction():
        await psql.execute("SELECT FROM sessions FOR NO KEY UPDATE")
        assert await promises.record_silence(limit=10) == 0
        await psql.execute("UPDATE session_status SET valid_until = clock_timestamp() + interval '1 minute'")

    assert await promises.record_silence(limit=10) == 0


async def test_a_promise_ends_when_somebody_changes_the_status_without_a_word_of_it(
    repository: PostgresSessionRepository, psql: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    """A promise is of the status that it was made with, whoever writes: psql, an earlier release."""
    made = await repository.create(new_session("changed"))
    await repository.change_status(ById(made.session.id), transitions.report(SessionStatus.ERROR, None, 60))

    await psql.execute("UPDATE session_status SET reason = 'still the same status'")
    kept = await psql.fetchval("SELECT valid_until FROM session_status")
    await psql.execute("UPDATE session_status SET status = 'disconnected'")
    ended = await psql.fetchval("SELECT valid_until FROM session_status")

    assert kept is not None
    assert ended is None
