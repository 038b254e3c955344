"""The feed tells every change in order, proves again and again that none is missing, and says so when it cannot."""

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime

import pytest
from typing_extensions import override

from tests.integration.change_log_bench import INSERT, Connection, connected
from tests.servers.postgres_server import PostgresServer
from zpmeow.domain.changes import Change, ChangeFollower
from zpmeow.postgres.change_feed import CHANNEL, FEED_NAME, PostgresChangeFeed
from zpmeow.postgres.migrations import migrate

GUARD_SECONDS = 10.0


@dataclass
class Witness(ChangeFollower):
    """Writes down what it is told."""

    told: list[str] = field(default_factory=list)
    changes: list[Change] = field(default_factory=list)
    databases: list[bytes] = field(default_factory=list)
    since: list[datetime] = field(default_factory=list)
    confirmations: list[float] = field(default_factory=list)
    reasons: list[str | None] = field(default_factory=list)

    @override
    def opened(self, *, database: bytes, since: datetime, heard_at: float) -> None:
        self.told.append("opened")
        self.databases.append(database)
        self.since.append(since)

    @override
    def changed(self, changes: Sequence[Change]) -> None:
        real = [change for change in changes if change.entity != "position"]
        if real:
            self.told.append("changed")
            self.changes += real

    @override
    def confirmed(self, sent_at: float) -> None:
        self.told.append("confirmed")
        self.confirmations.append(sent_at)

    @override
    def lost(self, reason: str | None) -> None:
        self.told.append("lost")
        self.reasons.append(reason)

    def count(self, word: str) -> int:
        """How often it was told that."""
        return self.told.count(word)

    @property
    def heard(self) -> set[tuple[str, str]]:
        """What was changed, without versions."""
        return {(change.entity, change.key) for change in self.changes}


async def until(condition: Callable[[], bool]) -> None:
    """Wait for something that must come."""
    async with asyncio.timeout(GUARD_SECONDS):
        while not condition():  # noqa: ASYNC110  (any condition)
            await asyncio.sleep(0.005)


async def until_confirmed(witness: Witness) -> None:
    """Wait until everything that was committed before now has been told."""
    now = time.monotonic()
    await until(lambda: any(sent_at >= now for sent_at in witness.confirmations))


@asynccontextmanager
async def fed(url: str) -> AsyncIterator[Witness]:
    """Run a feed; the witness has been told that it is open."""
    witness = Witness()
    task = asyncio.create_task(PostgresChangeFeed(url=url, followers=[witness]).run())
    try:
        await until(lambda: witness.count("opened") > 0)
        yield witness
    finally:
        task.cancel()
        await asyncio.wait([task])


@pytest.fixture
async def psql(database_url: str) -> AsyncIterator[Connection]:
    """A foreign writer in a migrated database."""
    await migrate(url=database_url)
    async with connected(database_url) as connection:
        yield connection


async def end_feed(psql: Connection) -> None:
    """End the feed's connection on the server."""
    ended = await psql.fetch(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
        "WHERE application_name = $1 AND datname = current_database()",
        FEED_NAME,
    )
    assert len(ended) == 1


async def test_feed_tells_of_every_change_in_order_when_it_is_open(psql: Connection, database_url: str) -> None:
    """Opened, then what is committed, in the order of the commits; a confirmation comes after what it confirms."""
    async with fed(database_url) as witness:
        session_id = await psql.fetchval(INSERT, "alpha")
        for number in range(50):
            await psql.execute("UPDATE session_status SET reason = $1", str(number))
        await until_confirmed(witness)

        assert witness.told[0] == "opened"
        statuses = [change.version for change in witness.changes if change.entity == "status"]
        assert len(statuses) == 51
        assert statuses == sorted(statuses)
        assert {("name", "alpha"), ("session", str(session_id)), ("qr", str(session_id))} <= witness.heard
        assert witness.count("lost") == 0


