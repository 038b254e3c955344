"""The stores that all subjects share, with sessions in them."""

import asyncio
import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import asyncpg

from benchmarks.harness.cores import OTHER_CORES, on_cores
from benchmarks.harness.subjects import Stores, Zpmeow
from tests.servers.postgres_server import PostgresInstallation, PostgresServer
from tests.servers.redis_server import RedisServer

_INSERT = """
    INSERT INTO sessions (name, key_hash, webhook_url, webhook_events)
    SELECT 'session-' || n, h, 'https://hooks.test/' || n, '{message,status}'
    FROM unnest($1::int[], $2::bytea[]) AS given (n, h)
    RETURNING id::text AS id, name
"""
_BATCH = 10_000


@dataclass(slots=True, frozen=True, kw_only=True)
class Target:
    """A session to ask for, and its key."""

    session_id: str
    key: str

    @property
    def path(self) -> str:
        """What is asked for."""
        return f"/sessions/{self.session_id}/info"


@dataclass(slots=True, frozen=True, kw_only=True)
class Stage:
    """Everything that is there before a subject starts."""

    stores: Stores
    postgres: PostgresServer
    redis: RedisServer
    targets: list[Target]


@contextmanager
def open_stage(*, sessions: int) -> Iterator[Stage]:
    """Start both stores on the cores that the subjects do not have, and make so many sessions."""
    installation = PostgresInstallation()
    try:
        with on_cores(OTHER_CORES):
            postgres, redis = PostgresServer(installation=installation), RedisServer()
            try:
                postgres.start()
                redis.start()
                stores = Stores(database_url=postgres.create_database("benchmarks"), redis_url=redis.url)
                _migrate(stores)
                targets = asyncio.run(_make_sessions(stores.database_url, sessions))
                yield Stage(stores=stores, postgres=postgres, redis=redis, targets=targets)
            finally:
                redis.close()
                postgres.close()
    finally:
        installation.close()


def key_of(number: int) -> str:
    """Return the key of a session."""
    return f"key-{number}-".ljust(40, "k")


def _migrate(stores: Stores) -> None:
    service = Zpmeow("migration")
    try:
        service.start(stores)
    finally:
        service.stop()


async def _make_sessions(database_url: str, many: int) -> list[Target]:
    connection = await asyncpg.connect(database_url)
    made = []
    try:
        for first in range(0, many, _BATCH):
            numbers = list(range(first, min(first + _BATCH, many)))
            hashes = [hashlib.sha256(key_of(number).encode()).digest() for number in numbers]
            for row in await connection.fetch(_INSERT, numbers, hashes):
                number = int(row["name"].removeprefix("session-"))
                made.append(Target(session_id=row["id"], key=key_of(number)))
        await connection.execute("VACUUM ANALYZE")  # Now, instead of by itself in the midst of a measurement.
    finally:
        await connection.close()
    return made
