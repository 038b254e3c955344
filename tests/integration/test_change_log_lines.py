"""Whoever writes, and however: the log has a line for each record and look-up that changed, and NOTIFY says it too."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from uuid import UUID

import pytest

from tests.integration.change_log_bench import Connection, Listener, connected, parse
from zpmeow.domain.changes import Change
from zpmeow.domain.ports import NewSession
from zpmeow.domain.references import ById
from zpmeow.postgres.control_store import PostgresControlStore
from zpmeow.postgres.database import Database
from zpmeow.postgres.migrations import migrate
from zpmeow.postgres.session_repository import PostgresSessionRepository

Write = Callable[[Connection], Awaitable[object]]

A, B, C = (str(UUID(int=0xA0 + number)) for number in range(3))
NEW = str(UUID(int=0xF0))
ENTITIES = {"session": "sessions", "status": "session_status", "qr": "session_qr", "credential": "session_credential"}
MAX_PAYLOAD_BYTES = 8_000
MANY = 10_000


@pytest.fixture
async def psql(database_url: str) -> AsyncIterator[Connection]:
    """A foreign writer, in a database with three sessions; the third has no other rows (it came by replication)."""
    await migrate(url=database_url)
    async with connected(database_url) as connection:
        await connection.execute(f"""
            INSERT INTO sessions (id, name, key_hash)
            VALUES ('{A}', 'alpha', sha256('alpha')), ('{B}', 'beta', sha256('beta'));
            SET session_replication_role = replica;
            INSERT INTO sessions (id, name, key_hash) VALUES ('{C}', 'gamma', sha256('gamma'));
            SET session_replication_role = origin;
        """)
        yield connection


@pytest.fixture
async def listener(psql: Connection, database_url: str) -> AsyncIterator[Listener]:
    """Someone who hears what is written from now on."""
    async with Listener.listening(database_url) as listener:
        yield listener


def told(heard: Iterable[str]) -> set[Change]:
    """Return what was told to be outdated; that there is a command for engines makes nothing outdated."""
    return {change for payload in heard for change in parse(payload) if change.entity != "command"}


class Rows:
    """All that may be cached: versions of records by entity and id, and which look-ups lead where."""

    def __init__(self) -> None:
        """Begin empty."""
        self.versions: dict[tuple[str, str], int] = {}
        self.look_ups: dict[tuple[str, str], str] = {}

    @classmethod
    async def read(cls, psql: Connection) -> "Rows":
        """Read what is there now."""
        rows = cls()
        for entity, table in ENTITIES.items():
            key = "id" if entity == "session" else "session_id"
            for row in await psql.fetch(f"SELECT {key} AS key, version FROM {table}"):
                rows.versions[entity, str(row["key"])] = row["version"]
        for row in await psql.fetch("SELECT id, name, encode(key_hash, 'hex') AS digits FROM sessions"):
            rows.look_ups["name", row["name"]] = rows.look_ups["key", row["digits"]] = str(row["id"])
        return rows


async def new_lines(psql: Connection, after: int) -> list[Change]:
    """Read the lines beyond a sequence number, in the order of their writing."""
    rows = await psql.fetch("SELECT entity, key, version FROM change_log WHERE seq > $1 ORDER BY seq", after)
    return [Change(**row) for row in rows]


async def last_seq(psql: Connection) -> int:
    """Return the newest line's sequence number."""
    seq: int = await psql.fetchval("SELECT max(seq) FROM change_log")
    return seq


def sql(*statements: str) -> Write:
    """Run the statements as one transaction."""

    async def write(psql: Connection) -> None:
        async with psql.transaction():
            for statement in statements:
                await psql.execute(statement)

    return write


def replica(*statements: str) -> Write:
    """Run the statements as logical replication applies them."""
    return sql("SET LOCAL session_replication_role = replica", *statements)


async def copy(psql: Connection) -> None:
    """COPY two sessions."""
    records = [(UUID(NEW), "copied", b"c" * 32), (UUID(int=0xF1), "copied-too", b"d" * 32)]
    await psql.copy_records_to_table("sessions", records=records, columns=["id", "name", "key_hash"])


