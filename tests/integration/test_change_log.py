"""The log read by snapshots: nothing is missed, whoever writes and whatever is open; who leads; what is pruned."""

import asyncio
import contextlib
import itertools
import os
import random
import signal
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import asyncpg
import pytest

from tests.integration.change_log_bench import (
    EVERYTHING,
    GUARD_SECONDS,
    INSERT,
    Connection,
    connected,
    opened_log,
    read_new,
)
from tests.servers.postgres_server import PostgresServer
from zpmeow.domain.changes import LogReader, LogSnapshot
from zpmeow.domain.errors import DatabaseUnavailable
from zpmeow.postgres import statements
from zpmeow.postgres.change_log import PostgresChangeLog

WRITERS = 20
WILD_SECONDS = 6.0
TAKE_OVER_SECONDS = 2.5
"""The promise is two seconds; the rest is a busy machine's."""

TAMER_STATEMENTS = [
    "UPDATE session_status SET reason = 'x' WHERE session_id = $1",
    "UPDATE session_qr SET code = code WHERE session_id = $1",
    "UPDATE session_credential SET device_jid = NULL, paired_at = NULL WHERE session_id = $1",
    "UPDATE sessions SET updated_at = now() WHERE id = $1",
]


@pytest.fixture
async def log(database_url: str) -> AsyncIterator[PostgresChangeLog]:
    """The log of a database of this test's own."""
    async with opened_log(database_url) as log:
        yield log


@pytest.fixture
async def psql(log: PostgresChangeLog, database_url: str) -> AsyncIterator[Connection]:
    """A foreign writer."""
    async with connected(database_url) as connection:
        yield connection


@dataclass
class Follower:
    """Reads the log by snapshots for ever, and counts what it saw."""

    reader: LogReader
    snapshot: LogSnapshot
    seen: Counter[int] = field(default_factory=Counter)

    async def read(self) -> None:
        """Read what is new."""
        lines, self.snapshot = await read_new(self.reader, self.snapshot)
        self.seen.update(line.seq for line in lines)


async def write_wildly(
    url: str, ids: list[object], chance: random.Random, until: float, outcomes: Counter[str]
) -> None:
    """Write transactions of one to ten statements, with savepoints and rollbacks, in an order that deadlocks."""
    async with connected(url) as connection:
        await connection.execute("SET deadlock_timeout = '20ms'")
        while time.monotonic() < until:
            transaction = connection.transaction()
            await transaction.start()
            try:
                for _ in range(chance.randint(1, 10)):
                    await write_once(connection, chance.choice(ids), chance)
            except asyncpg.DeadlockDetectedError:
                await transaction.rollback()
                outcomes["deadlock"] += 1
                continue
            if chance.random() < 0.25:
                await transaction.rollback()
                outcomes["rollback"] += 1
            else:
                await transaction.commit()
                outcomes["commit"] += 1


async def write_once(connection: Connection, session_id: object, chance: random.Random) -> None:
    """Write one statement, or one within a savepoint that may be rolled back."""
    statement = chance.choice(TAMER_STATEMENTS)
    if chance.random() < 0.7:
        await connection.execute(statement, session_id)
        return
    savepoint = connection.transaction()
    await savepoint.start()
    await connection.execute(statement, session_id)
    await (savepoint.rollback() if chance.random() < 0.5 else savepoint.commit())


async def be_busy(url: str, until: float) -> None:
    """Write to some table of another database."""
    async with connected(url) as connection:
        await connection.execute("CREATE TABLE IF NOT EXISTS busy (number int)")
        while time.monotonic() < until:
            await connection.execute("INSERT INTO busy VALUES (1)")