async def test_nothing_is_told_when_a_transaction_is_rolled_back(psql: Connection, database_url: str) -> None:
    """What was not committed is no change."""
    async with fed(database_url) as witness:
        transaction = psql.transaction()
        await transaction.start()
        await psql.execute(INSERT, "never")
        await transaction.rollback()
        await until_confirmed(witness)

        assert witness.changes == []


async def test_every_change_is_told_when_many_write_at_once(psql: Connection, database_url: str) -> None:
    """The feed and the log agree, however many write."""

    async def write(number: int) -> None:
        async with connected(database_url) as connection:
            for step in range(20):
                await connection.execute(INSERT, f"session-{number}-{step}")

    seq = await psql.fetchval("SELECT max(seq) FROM change_log")
    async with fed(database_url) as witness:
        await asyncio.gather(*(write(number) for number in range(10)))
        await until_confirmed(witness)

        rows = await psql.fetch("SELECT entity, key, version FROM change_log WHERE seq > $1", seq)
        assert set(witness.changes) == {Change(**row) for row in rows}


async def test_feed_is_open_since_it_listened_when_it_says_so(psql: Connection, database_url: str) -> None:
    """What is committed after the moment that it names is told; the moment is not from before the opening."""
    before = await psql.fetchval("SELECT clock_timestamp()")

    async with fed(database_url) as witness:
        await psql.execute(INSERT, "alpha")
        committed = await psql.fetchval("SELECT clock_timestamp()")
        await until_confirmed(witness)

        assert before < witness.since[0]
        if witness.since[0] < committed:
            assert ("name", "alpha") in witness.heard


async def test_position_is_asked_for_when_a_feed_opens(psql: Connection, database_url: str) -> None:
    """Who has just begun to listen asks the leader for a position from after that."""
    payloads: list[object] = []
    await psql.add_listener(CHANNEL, lambda *told: payloads.append(told[-1]))

    async with fed(database_url):
        await until(lambda: bool(payloads))

    assert payloads == ["position::0"]


async def test_mode_and_epoch_are_told_when_they_are_changed(psql: Connection, database_url: str) -> None:
    """Shared settings need not be asked for to be followed at once."""
    async with fed(database_url) as witness:
        await psql.execute("UPDATE control_settings SET cache_mode = 'bypass'")
        await psql.execute("TRUNCATE sessions CASCADE")
        await until_confirmed(witness)

        epoch = (await psql.fetchval("SELECT epoch FROM control_settings")).hex()
        assert ("mode", "bypass") in witness.heard
        assert witness.changes[-1] == Change(entity="epoch", key=epoch, version=0)


async def test_feed_is_lost_at_once_and_opened_again_when_its_connection_is_ended(
    psql: Connection, database_url: str
) -> None:
    """The end is told without waiting for a beat; between the end and the opening nothing is confirmed."""
    async with fed(database_url) as witness:
        await until_confirmed(witness)
        await end_feed(psql)
        await psql.execute(INSERT, "in-between")
        await until(lambda: witness.count("opened") == 2)
        await psql.execute(INSERT, "again")
        await until_confirmed(witness)

        end = witness.told.index("lost")
        opened_again = len(witness.told) - 1 - witness.told[::-1].index("opened")
        assert set(witness.told[end:opened_again]) == {"lost"}
        assert "confirmed" in witness.told[opened_again:]
        assert witness.since[1] > witness.since[0]
        assert witness.databases[0] == witness.databases[1]
        assert ("name", "again") in witness.heard