INSERT_NEW = f"INSERT INTO sessions (id, name, key_hash) VALUES ('{NEW}', 'new-one', sha256('new'))"
INSERT_MANY = f"""
    INSERT INTO sessions (name, key_hash)
    SELECT 'many-' || number, sha256(('many-' || number)::bytea) FROM generate_series(1, {MANY}) AS number
"""
WRITES: dict[str, Write] = {
    "insert": sql(INSERT_NEW),
    "rename": sql(f"UPDATE sessions SET name = 'other' WHERE id = '{A}'"),
    "key rotation": sql(f"UPDATE sessions SET key_hash = sha256('other') WHERE id = '{A}'"),
    "rename and rotation": sql(f"UPDATE sessions SET name = 'other', key_hash = sha256('o') WHERE id = '{A}'"),
    "rename of one row of several": sql("UPDATE sessions SET name = CASE name WHEN 'beta' THEN 'bet' ELSE name END"),
    "webhook": sql(f"UPDATE sessions SET webhook_url = 'x', webhook_events = '{{}}' WHERE id = '{A}'"),
    "no-op update": sql("UPDATE sessions SET name = name", "UPDATE session_qr SET code = code"),
    "update of nothing": sql("UPDATE sessions SET name = 'x-x' WHERE false", "DELETE FROM sessions WHERE false"),
    "status": sql("UPDATE session_status SET status = 'connecting'"),
    "qr": sql(f"UPDATE session_qr SET code = 'c', expires_at = now() WHERE session_id = '{A}'"),
    "credential": sql(f"UPDATE session_credential SET device_jid = 'd', paired_at = now() WHERE session_id = '{A}'"),
    "the same row twice": sql("UPDATE session_qr SET code = code", "UPDATE session_qr SET code = code"),
    "delete": sql(f"DELETE FROM sessions WHERE id = '{A}'"),
    "delete of all": sql("DELETE FROM sessions"),
    "delete and insert of one id": sql(
        f"DELETE FROM sessions WHERE id = '{A}'",
        f"INSERT INTO sessions (id, name, key_hash) VALUES ('{A}', 'again', sha256('again'))",
    ),
    "swap of names": sql(
        f"UPDATE sessions SET name = 'for-a-while' WHERE id = '{A}'",
        f"UPDATE sessions SET name = 'alpha' WHERE id = '{B}'",
        f"UPDATE sessions SET name = 'beta' WHERE id = '{A}'",
    ),
    "a session's primary key": sql(f"UPDATE sessions SET id = '{NEW}' WHERE id = '{C}'"),
    "a record's primary key": sql(f"UPDATE session_qr SET session_id = '{C}' WHERE session_id = '{A}'"),
    "primary keys passed on": sql(
        f"UPDATE session_qr SET session_id = '{C}' WHERE session_id = '{A}'",
        f"UPDATE session_qr SET session_id = '{A}' WHERE session_id = '{B}'",
    ),
    "upsert that inserts": sql(f"{INSERT_NEW} ON CONFLICT (name) DO UPDATE SET webhook_url = NULL"),
    "upsert that updates": sql(
        f"INSERT INTO sessions (id, name, key_hash) VALUES ('{NEW}', 'alpha', sha256('x')) "
        "ON CONFLICT (name) DO UPDATE SET key_hash = excluded.key_hash"
    ),
    "upsert of both kinds": sql(
        f"INSERT INTO sessions (id, name, key_hash) VALUES ('{NEW}', 'alpha', sha256('x')), "
        f"('{UUID(int=0xF1)}', 'new-two', sha256('y')) ON CONFLICT (name) DO UPDATE SET name = 'renamed'"
    ),
    "upsert that does nothing": sql(
        "INSERT INTO sessions (name, key_hash) VALUES ('alpha', sha256('x')) ON CONFLICT DO NOTHING"
    ),
    "merge": sql(f"""
        MERGE INTO sessions AS s
        USING (VALUES ('alpha', 'rotate'), ('beta', 'drop'), ('delta', 'make')) AS wish (name, what)
        ON s.name = wish.name
        WHEN MATCHED AND what = 'drop' THEN DELETE
        WHEN MATCHED THEN UPDATE SET key_hash = sha256('rotated')
        WHEN NOT MATCHED THEN INSERT (id, name, key_hash) VALUES ('{NEW}', wish.name, sha256('made'))
    """),
    "copy": copy,
    "parts that write several tables": sql(f"""
        WITH made AS ({INSERT_NEW} RETURNING id),
            status AS (INSERT INTO session_status (session_id) SELECT id FROM made),
            qr AS (UPDATE session_qr SET code = 'c', expires_at = now() WHERE session_id = '{A}'),
            credential AS (UPDATE session_credential SET device_jid = 'd', paired_at = now() WHERE session_id = '{B}')
        UPDATE sessions SET name = 'other' WHERE id = '{B}'
    """),
    "parts that write one table": sql(f"""
        WITH one AS (UPDATE session_qr SET code = 'c', expires_at = now() WHERE session_id = '{A}'),
            removed AS (DELETE FROM sessions WHERE id = '{C}')
        UPDATE session_qr SET code = 'd', expires_at = now() WHERE session_id = '{B}'
    """),
    "savepoint rolled back": sql(
        "UPDATE session_status SET reason = 'kept'",
        "SAVEPOINT here",
        f"DELETE FROM sessions WHERE id = '{A}'",
        "UPDATE session_qr SET code = 'gone', expires_at = now()",
        "ROLLBACK TO here",
        f"UPDATE sessions SET name = 'kept' WHERE id = '{B}'",
    ),
    "all rolled back": sql("SAVEPOINT here", "DELETE FROM sessions", INSERT_NEW, "ROLLBACK TO here"),
    "lock": sql("SELECT FROM sessions FOR UPDATE"),
    "many inserted": sql(INSERT_MANY),
    "many updated": sql(INSERT_MANY, "UPDATE session_status SET reason = 'many'", "UPDATE sessions SET name = name"),
    "replica: insert": replica(INSERT_NEW),
    "replica: rename": replica(f"UPDATE sessions SET name = 'other' WHERE id = '{A}'"),
    "replica: records": replica("UPDATE session_status SET reason = 'x'", "UPDATE session_qr SET code = code"),
    "replica: delete": replica(f"DELETE FROM session_qr WHERE session_id = '{A}'", "DELETE FROM sessions"),
    "replica: a session's primary key": replica(f"UPDATE sessions SET id = '{NEW}' WHERE id = '{A}'"),
    "replica: a record's primary key": replica(f"UPDATE session_qr SET session_id = '{NEW}' WHERE session_id = '{A}'"),
}