async def test_every_line_is_read_once_when_many_write_wildly(
    log: PostgresChangeLog, psql: Connection, database_url: str, postgres_server: PostgresServer
) -> None:
    """What became visible since the last snapshot is all that became visible; by sequence numbers some would be missed.

    A foreign transaction is open all the time, and nothing waits for it.
    """
    chance = random.Random(7)
    ids = [await psql.fetchval(INSERT, f"session-{number}") for number in range(60)]
    await psql.execute("TRUNCATE change_log")
    elsewhere = f"{database_url.rsplit('/', 1)[1]}_b"
    other_url = postgres_server.create_database(elsewhere)
    outcomes = Counter[str]()
    by_number, last = Counter[int](), 0
    try:
        async with connected(other_url) as foreigner, log.lead() as reader:
            open_transaction = foreigner.transaction()
            await open_transaction.start()
            foreign_txid = await foreigner.fetchval("SELECT pg_current_xact_id()")
            follower = Follower(reader, EVERYTHING)
            until = time.monotonic() + WILD_SECONDS
            wild = [random.Random(chance.random()) for _ in range(WRITERS)]
            writers = [write_wildly(database_url, ids, each, until, outcomes) for each in wild]
            work = asyncio.gather(*writers, be_busy(other_url, until))
            while not work.done():
                await follower.read()
                for row in await psql.fetch("SELECT seq FROM change_log WHERE seq > $1 ORDER BY seq", last):
                    last = row["seq"]
                    by_number[last] += 1
            await work
            await follower.read()
            committed = {row["seq"] for row in await psql.fetch("SELECT seq FROM change_log")}
            assert foreign_txid in follower.snapshot[2]
            await open_transaction.rollback()
    finally:
        postgres_server.drop_database(elsewhere)

    assert set(follower.seen) == committed
    assert set(follower.seen.values()) == {1}
    assert committed - by_number.keys(), "the control missed nothing: make the writers wilder"
    assert min(outcomes["commit"], outcomes["rollback"], outcomes["deadlock"]) > 0


async def test_line_is_read_at_once_when_an_older_transaction_is_open(
    log: PostgresChangeLog, psql: Connection, database_url: str
) -> None:
    """Nobody's open transaction holds up another's line; its own line comes when it commits."""
    session_id = await psql.fetchval(INSERT, "alpha")
    async with connected(database_url) as slow, log.lead() as reader:
        _, snapshot = await read_new(reader, EVERYTHING)
        transaction = slow.transaction()
        await transaction.start()
        await slow.execute("UPDATE session_qr SET code = code")

        await psql.execute("UPDATE session_status SET reason = 'x'")
        at_once, snapshot = await read_new(reader, snapshot)
        await transaction.commit()
        later, snapshot = await read_new(reader, snapshot)
        at_last, _ = await read_new(reader, snapshot)

    assert [(line.change.entity, line.change.key) for line in at_once] == [("status", str(session_id))]
    assert [(line.change.entity, line.change.key) for line in later] == [("qr", str(session_id))]
    assert at_last == []


async def test_line_is_read_at_once_when_a_prepared_transaction_was_forgotten(own_postgres: PostgresServer) -> None:
    """A transaction whose second phase never comes holds up nothing, whoever forgot it."""
    own_postgres.execute("ALTER SYSTEM SET max_prepared_transactions = 2")
    await asyncio.to_thread(own_postgres.restart)
    async with opened_log(own_postgres.url) as log, connected(own_postgres.url) as psql, log.lead() as reader:
        await psql.execute("BEGIN; CREATE TABLE half (number int); PREPARE TRANSACTION 'half'")
        _, snapshot = await read_new(reader, EVERYTHING)

        await psql.fetchval(INSERT, "alpha")
        lines, snapshot = await read_new(reader, snapshot)

        assert "alpha" in {line.change.key for line in lines}
        assert (await read_new(reader, snapshot))[0] == []


async def test_order_is_that_of_numbers_when_transactions_get_more_digits(
    log: PostgresChangeLog, psql: Connection
) -> None:
    """Pages go on behind 9 with 10 and behind 99 with 100, though "100" < "99" as text."""
    await psql.execute("DELETE FROM change_log")
    txids = [9, 10, 99, 100, 101]  # All of them past: a new server has had some hundreds.
    await psql.executemany(
        "INSERT INTO change_log (txid, entity, key, version) VALUES ($1, 'name', 'x', 1)", [(txid,) for txid in txids]
    )

    async with log.lead() as reader:
        lines, _ = await read_new(reader, (1, 1, ()), limit=2)
        tail, _ = await read_new(reader, (9, 100, (9, 99)), limit=2)

    assert [line.txid for line in lines] == txids
    assert [line.txid for line in tail] == [9, 99, 100, 101]