async def test_an_end_is_told_before_the_next_beat_when_the_server_goes(own_postgres: PostgresServer) -> None:
    """A reader that asks between two beats knows already. While the server is away it stays lost; then it opens."""
    await migrate(url=own_postgres.url)
    async with fed(own_postgres.url) as witness:
        await until_confirmed(witness)
        for stop in (own_postgres.stop, own_postgres.kill):
            opened = witness.count("opened")
            await asyncio.to_thread(stop)
            await until(lambda: witness.told[-1] == "lost")
            confirmed = witness.count("confirmed")
            await asyncio.sleep(0.7)
            assert (witness.told[-1], witness.count("confirmed")) == ("lost", confirmed)

            await asyncio.to_thread(own_postgres.start)
            await until(lambda before=opened: witness.count("opened") > before)  # type: ignore[misc]
            await until_confirmed(witness)

    # A crash and a restart leave it the same database.
    assert len(set(witness.databases)) == 1
    assert witness.told[-1] == "lost"


async def test_nothing_is_confirmed_and_the_feed_is_lost_when_the_server_hangs(own_postgres: PostgresServer) -> None:
    """A stopped server breaks no connection: what tells is that no beat comes back."""
    await migrate(url=own_postgres.url)
    async with fed(own_postgres.url) as witness:
        await until_confirmed(witness)
        own_postgres.pause()
        try:
            paused_at = time.monotonic()
            await until(lambda: witness.count("lost") > 0)
        finally:
            own_postgres.resume()
        async with connected(own_postgres.url) as psql:
            await psql.execute(INSERT, "afterwards")
        await until(lambda: witness.count("opened") == 2)

        lost = witness.told.index("lost")
        confirmed_before = [sent_at for sent_at in witness.confirmations if sent_at < paused_at]
        assert witness.told[:lost].count("confirmed") <= len(confirmed_before) + 1
        assert max(witness.confirmations[: witness.told[:lost].count("confirmed")]) < paused_at + 0.5


async def test_nothing_is_confirmed_when_only_the_feeds_backend_hangs(psql: Connection, database_url: str) -> None:
    """One stuck backend among living ones is as good as a dead server: changes wait in it."""
    async with fed(database_url) as witness:
        await until_confirmed(witness)
        (pid,) = [
            row["pid"]
            for row in await psql.fetch(
                "SELECT pid FROM pg_stat_activity WHERE application_name = $1 AND datname = current_database()",
                FEED_NAME,
            )
        ]
        os.kill(pid, signal.SIGSTOP)
        try:
            stopped_at = time.monotonic()
            await psql.execute(INSERT, "unheard")
            await until(lambda: witness.count("lost") > 0)
        finally:
            os.kill(pid, signal.SIGCONT)

        assert max(witness.confirmations) < stopped_at + 0.5 or witness.count("opened") > 1
        await until(lambda: witness.count("opened") == 2)


GARBAGE = [
    "",
    ",",
    ":",
    "::",
    "session",
    "session:",
    "session::",
    "session:x:y",
    "session:x:-1",
    "session:x:1.5",
    "session:x:²",
    "session:x:٣",
    "name:a:b:c",
    "key:nothex:5",
    "position::0",
    "\x01\x7f",
    "ü" * 3000,
    "'; DROP TABLE sessions; --",
    "x" * 7999,
]


