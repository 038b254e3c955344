"""The relay between real servers: whatever state Redis or PostgreSQL comes back in, nothing old stays readable.

In each test sessions are cached, something goes wrong, half of the sessions are changed by a foreign writer, and the
relay catches up. Then every entry in Redis is either as new as the database, or cannot be read. Where nothing made a
new epoch necessary, the entries of the other half are still there.
"""

import asyncio
import shutil
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

import asyncpg
import pytest
import redis
from typing_extensions import override

from tests.fakes.cached_sessions import LIFETIMES
from tests.integration.change_log_bench import INSERT, Connection, connected
from tests.servers.postgres_server import PostgresServer
from tests.servers.redis_server import RedisServer
from zpmeow.cache.entry_codec import EntryCodec, Reading
from zpmeow.cache.policy import EntryKey
from zpmeow.cache.position import POSITION_KEY, Position, decode_position
from zpmeow.cache.redis_tier import RedisTier
from zpmeow.cache.tier import Write
from zpmeow.domain.changes import LogReader
from zpmeow.domain.ports import Clock
from zpmeow.domain.records import Entity
from zpmeow.domain.references import ById
from zpmeow.events import EpochBegun, Event, InvalidationSent, LeadChanged, ignore
from zpmeow.postgres.change_log import PostgresChangeLog, _PostgresLogReader
from zpmeow.postgres.database import Database
from zpmeow.postgres.migrations import migrate
from zpmeow.postgres.session import open_session
from zpmeow.postgres.session_repository import PostgresSessionRepository
from zpmeow.repositories.cache_policies import CachePolicies
from zpmeow.repositories.change_keys import ChangeKeys
from zpmeow.repositories.invalidation_relay import InvalidationRelay
from zpmeow.repositories.session_entries import SessionEntries

GUARD_SECONDS = 15.0
SESSIONS = 10
ALL = frozenset(Entity)


class WallClock(Clock):
    """The machine's clock, which is the database's here."""

    @override
    def now(self) -> datetime:
        return datetime.now(UTC)


def now_ms() -> int:
    """Return the time in milliseconds since 1970."""
    return time.time_ns() // 1_000_000


def open_gate() -> asyncio.Event:
    """Never hold the relay back."""
    gate = asyncio.Event()
    gate.set()
    return gate