async def test_lines_are_read_once_when_transactions_get_more_digits_meanwhile(own_postgres: PostgresServer) -> None:
    """A reader that follows from 990 to 1010 misses nothing and reads nothing twice."""
    async with opened_log(own_postgres.url) as log, connected(own_postgres.url) as psql, log.lead() as reader:
        session_id = await psql.fetchval(INSERT, "alpha")
        while await psql.fetchval("SELECT pg_current_xact_id()") < 990:
            continue
        follower = Follower(reader, (await read_new(reader, EVERYTHING))[1])
        first = await psql.fetchval("SELECT max(seq) FROM change_log")

        for _ in range(20):
            await psql.execute(TAMER_STATEMENTS[0], session_id)
            await follower.read()

        written = await psql.fetch("SELECT txid, seq FROM change_log WHERE seq > $1", first)
    assert min(row["txid"] for row in written) < 1000 < max(row["txid"] for row in written)
    assert follower.seen == Counter(row["seq"] for row in written)


async def test_pages_hold_everything_when_lines_are_many_and_commits_come_in_between(
    log: PostgresChangeLog, psql: Connection, database_url: str
) -> None:
    """Small pages of thousands of lines lose none, not even of a commit before the place that was reached."""
    async with connected(database_url) as slow, log.lead() as reader:
        transaction = slow.transaction()
        await transaction.start()
        await slow.execute(INSERT, "slow")
        await psql.execute("""
            INSERT INTO sessions (name, key_hash)
            SELECT 'many-' || number, sha256(number::text::bytea) FROM generate_series(1, 300) AS number
        """)
        first = page = await reader.read(EVERYTHING, limit=7)
        seen = Counter((line.txid, line.seq) for line in page.lines)
        sizes = [len(page.lines)]
        for number in itertools.count():
            if page.is_last:
                break
            if number == 100:
                await transaction.commit()
                await psql.execute("UPDATE session_status SET reason = 'behind'")
            page = await reader.read(EVERYTHING, limit=7, from_line=(page.lines[-1].txid, page.lines[-1].seq))
            seen.update((line.txid, line.seq) for line in page.lines)
            sizes.append(len(page.lines))

        rest, _ = await read_new(reader, first.snapshot, limit=7)

        seen.update((line.txid, line.seq) for line in rest)
        committed = {(row["txid"], row["seq"]) for row in await psql.fetch("SELECT txid, seq FROM change_log")}
    assert set(seen) == committed
    assert len(committed) > 1800
    assert set(sizes[:-1]) == {7}
    assert "slow" in {line.change.key for line in rest}


async def test_page_tells_the_moment_when_there_is_nothing_to_read(log: PostgresChangeLog, psql: Connection) -> None:
    """An empty page is the last one, and its snapshot is not from before the one it was asked with."""
    async with log.lead() as reader:
        _, snapshot = await read_new(reader, EVERYTHING)
        before = await psql.fetchval("SELECT clock_timestamp()")

        page = await reader.read(snapshot, limit=7)

    assert (list(page.lines), page.is_last) == ([], True)
    assert page.snapshot >= snapshot
    assert page.read_at > before


async def make_old(psql: Connection, seconds: int) -> None:
    """Let all lines be that much older."""
    await psql.execute(f"UPDATE change_log SET at = at - interval '{seconds} seconds'")


async def count_lines(psql: Connection) -> int:
    """Count the lines that are left."""
    count: int = await psql.fetchval("SELECT count(*) FROM change_log")
    return count