@pytest.mark.parametrize("garbage", GARBAGE, ids=range(len(GARBAGE)))
async def test_feed_goes_on_when_somebody_notifies_garbage(
    psql: Connection, database_url: str, garbage: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Anybody may NOTIFY on any channel; changes told beside garbage are told all the same."""
    async with fed(database_url) as witness:
        await psql.execute("SELECT pg_notify($1, $2)", CHANNEL, garbage)
        await psql.execute(INSERT, "alpha")
        await until_confirmed(witness)

        assert ("name", "alpha") in witness.heard
        assert witness.count("lost") == 0
    assert caplog.records == []


async def test_changes_are_told_when_they_stand_beside_garbage(psql: Connection, database_url: str) -> None:
    """One unreadable line of a payload does not take the others with it; a key may hold colons."""
    async with fed(database_url) as witness:
        await psql.execute("SELECT pg_notify($1, 'garbage,name:a:b:7,,session:x:y,qr:q:8')", CHANNEL)
        await until_confirmed(witness)

        assert witness.changes == [
            Change(entity="name", key="a:b", version=7),
            Change(entity="qr", key="q", version=8),
        ]


async def test_database_is_another_when_it_is_another_one_of_the_cluster(
    psql: Connection, postgres_server: PostgresServer, database_url: str
) -> None:
    """Each database has an identity of 16 bytes of its own, and hears nothing of the other's changes."""
    name = f"{database_url.rsplit('/', 1)[1]}_b"
    try:
        other_url = postgres_server.create_database(name)
        await migrate(url=other_url)
        async with fed(database_url) as witness, fed(other_url) as other:
            await psql.execute(INSERT, "alpha")
            await until_confirmed(witness)
            await until_confirmed(other)

            assert witness.databases[0] != other.databases[0]
            assert {len(witness.databases[0]), len(other.databases[0])} == {16}
            assert other.changes == []
    finally:
        postgres_server.drop_database(name)


async def test_feed_opens_when_the_schema_comes_later(database_url: str) -> None:
    """Without tables there is nothing to tell: it is lost until they are there."""
    witness = Witness()
    task = asyncio.create_task(PostgresChangeFeed(url=database_url, followers=[witness]).run())
    try:
        await until(lambda: witness.count("lost") > 0)
        await migrate(url=database_url)
        await until(lambda: witness.count("opened") > 0)
    finally:
        task.cancel()
        await asyncio.wait([task])

    assert witness.told[:1] == ["lost"]


async def test_feed_is_lost_when_it_is_stopped(psql: Connection, database_url: str) -> None:
    """Whoever followed it must not go on believing; the server is left without its session."""
    async with fed(database_url) as witness:
        await until_confirmed(witness)

    assert witness.told[-1] == "lost"
    assert witness.reasons == [None]
    gone = "SELECT count(*) FROM pg_stat_activity WHERE application_name = $1 AND datname = current_database()"
    async with asyncio.timeout(GUARD_SECONDS):
        while await psql.fetchval(gone, FEED_NAME):  # noqa: ASYNC110  (asks the server)
            await asyncio.sleep(0.01)


async def test_database_is_another_when_a_standby_was_promoted(
    own_postgres: PostgresServer,
) -> None:
    """After pg_promote the timeline is another, and so is the database's identity: versions may mean other content."""
    await migrate(url=own_postgres.url)
    async with fed(own_postgres.url) as witness:
        own_postgres.execute("CHECKPOINT")
    await asyncio.to_thread(own_postgres.stop)
    (own_postgres._data / "standby.signal").touch()
    await asyncio.to_thread(own_postgres.start)
    async with connected(own_postgres.url) as standby:
        assert await standby.fetchval("SELECT pg_is_in_recovery()")
        closed = Witness()
        task = asyncio.create_task(PostgresChangeFeed(url=own_postgres.url, followers=[closed]).run())
        try:
            await until(lambda: closed.count("lost") > 0)
            assert closed.count("opened") == 0  # A standby cannot be listened to: nothing is believed there.
            await standby.fetchval("SELECT pg_promote()")
            await until(lambda: closed.count("opened") > 0)
        finally:
            task.cancel()
            await asyncio.wait([task])

    assert closed.databases[0] != witness.databases[0]


async def test_changes_beside_an_absurd_version_are_told(
    psql: Connection, database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Python refuses to read numbers of more than 4,300 digits."""
    async with fed(database_url) as witness:
        await psql.execute("SELECT pg_notify($1, $2)", CHANNEL, "name:x:" + "9" * 5000 + ",name:y:1")
        await until_confirmed(witness)
        assert ("name", "y") in witness.heard
    assert caplog.records == []


async def test_feed_opens_when_somebody_emptied_the_log(psql: Connection, database_url: str) -> None:
    """The next write may be hours away."""
    await psql.execute("DELETE FROM change_log")
    async with fed(database_url) as witness:
        assert witness.count("opened") == 1