@pytest.mark.parametrize("way", WRITES)
async def test_every_change_has_its_line_when_somebody_writes(psql: Connection, listener: Listener, way: str) -> None:
    """Each record's newest line has its row's version, or one above all it had; look-ups that moved have a line too."""
    before, seq = await Rows.read(psql), await last_seq(psql)

    await WRITES[way](psql)

    after, lines = await Rows.read(psql), await new_lines(psql, seq)
    newest = {(line.entity, line.key): line.version for line in sorted(lines, key=lambda line: line.version)}
    records = {key: version for key, version in newest.items() if key[0] in ENTITIES}
    changed = {key: version for key, version in after.versions.items() if before.versions.get(key) != version}
    removed = before.versions.keys() - after.versions.keys()
    assert records.keys() == changed.keys() | removed
    assert {key: records[key] for key in changed} == changed
    assert all(records[key] > before.versions[key] for key in removed)
    moved = dict(before.look_ups.items() ^ after.look_ups.items()).keys()
    look_ups = newest.keys() - records.keys()
    assert moved <= look_ups
    if way not in {"swap of names", "merge"} and not way.startswith("replica"):
        assert moved == look_ups
    heard = await listener.heard()
    assert told(heard) == set(lines)
    assert max((len(payload) for payload in heard), default=0) < MAX_PAYLOAD_BYTES