async def test_prune_removes_what_is_old_when_there_is_younger(log: PostgresChangeLog, psql: Connection) -> None:
    """Lines past the retention go, younger ones stay, and state and page tell up to where some may be missing."""
    for number in range(3):
        await psql.fetchval(INSERT, f"session-{number}")
    await make_old(psql, 100)
    old = {row["seq"]: row["txid"] for row in await psql.fetch("SELECT txid, seq FROM change_log")}
    await psql.execute("UPDATE session_status SET reason = 'young'")

    removed = await log.prune(older_than_seconds=90)

    async with log.lead() as reader:
        state = await reader.state()
        page = await reader.read(EVERYTHING, limit=1000)
    assert [line.change.entity for line in page.lines][-3:] == ["status"] * 3
    gone = old.keys() - {line.seq for line in page.lines}
    # One of the old ones may stay: the newest of them is what a position may still be recognised by.
    assert len(old) - 1 <= removed == len(gone) <= len(old)
    assert state.pruned_txid == page.pruned_txid == max(old[seq] for seq in gone)
    assert await log.prune(older_than_seconds=90) == 0


async def test_prune_keeps_the_newest_line_when_all_are_old(log: PostgresChangeLog, psql: Connection) -> None:
    """A log is never empty: its newest line is what a position is recognised by."""
    await psql.fetchval(INSERT, "alpha")
    await make_old(psql, 100)
    newest = await psql.fetchrow("SELECT txid, seq, nonce FROM change_log ORDER BY txid DESC, seq DESC LIMIT 1")

    while await log.prune(older_than_seconds=90):
        continue

    async with log.lead() as reader:
        state = await reader.state()
        assert newest is not None
        assert state.newest == (newest["txid"], newest["seq"], newest["nonce"].hex)
        assert state.newest is not None
        assert await reader.has_line(*state.newest)


async def test_prune_stops_before_an_open_transaction_when_there_is_one(
    log: PostgresChangeLog, psql: Connection, postgres_server: PostgresServer
) -> None:
    """Lines that came after somebody's open transaction stay: the bound never passes what may still be written."""
    await psql.fetchval(INSERT, "before")
    async with connected(postgres_server.url) as foreigner, foreigner.transaction():
        txid = await foreigner.fetchval("SELECT pg_current_xact_id()")
        await psql.fetchval(INSERT, "after")
        after = await count_lines(psql) - await psql.fetchval("SELECT count(*) FROM change_log WHERE txid < $1", txid)
        await make_old(psql, 100)

        while await log.prune(older_than_seconds=90):
            continue

        assert await count_lines(psql) >= after
        assert await psql.fetchval("SELECT pruned_txid FROM change_log_state") < txid
    assert await log.prune(older_than_seconds=90) > 0


async def test_prune_removes_a_portion_when_there_is_much(log: PostgresChangeLog, psql: Connection) -> None:
    """Nobody waits behind it for long; called again it goes on, and no young line goes."""
    await make_old(psql, 7200)
    await psql.execute("""
        INSERT INTO change_log (entity, key, version, at)
        SELECT 'name', 'old', number, now() - interval '1 hour' FROM generate_series(1, 6000) AS number
    """)
    await psql.fetchval(INSERT, "young")
    young = await psql.fetchval("SELECT count(*) FROM change_log WHERE at > now() - interval '1 minute'")

    first = await log.prune(older_than_seconds=90)
    rest = await log.prune(older_than_seconds=90)

    assert 0 < first < 6000
    assert first + rest in {6000, 6001}  # And the line of the first epoch; the newest old one may stay.
    assert await psql.fetchval("SELECT count(*) FROM change_log WHERE at > now() - interval '1 minute'") == young


async def test_prunings_do_not_disturb_each_other_when_several_processes_prune(
    log: PostgresChangeLog, psql: Connection
) -> None:
    """Each line is removed once, and nobody fails."""
    await make_old(psql, 7200)
    await psql.execute("""
        INSERT INTO change_log (entity, key, version, at)
        SELECT 'name', 'old', number, now() - interval '1 hour' FROM generate_series(1, 4000) AS number
    """)
    await psql.fetchval(INSERT, "young")

    removed = await asyncio.gather(*(log.prune(older_than_seconds=90) for _ in range(4)))

    assert sum(removed) in {4000, 4001}  # As above.