@dataclass
class Bench:
    """Database and Redis with sessions in both, and relays that the test starts and stops."""

    url: str
    redis: RedisServer
    database: Database
    tier: RedisTier
    events: list[Event] = field(default_factory=list)
    ids: list[UUID] = field(default_factory=list)
    tasks: list[asyncio.Task[None]] = field(default_factory=list)
    relays: list[InvalidationRelay] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Put the parts together."""
        self.policies = CachePolicies(LIFETIMES)
        self.codec = EntryCodec(now_ms=now_ms)
        self.keys = ChangeKeys(policies=self.policies, codec=self.codec)
        self.repository = PostgresSessionRepository(database=self.database)
        self.entries = SessionEntries(policies=self.policies, clock=WallClock())

    @classmethod
    @asynccontextmanager
    async def opened(cls, url: str, redis: RedisServer) -> AsyncIterator["Bench"]:
        """Begin with some sessions, a relay that has caught up, and everything cached."""
        await migrate(url=url)
        database = await Database.open(url=url, pool_size=4, timeout_seconds=10.0)
        tier = RedisTier(url=redis.url, pool_size=4, timeout_seconds=5.0, observer=ignore)
        bench = cls(url, redis, database, tier)
        try:
            async with connected(url) as psql:
                bench.ids = [await psql.fetchval(INSERT, f"session-{number}") for number in range(SESSIONS)]
            bench.start_relay()
            await bench.catch_up()
            await bench.fill()
            assert await bench.readable() == dict.fromkeys(bench.entry_keys(), True)
            bench.events.clear()
            yield bench
        finally:
            await bench.stop_relays()
            await tier.close()
            await database.close()

    def start_relay(self, log: PostgresChangeLog | None = None) -> None:
        """Let one more process relay."""
        sink = RedisTier(url=self.redis.url, pool_size=1, timeout_seconds=0.5, observer=ignore)
        relay = InvalidationRelay(
            log=log or PostgresChangeLog(url=self.url, database=self.database),
            sink=sink,
            keys=self.keys,
            gate=open_gate(),
            observer=self.events.append,
        )

        async def run() -> None:
            try:
                await relay.run()
            finally:
                await sink.close()

        self.relays.append(relay)
        self.tasks.append(asyncio.create_task(run()))

    async def stop_relays(self) -> None:
        """Stop all, wherever they are."""
        for task in self.tasks:
            task.cancel()
        if self.tasks:
            await asyncio.wait(self.tasks)
        self.tasks.clear()
        self.relays.clear()

    async def position(self) -> Position | None:
        """Return the position that stands in Redis."""
        data = await self.tier.read_position()
        return None if data is None else decode_position(data)

    async def place_position(self, change: Callable[[Position], Position]) -> None:
        """Replace the position by a sound one of other content."""
        position = await self.position()
        assert position is not None
        self.set_raw(change(position).encode())

    def set_raw(self, data: bytes) -> None:
        """Put bytes in the position's place."""
        with redis.Redis(port=self.redis.port) as client:
            client.set(POSITION_KEY, data)

    async def epoch(self) -> bytes:
        """Return the database's epoch."""
        row = await self.database.fetch_row("epoch", "SELECT epoch FROM control_settings")
        assert row is not None
        epoch: bytes = row["epoch"]
        return epoch

    async def catch_up(self) -> None:
        """Wait until a position says that all that was committed by now has been applied."""
        now = now_ms()
        async with asyncio.timeout(GUARD_SECONDS):
            while True:
                for relay in self.relays:
                    relay.wake()
                position = await self.position()
                if position is not None and position.at_ms > now and position.epoch == await self.epoch():
                    return
                await asyncio.sleep(0.02)

    async def fill(self) -> None:
        """Cache everything, as reads would."""
        epoch, loaded_at_ms = await self.epoch(), now_ms()
        writes: list[Write] = []
        for session_id in self.ids:
            found = await self.repository.find(ById(session_id), ALL)
            if found is None:
                continue
            for key, loaded in self.entries.values(found).items():
                writes.append(self.codec.value(key, loaded, epoch=epoch, loaded_at_ms=loaded_at_ms))
        await self.tier.put_many(writes)

    def entry_keys(self) -> list[EntryKey]:
        """Return the keys of all records."""
        return [self.policies.entry_key(session_id, entity) for session_id in self.ids for entity in Entity]

    async def versions(self) -> dict[EntryKey, int]:
        """Return what the database has; nothing for what it has no more."""
        found = {}
        for session_id in self.ids:
            snapshot = await self.repository.find(ById(session_id), ALL)
            if snapshot is not None:
                for entity, record in snapshot.records.items():
                    found[self.policies.entry_key(session_id, entity)] = record.version
        return found

    async def readable(self) -> dict[EntryKey, bool]:
        """Tell for each key whether Redis has something to answer, and fail if that is older than the database."""
        epoch, truth = await self.epoch(), await self.versions()
        keys = self.entry_keys()
        values = await self.tier.get_many([key.text for key in keys])
        readable = {}
        for key, data in zip(keys, values, strict=True):
            reading = None if data is None else self.codec.read(key, data, epoch=epoch, now_ms=now_ms())
            readable[key] = isinstance(reading, Reading)
            if isinstance(reading, Reading):
                assert key in truth, f"{key.text} is gone"
                assert reading.version >= truth[key], f"{key.text} is old"
        return readable

    async def change_half(self) -> set[EntryKey]:
        """Change the first half by psql, each in another way; return the keys of what was changed."""
        before = await self.versions()
        async with connected(self.url) as psql:
            await change_half(psql, self.ids)
        after = await self.versions()
        return {key for key in self.entry_keys() if before.get(key) != after.get(key)}

    def begun(self) -> list[str]:
        """Why epochs were begun since the start."""
        return [event.reason for event in self.events if isinstance(event, EpochBegun)]