async def test_one_statement_leaves_one_line_a_record_when_it_touches_many_rows(psql: Connection) -> None:
    """Ten thousand rows are ten thousand lines, not more, and their notifications are few."""
    await psql.execute(INSERT_MANY)
    seq = await last_seq(psql)

    await psql.execute("UPDATE session_qr SET code = code")

    assert len(await new_lines(psql, seq)) == MANY + 2


async def test_payload_fits_when_keys_and_versions_are_as_long_as_they_get(
    psql: Connection, listener: Listener
) -> None:
    """Eighty keys of 64 digits with versions of 19 digits stay below the limit of a notification."""
    await psql.execute("SELECT setval('record_version', 9000000000000000000)")

    await psql.execute("""
        INSERT INTO sessions (name, key_hash)
        SELECT rpad('n' || number, 50, 'n'), sha256(number::text::bytea) FROM generate_series(1, 500) AS number
    """)

    heard = await listener.heard()
    assert sum(len(parse(payload)) for payload in heard) == 500 * 6
    assert max(map(len, heard)) < MAX_PAYLOAD_BYTES


async def test_line_is_of_its_transaction_when_savepoints_are_within(psql: Connection) -> None:
    """Lines carry the whole transaction's number: a savepoint's own is in no snapshot."""
    seq = await last_seq(psql)
    async with psql.transaction():
        txid = await psql.fetchval("SELECT pg_current_xact_id()")
        async with psql.transaction():
            await psql.execute("UPDATE session_qr SET code = code")
        await psql.execute("UPDATE session_status SET reason = 'x'")

    assert {row["txid"] for row in await psql.fetch("SELECT txid FROM change_log WHERE seq > $1", seq)} == {txid}


async def test_lines_have_nonces_of_their_own_when_one_statement_writes_them(psql: Connection) -> None:
    """What makes a line unlike that of another future is drawn for each."""
    await psql.execute("UPDATE session_status SET reason = 'x'")

    assert await psql.fetchval("SELECT count(DISTINCT nonce) = count(*) FROM change_log")


@pytest.mark.parametrize(
    ("statement", "wish", "got"),
    [
        ("UPDATE session_qr SET code = code", "off", "on"),
        ("UPDATE session_qr SET code = code", "remote_write", "on"),
        ("UPDATE session_qr SET code = code", "remote_apply", "remote_apply"),
        ("DELETE FROM sessions", "local", "on"),
        ("DELETE FROM sessions", "remote_apply", "remote_apply"),
        ("TRUNCATE session_qr", "off", "on"),
        ("UPDATE control_settings SET cache_mode = 'bypass'", "off", "on"),
    ],
)
async def test_commit_waits_for_the_disk_when_a_line_was_written(
    psql: Connection, statement: str, wish: str, got: str
) -> None:
    """No line that was read is lost by a crash; who wants to wait for a standby, too, does."""
    await psql.execute(f"SET synchronous_commit = {wish}")

    async with psql.transaction():
        await psql.execute(statement)
        within = await psql.fetchval("SHOW synchronous_commit")

    assert within == got


@pytest.mark.parametrize("role", ["origin", "replica"])
@pytest.mark.parametrize("table", [*ENTITIES.values(), "change_log"])
async def test_epoch_is_in_the_log_when_a_table_is_truncated(
    psql: Connection, listener: Listener, database_url: str, table: str, role: str
) -> None:
    """Rows that went without a line make everything void: the log and the feed say so."""
    before = await psql.fetchval("SELECT epoch FROM control_settings")
    seq = await last_seq(psql)
    await psql.execute(f"SET session_replication_role = {role}")

    await psql.execute(f"TRUNCATE {table} CASCADE")

    epoch = await psql.fetchval("SELECT epoch FROM control_settings")
    lines = await new_lines(psql, seq)
    assert epoch != before
    assert Change(entity="epoch", key=epoch.hex(), version=0) in lines
    assert {change for payload in await listener.heard() for change in parse(payload)} == set(lines)


