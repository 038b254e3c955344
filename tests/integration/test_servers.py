"""The test servers themselves: what tests rely on when they break one."""

import asyncio
import socket

import asyncpg
import pytest

from tests.servers.postgres_server import PostgresServer
from tests.servers.redis_server import RedisServer


def test_redis_answers_on_the_same_port_when_restarted_after_kill(own_redis: RedisServer) -> None:
    """A killed Redis refuses connections; a started one is empty and where it was."""
    port = own_redis.port
    own_redis.command("SET", "a", "b")

    own_redis.kill()

    with pytest.raises(ConnectionRefusedError):
        own_redis.command("PING")
    own_redis.start()
    assert own_redis.port == port
    assert own_redis.command("EXISTS", "a") == b":0"


def test_redis_hangs_until_resumed_when_paused(own_redis: RedisServer) -> None:
    """A paused Redis accepts connections and does not answer; a resumed one does."""
    own_redis.pause()

    with pytest.raises(TimeoutError):
        own_redis.command("PING")
    own_redis.resume()
    assert own_redis.command("PING") == b"+PONG"


def test_redis_is_empty_when_a_test_begins(redis_server: RedisServer) -> None:
    """No test sees another one's keys."""
    assert redis_server.command("DBSIZE") == b":0"


async def test_postgres_keeps_committed_rows_when_killed(own_postgres: PostgresServer) -> None:
    """A killed PostgreSQL refuses connections and has its committed rows after the next start."""
    own_postgres.execute("CREATE TABLE kept AS SELECT 7 AS number")
    connection = await asyncpg.connect(own_postgres.url, timeout=5)

    own_postgres.kill()

    with pytest.raises((asyncpg.PostgresError, OSError)):
        await connection.fetchval("SELECT 1", timeout=5)
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", own_postgres.port))
    own_postgres.start()
    assert own_postgres.execute("SELECT number FROM kept") == "7"


async def test_postgres_hangs_until_resumed_when_paused(own_postgres: PostgresServer) -> None:
    """A paused PostgreSQL does not answer on connections that were open before; a resumed one does."""
    connection = await asyncpg.connect(own_postgres.url, timeout=5)
    own_postgres.pause()

    query = asyncio.create_task(connection.fetchval("SELECT 7"))
    done, _ = await asyncio.wait([query], timeout=0.3)
    assert not done
    own_postgres.resume()

    assert await asyncio.wait_for(query, 5) == 7
    await connection.close(timeout=5)


async def test_database_is_empty_when_a_test_begins(database_url: str) -> None:
    """Each test has a database of its own in which nothing is."""
    connection = await asyncpg.connect(database_url, timeout=5)

    tables = await connection.fetchval("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'", timeout=5)

    assert tables == 0
    await connection.close(timeout=5)


def test_postgres_restart_keeps_port_and_data_when_stopped_in_order(own_postgres: PostgresServer) -> None:
    """An orderly restart changes nothing but the pid."""
    port, pid = own_postgres.port, own_postgres.pid

    own_postgres.restart()

    assert own_postgres.port == port
    assert own_postgres.pid != pid
    assert own_postgres.execute("SHOW server_encoding") == "UTF8"
