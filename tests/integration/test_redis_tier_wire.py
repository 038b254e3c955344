"""The Redis tier against servers that speak badly, late, or not at all."""

import asyncio
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from tests.fakes.scripted_server import (
    Command,
    ScriptedServer,
    bulk,
    echo_keys,
    say,
    say_nothing,
    scripted_server,
)
from zpmeow.cache.errors import CacheError, CacheTimeout, CacheUnavailable
from zpmeow.cache.redis_tier import RedisTier
from zpmeow.cache.tier import Hint
from zpmeow.events import ignore

SHORT_SECONDS = 0.05
RIGHT_FOR_SOME_CALL = {b"+OK\r\n", b":1\r\n", b"#t\r\n"}  # Two hints stored; one key removed, or counted; applied.


@asynccontextmanager
async def tier_on(
    server: ScriptedServer, *, timeout_seconds: float = 5.0, pool_size: int = 4, password: str = ""
) -> AsyncIterator[RedisTier]:
    """Open a tier that talks to a scripted server and close it after the test."""
    url = server.url.replace("127", f":{password}@127", 1) if password else server.url
    tier = RedisTier(url=url, pool_size=pool_size, timeout_seconds=timeout_seconds, observer=ignore)
    try:
        yield tier
    finally:
        await tier.close()


async def test_connecting_costs_no_chatter() -> None:
    """The first thing that a server hears on a connection is the question itself."""
    async with scripted_server(echo_keys) as server, tier_on(server) as tier:
        await tier.get_many(["key"])

    assert server.commands == [[b"MGET", b"key"]]


async def test_no_answer_goes_to_another_question_when_answers_come_late() -> None:
    """A reply that comes after its deadline is never read as the answer to the next question."""
    given_up = asyncio.Event()

    async def answer_late(command: Command, writer: asyncio.StreamWriter) -> None:
        await given_up.wait()
        await echo_keys(command, writer)

    async with (
        scripted_server(echo_keys) as server,
        tier_on(server, timeout_seconds=SHORT_SECONDS, pool_size=1) as tier,
    ):
        await tier.get_many(["warm-up"])
        assert tier.idle_connections == 1

        server.answer = answer_late
        for number in range(5):
            with pytest.raises(CacheTimeout):
                await tier.get_many([f"late-{number}"])
            assert tier.idle_connections == 0
        server.answer = echo_keys
        given_up.set()
        answers = [await tier.get_many([f"key-{number}"]) for number in range(20)]

    assert answers == [[b"key-%d" % number] for number in range(20)]
    assert server.connections == 1 + 4 + 1  # Each timeout costs its connection; the first took the one of the warm-up.


async def test_a_connection_is_not_used_again_when_something_unasked_came_over_it() -> None:
    """A reply too many spoils the connection, not the next answer."""

    async def answer_twice(command: Command, writer: asyncio.StreamWriter) -> None:
        await echo_keys(command, writer)
        await echo_keys([b"MGET", b"not asked for"], writer)

    async with scripted_server(answer_twice) as server, tier_on(server) as tier:
        for number in range(5):
            assert await tier.get_many([f"key-{number}"]) == [b"key-%d" % number]
            await asyncio.sleep(0.01)

    assert server.connections == 5


@pytest.mark.parametrize("cut", [1, 5, 9, 14])
async def test_call_fails_when_the_connection_is_reset_in_mid_reply(cut: int) -> None:
    """Half a reply is no reply."""

    async def break_off(_command: Command, writer: asyncio.StreamWriter) -> None:
        writer.write((b"*1\r\n" + bulk(b"some value"))[:cut])
        await writer.drain()
        connection = writer.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()

    async with scripted_server(break_off) as server, tier_on(server) as tier:
        with pytest.raises(CacheUnavailable):
            await tier.get_many(["key"])
        assert tier.idle_connections == 0

        server.answer = echo_keys
        assert await tier.get_many(["key"]) == [b"key"]