@pytest.mark.parametrize("role", ["origin", "replica"])
async def test_bound_is_told_when_somebody_else_removes_lines(
    log: PostgresChangeLog, psql: Connection, role: str
) -> None:
    """Whoever removes lines: who has not read them learns of it. The bound never goes back."""
    txids = []
    for number in range(3):
        await psql.fetchval(INSERT, f"session-{number}")
        txids.append(await psql.fetchval("SELECT max(txid) FROM change_log"))
    await psql.execute(f"SET session_replication_role = {role}")

    bounds = []
    async with log.lead() as reader:
        for txid in (txids[1], txids[0]):
            await psql.execute("DELETE FROM change_log WHERE txid = $1", txid)
            bounds += [(await reader.state()).pruned_txid, (await reader.read(EVERYTHING, limit=1)).pruned_txid]

    assert bounds == [txids[1]] * 4


async def test_nothing_is_relied_on_when_the_row_of_the_bound_is_missing(
    log: PostgresChangeLog, psql: Connection
) -> None:
    """Without word of what was removed, everything may have been."""
    await psql.execute("DELETE FROM change_log_state")

    async with log.lead() as reader:
        page = await reader.read(EVERYTHING, limit=1)

    assert page.pruned_txid > page.snapshot[0]


async def test_bound_comes_back_when_lines_are_removed_without_its_row(
    log: PostgresChangeLog, psql: Connection
) -> None:
    """The row is made again with the bound that is due."""
    await psql.fetchval(INSERT, "alpha")
    txid = await psql.fetchval("SELECT max(txid) FROM change_log")
    await psql.fetchval(INSERT, "beta")
    await psql.execute("DELETE FROM change_log_state")

    await psql.execute("DELETE FROM change_log WHERE txid = $1", txid)

    assert await psql.fetchval("SELECT pruned_txid FROM change_log_state") == txid


async def test_state_differs_when_the_database_is_another_of_the_cluster(
    log: PostgresChangeLog, postgres_server: PostgresServer, database_url: str
) -> None:
    """Two databases of one server are two; one database read twice is one."""
    name = f"{database_url.rsplit('/', 1)[1]}_b"
    try:
        other_url = postgres_server.create_database(name)
        async with opened_log(other_url) as other, log.lead() as reader, other.lead() as other_reader:
            first, again, second = await reader.state(), await reader.state(), await other_reader.state()
    finally:
        postgres_server.drop_database(name)

    assert first == again
    assert first.database != second.database
    assert first.epoch != second.epoch


async def test_a_line_is_known_by_its_nonce_when_it_is_looked_for(log: PostgresChangeLog, psql: Connection) -> None:
    """The same numbers with another nonce are another line."""
    async with log.lead() as reader:
        newest = (await reader.state()).newest
        assert newest is not None
        txid, seq, nonce = newest

        assert await reader.has_line(txid, seq, nonce)
        assert not await reader.has_line(txid, seq, "0" * 32)
        assert not await reader.has_line(txid + 1, seq, nonce)


async def test_raised_epoch_is_another_and_its_line_is_the_newest(log: PostgresChangeLog, psql: Connection) -> None:
    """Even without its row: the epoch is never one that was used before."""
    async with log.lead() as reader:
        before = await reader.state()
        await reader.raise_epoch()
        raised = await reader.state()
        await psql.execute("DELETE FROM control_settings")
        await reader.raise_epoch()
        restored = await reader.state()

    assert len({before.epoch, raised.epoch, restored.epoch}) == 3
    assert before.newest is not None
    assert raised.newest is not None
    assert restored.newest is not None
    assert before.newest < raised.newest < restored.newest
    assert raised.epoch_snapshot[1] <= raised.newest[0]