async def change_half(psql: Connection, ids: list[UUID]) -> None:
    """Rename, rotate, delete, and change records, of the first half of the sessions."""
    first, second, third, *rest = ids[: SESSIONS // 2]
    await psql.execute("UPDATE sessions SET name = 'renamed' WHERE id = $1", first)
    await psql.execute("UPDATE sessions SET key_hash = sha256('rotated') WHERE id = $1", second)
    await psql.execute("DELETE FROM sessions WHERE id = $1", third)
    await psql.execute("UPDATE session_status SET reason = 'changed' WHERE session_id = ANY($1)", rest)
    await psql.execute(
        "UPDATE session_credential SET device_jid = 'd', paired_at = now() WHERE session_id = $1", rest[0]
    )


async def check_kept(bench: Bench, changed: set[EntryKey]) -> None:
    """Nothing old is readable, what was changed is a miss, and everything else is still there."""
    readable = await bench.readable()
    assert changed
    assert {key for key, is_there in readable.items() if not is_there} == changed
    assert bench.begun() == []


async def check_void(bench: Bench, reason: str) -> None:
    """Nothing at all is readable, by one new epoch, in which the cache works again."""
    assert not any((await bench.readable()).values())
    assert len(bench.begun()) == 1
    assert reason in bench.begun()[0]
    bench.ids = [session_id for session_id in bench.ids if await bench.repository.find(ById(session_id), ALL)]
    await bench.fill()
    assert all((await bench.readable()).values())


@pytest.fixture
async def bench(database_url: str, redis_server: RedisServer) -> AsyncIterator[Bench]:
    """A bench on the shared servers."""
    async with Bench.opened(database_url, redis_server) as bench:
        yield bench


@pytest.fixture
async def own_bench(database_url: str, own_redis: RedisServer) -> AsyncIterator[Bench]:
    """A bench whose Redis may be killed."""
    async with Bench.opened(database_url, own_redis) as bench:
        yield bench


async def test_changed_entries_are_fenced_when_all_is_well(bench: Bench) -> None:
    """What a foreign writer changed is a miss; what he did not change is still there."""
    changed = await bench.change_half()

    await bench.catch_up()

    await check_kept(bench, changed)


async def test_changes_are_brought_later_when_nobody_led_meanwhile(bench: Bench) -> None:
    """A relay that was killed between commit and invalidation leaves nothing undone: the next begins where it was."""
    await bench.stop_relays()
    changed = await bench.change_half()

    bench.start_relay()
    await bench.catch_up()

    await check_kept(bench, changed)


async def test_changes_are_brought_when_relays_die_again_and_again(bench: Bench) -> None:
    """Wherever a relay is cut off, in the middle of a batch or before it, nothing is lost."""
    before = await bench.versions()
    async with connected(bench.url) as psql:
        for number in range(15):
            await psql.execute("UPDATE session_status SET reason = $1 WHERE session_id = $2", str(number), bench.ids[0])
            await bench.stop_relays()
            bench.start_relay()
            await asyncio.sleep(number * 0.004)
    after = await bench.versions()
    changed = {key for key in before if before[key] != after[key]}

    await bench.catch_up()

    readable = await bench.readable()
    assert {key for key, is_there in readable.items() if not is_there} == changed
    assert bench.begun() == []


@pytest.mark.parametrize("way", ["garbage", "empty", "cut"])
async def test_everything_is_void_when_the_position_is_corrupt(bench: Bench, way: str) -> None:
    """Bytes that are no position tell nothing."""
    await bench.stop_relays()
    stored = await bench.tier.read_position()
    assert stored is not None
    bench.set_raw({"garbage": b"what is this", "empty": b"", "cut": stored[:-1]}[way])
    await bench.change_half()

    bench.start_relay()
    await bench.catch_up()

    await check_void(bench, "no position")


@pytest.mark.parametrize("is_running", [True, False])
async def test_everything_is_void_when_the_position_is_missing(bench: Bench, is_running: bool) -> None:  # noqa: FBT001
    """Evicted or deleted, under a running relay or not."""
    if not is_running:
        await bench.stop_relays()
    bench.redis.command("DEL", POSITION_KEY)
    await bench.change_half()

    if not is_running:
        bench.start_relay()
    await bench.catch_up()

    await check_void(bench, "no position")


@pytest.mark.parametrize("is_running", [True, False])
async def test_everything_is_void_when_the_position_is_of_a_wrong_type(bench: Bench, is_running: bool) -> None:  # noqa: FBT001
    """A list in its place is no position, and gives way to one."""
    if not is_running:
        await bench.stop_relays()
    bench.redis.command("DEL", POSITION_KEY)
    bench.redis.command("RPUSH", POSITION_KEY, "x")
    await bench.change_half()

    if not is_running:
        bench.start_relay()
    await bench.catch_up()

    await check_void(bench, "no position")


async def test_everything_is_void_when_the_epoch_was_raised_while_nobody_led(bench: Bench) -> None:
    """A position of another epoch is not gone on from."""
    await bench.stop_relays()
    async with connected(bench.url) as psql:
        await psql.execute("TRUNCATE session_qr")

    bench.start_relay()
    await bench.catch_up()

    await check_void(bench, "another epoch")


async def test_everything_is_void_when_the_position_is_of_another_database(bench: Bench) -> None:
    """Redis was shared with, or comes from, another installation, or this is a standby that was promoted."""
    await bench.stop_relays()
    await bench.place_position(lambda position: replace(position, database=b"another database"))
    await bench.change_half()

    bench.start_relay()
    await bench.catch_up()

    await check_void(bench, "another database")


async def test_everything_is_void_when_the_log_does_not_have_the_positions_line(bench: Bench) -> None:
    """The same numbers with another nonce: the database was set back and went another way."""
    await bench.stop_relays()
    await bench.place_position(
        lambda position: replace(position, anchor=(position.anchor[0], position.anchor[1], "0" * 32))
    )
    await bench.change_half()

    bench.start_relay()
    await bench.catch_up()

    await check_void(bench, "does not have the line")


async def test_everything_is_void_when_the_position_is_older_than_the_log(bench: Bench) -> None:
    """Redis was away for longer than the log is kept: what it has not seen cannot be told any more."""
    await bench.stop_relays()
    await bench.change_half()
    async with connected(bench.url) as psql:
        await psql.execute("UPDATE change_log SET at = at - interval '1 hour'")
        await psql.execute("UPDATE session_status SET reason = 'young'")
    log = PostgresChangeLog(url=bench.url, database=bench.database)
    while await log.prune(older_than_seconds=600):
        continue

    bench.start_relay()
    await bench.catch_up()

    await check_void(bench, "longer than the change log is kept")


async def test_everything_is_void_when_redis_was_flushed_under_a_running_relay(bench: Bench) -> None:
    """FLUSHALL takes position and entries; what a slow reader brings afterwards is of the old epoch."""
    epoch, loaded_at_ms = await bench.epoch(), now_ms()
    slow = await bench.repository.find(ById(bench.ids[0]), ALL)
    assert slow is not None
    await bench.change_half()
    bench.redis.command("FLUSHALL")

    await bench.catch_up()
    late = [
        bench.codec.value(key, loaded, epoch=epoch, loaded_at_ms=loaded_at_ms)
        for key, loaded in bench.entries.values(slow).items()
    ]
    await bench.tier.put_many(late)

    await check_void(bench, "no position")


@pytest.mark.parametrize("is_running", [True, False])
async def test_changes_are_brought_again_when_redis_comes_back_with_an_old_snapshot(
    own_bench: Bench,
    is_running: bool,  # noqa: FBT001
) -> None:
    """The position comes back as old as the entries, and tells what they have not seen; nothing else is lost."""
    bench = own_bench
    assert bench.redis.command("SAVE") == b"+OK"
    changed = await bench.change_half()
    await bench.catch_up()
    await check_kept(bench, changed)
    if not is_running:
        await bench.stop_relays()

    await asyncio.to_thread(bench.redis.kill)
    await asyncio.to_thread(bench.redis.start)
    if not is_running:
        bench.start_relay()
    await bench.catch_up()

    await check_kept(bench, changed)


async def test_everything_is_void_when_redis_comes_back_empty(own_bench: Bench) -> None:
    """A restart without a snapshot is a new Redis."""
    bench = own_bench
    await bench.change_half()
    await asyncio.to_thread(bench.redis.kill)
    await asyncio.sleep(0.3)
    await asyncio.to_thread(bench.redis.start)

    await bench.catch_up()

    await check_void(bench, "no position")


async def test_changes_are_brought_when_redis_hung_meanwhile(own_bench: Bench) -> None:
    """Batches that timed out here and ran there later do no harm: the position is read again, and fits or not."""
    bench = own_bench
    bench.redis.pause()
    try:
        async with connected(bench.url) as psql:
            await change_half(psql, bench.ids)
        for _ in range(5):
            bench.relays[0].wake()
            await asyncio.sleep(0.2)
    finally:
        bench.redis.resume()

    await bench.catch_up()

    await bench.readable()
    assert bench.begun() == []
    assert any(isinstance(event, LeadChanged) and not event.leads for event in bench.events)


async def test_nothing_is_lost_when_two_processes_lead_at_once(bench: Bench) -> None:
    """A leader that was frozen and does not know that it lost the lead: only who knows the position moves it."""

    class Usurper(PostgresChangeLog):
        """Leads without asking."""

        @override
        @asynccontextmanager
        async def lead(self) -> AsyncIterator[LogReader]:
            async with open_session(url=bench.url, name="usurper", settings={}) as session:
                yield _PostgresLogReader(session)

    for _ in range(2):
        bench.start_relay(Usurper(url=bench.url, database=bench.database))
    before = await bench.versions()
    async with connected(bench.url) as psql:
        for number in range(60):
            await psql.execute(
                "UPDATE session_status SET reason = $1 WHERE session_id = $2", str(number), bench.ids[number % 5]
            )
            for relay in bench.relays:
                relay.wake()
            await asyncio.sleep(0.005)

    await bench.catch_up()

    after = await bench.versions()
    readable = await bench.readable()
    assert {key for key, is_there in readable.items() if not is_there} == {
        key for key in after if before[key] != after[key]
    }
    assert bench.begun() == []


async def test_another_relay_goes_on_when_the_leaders_connection_is_ended(bench: Bench) -> None:
    """Whoever leads next, nothing is lost and nothing is void."""
    bench.start_relay()
    async with connected(bench.url) as psql:
        await psql.execute("""
            SELECT pg_terminate_backend(a.pid) FROM pg_stat_activity AS a JOIN pg_locks AS l USING (pid)
            WHERE a.application_name = 'zpmeow relay' AND l.locktype = 'advisory' AND l.granted
                AND a.datname = current_database()
        """)
    changed = await bench.change_half()

    await bench.catch_up()

    await check_kept(bench, changed)


async def test_a_commit_is_brought_at_once_when_a_foreign_transaction_stays_open(
    bench: Bench, postgres_server: PostgresServer
) -> None:
    """Nobody's open transaction holds the relay up; a transaction that commits at last is brought then."""
    async with connected(postgres_server.url) as foreigner, connected(bench.url) as slow:
        await foreigner.execute("BEGIN; SELECT pg_current_xact_id()")
        transaction = slow.transaction()
        await transaction.start()
        await slow.execute(
            "UPDATE session_qr SET code = 'slow', expires_at = now() WHERE session_id = $1", bench.ids[9]
        )
        changed = await bench.change_half()
        await bench.catch_up()
        await check_kept(bench, changed)

        await transaction.commit()
        await bench.catch_up()

        assert not (await bench.readable())[bench.policies.entry_key(bench.ids[9], Entity.QR)]
        assert bench.begun() == []


@asynccontextmanager
async def own_servers(own_postgres: PostgresServer, redis_server: RedisServer) -> AsyncIterator[Bench]:
    """Open a bench on a PostgreSQL that may be killed."""
    async with Bench.opened(own_postgres.url, redis_server) as bench:
        yield bench


def copy_data(server: PostgresServer, to: Path) -> None:
    """Copy a stopped server's data, as a cold backup does."""
    shutil.copytree(server._data, to, symlinks=True, copy_function=shutil.copy2)


def restore_data(server: PostgresServer, backup: Path) -> None:
    """Put a backup in the place of a stopped server's data."""
    owner = server._data.stat()
    for old in server._data.iterdir():
        shutil.rmtree(old) if old.is_dir() else old.unlink()
    shutil.copytree(backup, server._data, symlinks=True, dirs_exist_ok=True)
    for each in [server._data, *server._data.rglob("*")]:
        shutil.chown(each, owner.st_uid, owner.st_gid)
    server._data.chmod(0o700)


async def test_everything_is_void_when_the_database_was_restored_from_a_backup(
    own_postgres: PostgresServer, redis_server: RedisServer, tmp_path: Path
) -> None:
    """What Redis has seen of the future that is no more is not believed, though its versions are high."""
    async with own_servers(own_postgres, redis_server) as bench:
        await asyncio.to_thread(own_postgres.stop)
        await asyncio.to_thread(copy_data, own_postgres, tmp_path / "backup")
        await asyncio.to_thread(own_postgres.start)
        await bench.catch_up()
        await bench.change_half()
        await bench.catch_up()
        await bench.fill()
        bench.events.clear()

        await asyncio.to_thread(own_postgres.stop)
        await asyncio.to_thread(restore_data, own_postgres, tmp_path / "backup")
        await asyncio.to_thread(own_postgres.start)
        # The other way that the database goes now repeats the numbers of transactions and versions.
        async with connected(bench.url) as psql:
            await psql.execute("UPDATE session_status SET reason = 'another way'")
            await psql.execute("UPDATE session_credential SET device_jid = NULL, paired_at = NULL")
        await bench.catch_up()

        assert not any((await bench.readable()).values())
        assert "restored backup" in bench.begun()[0]


async def test_everything_is_void_when_a_standby_was_promoted(
    own_postgres: PostgresServer, redis_server: RedisServer
) -> None:
    """Another timeline is another database: what was acknowledged may have been lost by a failover."""
    async with own_servers(own_postgres, redis_server) as bench:
        await asyncio.to_thread(own_postgres.stop)
        (own_postgres._data / "standby.signal").touch()
        await asyncio.to_thread(own_postgres.start)
        async with connected(bench.url) as psql:
            await psql.fetchval("SELECT pg_promote()")

        await bench.catch_up()

        await check_void(bench, "another database")


@pytest.mark.parametrize("way", ["kill", "stop"])
async def test_nothing_is_void_when_the_database_was_restarted(
    own_postgres: PostgresServer, redis_server: RedisServer, way: str
) -> None:
    """A crash loses no line that was read: the relay goes on from where it was."""
    async with own_servers(own_postgres, redis_server) as bench:
        changed = await bench.change_half()
        await asyncio.to_thread(getattr(own_postgres, way))
        await asyncio.to_thread(own_postgres.start)

        await bench.catch_up()

        await check_kept(bench, changed)


async def test_fifty_thousand_lines_are_brought_when_the_relay_was_away(
    bench: Bench, record_property: Callable[[str, object], None], capsys: pytest.CaptureFixture[str]
) -> None:
    """A long backlog is applied to the last line; how fast is told, not asserted."""
    await bench.stop_relays()
    lines = 50_000
    async with connected(bench.url) as psql:
        await psql.execute(f"""
            INSERT INTO change_log (entity, key, version)
            SELECT 'status', gen_random_uuid(), nextval('record_version') FROM generate_series(1, {lines})
        """)
    changed = await bench.change_half()

    began, began_cpu = time.perf_counter(), time.process_time()
    bench.start_relay()
    await bench.catch_up()
    took, cpu = time.perf_counter() - began, time.process_time() - began_cpu

    record_property("relay_lines_per_second", round(lines / took))
    record_property("relay_lines_per_cpu_second", round(lines / cpu))
    with capsys.disabled():
        print(f"\nrelay: {lines / took:,.0f} lines/s, {lines / cpu:,.0f} per second of its process' CPU")  # noqa: T201
    sent = sum(event.count for event in bench.events if isinstance(event, InvalidationSent))
    assert sent >= lines
    await check_kept(bench, changed)


async def test_change_is_brought_when_a_crash_took_back_numbers_of_transactions(
    own_postgres: PostgresServer, redis_server: RedisServer
) -> None:
    """Kill -9 of PostgreSQL right after refused writes: the numbers of their transactions come again, with lines."""
    async with own_servers(own_postgres, redis_server) as bench:
        async with connected(bench.url) as psql:
            for _ in range(50):
                with pytest.raises(asyncpg.UniqueViolationError):
                    await psql.execute(INSERT, "session-1")
        await bench.catch_up()
        await asyncio.to_thread(own_postgres.kill)
        await asyncio.to_thread(own_postgres.start)
        async with connected(bench.url) as psql:
            await psql.execute("UPDATE session_status SET reason = 'changed'")

        await bench.catch_up()

        await bench.readable()  # Fails for what is old.
        assert bench.begun() == []


async def test_everything_is_void_once_when_a_table_is_truncated_under_a_running_relay(bench: Bench) -> None:
    """The relay follows the epoch."""
    async with connected(bench.url) as psql:
        await psql.execute("TRUNCATE sessions CASCADE")
        bench.ids = [await psql.fetchval(INSERT, "again")]

    await bench.catch_up()

    await check_void(bench, "another epoch")