@pytest.mark.parametrize(
    "reply",
    [
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        b"\x16\x03\x01\x02\x00garbage of tls",
        b"\r\n\r\n",
        b"*-7\r\n",
        b"*1\r\n$-9\r\nx\r\n",
        b"*99999999999999999999\r\n",
        b"$abc\r\n",
        b":not a number\r\n",
        b"*1\r\n:12\r\n",
        b"*1\r\n*1\r\n$1\r\nx\r\n",
        b"*2\r\n$1\r\nx\r\n$1\r\ny\r\n",
        b"*0\r\n",
        b"*-1\r\n",
        b"$-1\r\n",
        b"$3\r\nkey\r\n",
        b"+OK\r\n",
        b":1\r\n",
        b"*1\r\n-ERR inside\r\n",
        b"*1\r\n-LOADING inside\r\n",
        b"%1\r\n+a\r\n+b\r\n",
        b">2\r\n+push\r\n+message\r\n",
        b",1.5\r\n",
        b"#t\r\n",
        b"_\r\n",
        b"(12345678901234567890123\r\n",
        b"-\r\n",
        b"-lower case\r\n",
        b"-MOVED garbage\r\n",
        b"-ASK 1 2 3\r\n",
        b"-\xff\xfe not utf-8\r\n",
    ],
)
async def test_garbage_is_an_unusable_tier_and_never_an_answer(reply: bytes) -> None:
    """Whatever comes over the wire instead of a reply, the caller gets a CacheError, and then a new connection."""
    async with scripted_server(say(reply)) as server, tier_on(server, timeout_seconds=SHORT_SECONDS) as tier:
        for call in (
            tier.get_many(["key"]),
            tier.put_many([Hint(key="key", text=b"text", lifetime_seconds=1)] * 2),
            tier.discard("key", b"text"),
            tier.probe(),
            tier.describe(),
            tier.read_position(),
            tier.apply([], expected=None, position=b"position"),
            tier.scan(0, pattern="*", count=10),
        ):
            try:
                found = await call
            except CacheError:
                continue
            assert reply in RIGHT_FOR_SOME_CALL, found

        server.answer = echo_keys
        await tier.reset()
        assert await tier.get_many(["key"]) == [b"key"]


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        (b"-LOADING Redis is loading the dataset in memory\r\n", "LOADING"),
        (b"-MISCONF Redis is configured to save RDB snapshots\r\n", "MISCONF"),
        (b"-CLUSTERDOWN Hash slot not served\r\n", "CLUSTERDOWN"),
        (b"-MOVED 3999 127.0.0.1:6381\r\n", "MOVED"),
        (b"-NOAUTH Authentication required.\r\n", "NOAUTH"),
        (b"-NOPERM this user has no permissions\r\n", "NOPERM"),
        (b"-BUSY Redis is busy running a script\r\n", "BUSY"),
        (b"-DENIED Redis is running in protected mode\r\n", "DENIED"),
        (b"-ERR max number of clients reached\r\n", "ERR"),
        (b"-ERR unknown command 'MGET', with args beginning with: 'secret'\r\n", "ERR"),
    ],
)
async def test_error_replies_are_told_by_their_code_alone(reply: bytes, reason: str) -> None:
    """The reason names the code and repeats nothing of the server's text."""
    async with scripted_server(say(reply)) as server, tier_on(server) as tier:
        with pytest.raises(CacheUnavailable) as caught:
            await tier.get_many(["key"])

    assert str(caught.value) == f"Redis answered {reason}"


async def test_calls_time_out_when_the_server_hangs_while_connecting() -> None:
    """A server that accepts and never answers the password costs one timeout and leaves no connection behind."""
    async with (
        scripted_server(say_nothing) as server,
        tier_on(server, timeout_seconds=SHORT_SECONDS, password="password") as tier,
    ):
        ended = await asyncio.gather(*(tier.get_many(["key"]) for _ in range(4)), return_exceptions=True)
        assert all(isinstance(one, CacheTimeout) for one in ended), ended
        await asyncio.sleep(0.02)
        assert server.open_connections == 0
        assert tier.idle_connections == 0


async def test_connections_in_use_are_closed_after_their_call_when_a_reset_came_in_between() -> None:
    """A reset reaches connections in use too, without breaking their calls."""
    go_on = asyncio.Event()

    async def answer_when_told(command: Command, writer: asyncio.StreamWriter) -> None:
        await go_on.wait()
        await echo_keys(command, writer)

    async with scripted_server(answer_when_told) as server, tier_on(server) as tier:
        calls = [asyncio.create_task(tier.get_many(["key"])) for _ in range(4)]
        while len(server.commands) < 4:  # noqa: ASYNC110  (what is waited for has no event)
            await asyncio.sleep(0)
        await tier.reset()
        go_on.set()

        assert await asyncio.gather(*calls) == [[b"key"]] * 4
        assert tier.idle_connections == 0


async def test_no_more_than_the_pool_talk_at_once() -> None:
    """A hundred callers share four connections, and all are answered."""
    most = 0

    async def watch(command: Command, writer: asyncio.StreamWriter) -> None:
        nonlocal most
        most = max(most, server.open_connections)
        await asyncio.sleep(0)
        await echo_keys(command, writer)

    async with scripted_server(watch) as server, tier_on(server) as tier:
        answers = await asyncio.gather(*(tier.get_many([f"key-{number}"]) for number in range(100)))

    assert answers == [[b"key-%d" % number] for number in range(100)]
    assert most <= 4
    assert server.connections == 4