class Candidate:
    """Leads as soon as it may, and keeps the lead by asking, until it is told to be frozen."""

    def __init__(self, log: PostgresChangeLog) -> None:
        """Prepare."""
        self.reader: LogReader | None = None
        self.leads = asyncio.Event()
        self.is_frozen = False
        self._log = log
        self.task = asyncio.create_task(self._run())

    async def _run(self) -> None:
        async with self._log.lead() as self.reader:
            self.leads.set()
            while True:
                await asyncio.sleep(0.2)
                if not self.is_frozen:
                    await self.reader.state()


@contextlib.asynccontextmanager
async def candidates(log: PostgresChangeLog, count: int) -> AsyncIterator[list[Candidate]]:
    """Let several want to lead; the first of the list is the one who does."""
    found = [Candidate(log) for _ in range(count)]
    try:
        async with asyncio.timeout(10):
            await asyncio.wait(
                [asyncio.ensure_future(one.leads.wait()) for one in found], return_when=asyncio.FIRST_COMPLETED
            )
        yield sorted(found, key=lambda one: not one.leads.is_set())
    finally:
        for one in found:
            one.task.cancel()
        await asyncio.wait([one.task for one in found])


async def wait_for_another(others: list[Candidate]) -> None:
    """Wait until one of the others leads; fail when the promise is broken."""
    async with asyncio.timeout(TAKE_OVER_SECONDS):
        while not any(one.leads.is_set() for one in others):  # noqa: ASYNC110  (any of them)
            await asyncio.sleep(0.01)


async def relays(psql: Connection) -> list[int]:
    """Return the backends of those who hold the lock of this database's log."""
    rows = await psql.fetch("""
        SELECT a.pid FROM pg_stat_activity AS a JOIN pg_locks AS l USING (pid)
        WHERE a.application_name = 'zpmeow relay' AND l.locktype = 'advisory' AND l.granted
            AND a.datname = current_database()
    """)
    return [row["pid"] for row in rows]


async def test_one_leads_when_three_want_to(log: PostgresChangeLog, psql: Connection) -> None:
    """As long as it asks now and then, the leader stays the only one."""
    async with candidates(log, 3) as (leader, *others):
        await asyncio.sleep(2.0)  # Longer than a silent leader would stay one.

        assert leader.leads.is_set()
        assert not any(one.leads.is_set() for one in others)
        assert not leader.task.done()
        assert len(await relays(psql)) == 1


async def test_another_leads_when_the_leaders_connection_is_ended(log: PostgresChangeLog, psql: Connection) -> None:
    """The leader finds out, and one of the others leads within two seconds."""
    async with candidates(log, 3) as (leader, *others):
        (pid,) = await relays(psql)
        await psql.fetchval("SELECT pg_terminate_backend($1)", pid)

        await wait_for_another(others)

        with pytest.raises(DatabaseUnavailable):
            await leader.task
        assert len(await relays(psql)) == 1


async def test_another_leads_when_the_leader_is_frozen(log: PostgresChangeLog) -> None:
    """Who asks nothing for two seconds has lost the lead, and learns of it with its next question."""
    async with candidates(log, 3) as (leader, *others):
        leader.is_frozen = True

        await wait_for_another(others)

        assert leader.reader is not None
        with pytest.raises(DatabaseUnavailable):
            await leader.reader.read(EVERYTHING, limit=1)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