async def test_epoch_begins_with_what_loads_of_it_see_when_it_is_raised(psql: Connection, database_url: str) -> None:
    """A transaction that was open then is not among what the epoch begins with; one that was over is."""
    async with connected(database_url) as other:
        open_transaction = other.transaction()
        await open_transaction.start()
        await other.execute("UPDATE session_qr SET code = code")
        running = await other.fetchval("SELECT pg_current_xact_id()")
        await psql.execute("UPDATE session_status SET reason = 'x'")
        done = await psql.fetchval("SELECT max(txid) FROM change_log")

        await psql.execute("UPDATE control_settings SET epoch = uuid_send(gen_random_uuid())")

        seen = "SELECT pg_visible_in_snapshot($1::text::xid8, epoch_snapshot) FROM control_settings"
        assert not await psql.fetchval(seen, str(running))
        assert await psql.fetchval(seen, str(done))
        await open_transaction.rollback()


async def test_epoch_keeps_its_beginning_when_the_mode_is_changed(psql: Connection, listener: Listener) -> None:
    """A switch of the mode is told at once, without a line: it makes nothing outdated."""
    before = await psql.fetchrow("SELECT epoch, epoch_snapshot FROM control_settings")
    seq = await last_seq(psql)

    await psql.execute("UPDATE control_settings SET cache_mode = 'bypass'")

    assert await psql.fetchrow("SELECT epoch, epoch_snapshot FROM control_settings") == before
    assert await new_lines(psql, seq) == []
    assert await listener.heard() == ["mode:bypass:0"]


async def test_epoch_is_told_when_control_settings_were_emptied(
    psql: Connection, listener: Listener, database_url: str
) -> None:
    """The first reading fills the table again, and the new epoch is in log and feed."""
    await psql.execute("DELETE FROM control_settings")
    seq = await last_seq(psql)
    database = await Database.open(url=database_url, pool_size=2, timeout_seconds=10.0)
    try:
        state = await PostgresControlStore(database=database).read()
    finally:
        await database.close()

    assert await new_lines(psql, seq) == [Change(entity="epoch", key=state.epoch.hex(), version=0)]
    assert await listener.heard() == [f"epoch:{state.epoch.hex()}:0"]


async def test_lines_are_those_of_the_records_answered_when_our_own_code_writes(
    psql: Connection, database_url: str
) -> None:
    """The versions that the repository answers with are those of the lines, the removal's among them."""
    database = await Database.open(url=database_url, pool_size=2, timeout_seconds=10.0)
    repository = PostgresSessionRepository(database=database)
    seq = await last_seq(psql)
    try:
        made = await repository.create(NewSession(name="our-own", key_hash=b"k" * 32))
        made_lines = await new_lines(psql, seq)
        seq = await last_seq(psql)
        paired = await repository.put_credential(ById(made.session.id), "device")
        paired_lines = await new_lines(psql, seq)
        seq = await last_seq(psql)
        removal = await repository.delete(ById(made.session.id))
        removed_lines = await new_lines(psql, seq)
    finally:
        await database.close()

    key = str(made.session.id)
    assert {(line.entity, line.version) for line in made_lines if line.key == key} == {
        (entity.value, record.version) for entity, record in made.records.items()
    }
    assert paired_lines == [Change(entity="credential", key=key, version=paired.credential.version)]
    assert {line.entity for line in removed_lines if line.key == key} == set(ENTITIES)
    # Whoever takes the removal's version over must not be overtaken by a line of less.
    assert removal.version > max(made.versions)


async def test_writers_see_no_error_when_they_know_nothing_of_our_schema(psql: Connection) -> None:
    """Logical replication applies changes with an empty search_path."""
    await psql.execute("SET search_path = ''")

    for role in ("origin", "replica"):
        await psql.execute(f"SET session_replication_role = {role}")
        await psql.execute(f"INSERT INTO public.sessions (name, key_hash) VALUES ('{role}', sha256('{role}'))")
        await psql.execute("UPDATE public.session_status SET reason = 'because'")
        await psql.execute("DELETE FROM public.change_log WHERE entity = 'status'")
        await psql.execute("DELETE FROM public.sessions")
        await psql.execute("TRUNCATE public.change_log")