async def test_another_leads_when_the_leaders_process_dies_or_stops(
    log: PostgresChangeLog, database_url: str, number: signal.Signals
) -> None:
    """No farewell is needed: the server frees the lock of a process that is gone, or that says nothing."""
    program = """
import asyncio, sys
from zpmeow.postgres.change_log import PostgresChangeLog
from zpmeow.postgres.database import Database

async def lead():
    database = await Database.open(url=sys.argv[1], pool_size=1, timeout_seconds=5)
    async with PostgresChangeLog(url=sys.argv[1], database=database).lead() as reader:
        print("leads", flush=True)
        while True:
            await reader.state()
            await asyncio.sleep(0.1)

asyncio.run(lead())
"""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", program, database_url, stdout=asyncio.subprocess.PIPE
    )
    try:
        assert process.stdout is not None
        assert await process.stdout.readline() == b"leads\n"
        heir = Candidate(log)
        await asyncio.sleep(0.3)
        assert not heir.leads.is_set()

        os.kill(process.pid, number)

        await wait_for_another([heir])
        heir.task.cancel()
        await asyncio.wait([heir.task])
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def test_lead_is_free_when_the_leader_goes_by_itself(log: PostgresChangeLog) -> None:
    """A leader that stops or fails leaves the lead to the next at once."""
    async with log.lead() as reader:
        await reader.state()
    with pytest.raises(ZeroDivisionError):
        async with log.lead():
            raise ZeroDivisionError

    async with asyncio.timeout(TAKE_OVER_SECONDS), log.lead() as reader:
        assert (await reader.read(EVERYTHING, limit=1)).lines


async def test_logs_of_two_schemas_have_two_leaders_when_they_share_a_database(database_url: str) -> None:
    """Each log has a lock of its own."""
    async with connected(database_url) as psql:
        await psql.execute("CREATE SCHEMA one; CREATE SCHEMA two")
    urls = [f"{database_url}?options=-csearch_path%3D{name}" for name in ("one", "two")]

    async with (
        asyncio.timeout(GUARD_SECONDS),
        opened_log(urls[0]) as one,
        opened_log(urls[1]) as two,
        one.lead() as first,
        two.lead() as second,
    ):
        states = await first.state(), await second.state()

    assert states[0].epoch != states[1].epoch


async def test_lead_fails_as_unavailable_when_the_database_is_away() -> None:
    """No error of the driver gets out."""
    url = "postgresql://nobody@127.0.0.1:1/nothing"
    async with contextlib.AsyncExitStack() as stack:
        log = PostgresChangeLog(url=url, database=None)  # type: ignore[arg-type]

        with pytest.raises(DatabaseUnavailable):
            await stack.enter_async_context(log.lead())


async def test_reading_fails_in_time_when_the_server_hangs(own_postgres: PostgresServer) -> None:
    """A stopped server costs the leader its deadline, and then the lead."""
    async with opened_log(own_postgres.url) as log, contextlib.AsyncExitStack() as stack:
        reader = await stack.enter_async_context(log.lead())
        await reader.state()
        own_postgres.pause()
        try:
            async with asyncio.timeout(10):
                with pytest.raises(DatabaseUnavailable):
                    await reader.state()
        finally:
            own_postgres.resume()


async def test_anchor_stays_when_the_database_was_quiet_for_longer_than_the_retention(
    log: PostgresChangeLog, psql: Connection
) -> None:
    """The newest of the old lines is what a position was recognised by when the young ones came."""
    await psql.fetchval(INSERT, "alpha")
    await make_old(psql, 7200)
    async with log.lead() as reader:
        anchor = (await reader.state()).newest
        assert anchor is not None
        await psql.execute("UPDATE session_status SET reason = 'young'")
        await log.prune(older_than_seconds=3600)

        assert await reader.has_line(*anchor)


async def test_a_standby_is_waited_for_when_a_table_is_truncated(psql: Connection) -> None:
    """Who wants remote_apply gets it."""
    await psql.execute("SET synchronous_commit = remote_apply")
    async with psql.transaction():
        await psql.execute("TRUNCATE session_qr")
        assert await psql.fetchval("SHOW synchronous_commit") == "remote_apply"


async def test_page_was_not_read_before_the_moment_that_it_names(
    psql: Connection, log: PostgresChangeLog, database_url: str
) -> None:
    """The snapshot is taken when the statement is bound; statement_timestamp() is of when it is executed."""
    async with connected(database_url) as other, psql.transaction():
        cursor = await psql.cursor(statements.READ_CHANGES, [], 0, 0, 0, 500)
        await other.execute(INSERT, "between")
        between = await other.fetchval("SELECT max(at) FROM change_log")
        row = await cursor.fetchrow()

    assert row is not None
    assert row["read_at"] < between
