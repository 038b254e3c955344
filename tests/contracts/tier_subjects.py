"""The tiers that the contracts are run against, and the ways behind them."""

import contextlib
import functools
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

import fakeredis
import redis
from fakeredis.aioredis import FakeAsyncRedisConnection

from zpmeow.cache.envelope import Envelope
from zpmeow.cache.position import Position
from zpmeow.cache.redis_tier import RedisTier
from zpmeow.cache.tier import Entry
from zpmeow.events import ignore

KEY = "zpmeow:{1}:session"
EPOCH = b"epoch-one-------"
OTHER_EPOCH = b"epoch-two-------"
LOADED_AT_MS = 1_000_000
TIMEOUT_SECONDS = 5.0  # Far above what a healthy server takes on a busy machine: no test here is about time.

T_co = TypeVar("T_co", covariant=True)


class Backdoor(Protocol):
    """How a test reaches behind the tier."""

    def place(self, key: str, value: bytes | None) -> None:
        """Put bytes under a key, or a value of a wrong type (None), without a rule and without an end."""
        ...

    def lifetime_seconds(self, key: str) -> float | None:
        """Tell how long the key still stands, None for ever."""
        ...


@dataclass(slots=True, frozen=True)
class RedisBackdoor:
    """Reaches behind the tier with a client of its own."""

    client: "redis.Redis"

    def place(self, key: str, value: bytes | None) -> None:
        """As in Backdoor."""
        self.client.delete(key)
        if value is None:
            self.client.rpush(key, "an element")
        else:
            self.client.set(key, value)

    def lifetime_seconds(self, key: str) -> float | None:
        """As in Backdoor."""
        left = self.client.pttl(key)
        assert isinstance(left, int)
        return None if left < 0 else left / 1000


@dataclass(slots=True, frozen=True)
class Subject(Generic[T_co]):
    """A tier and the way behind it."""

    tier: T_co
    backdoor: Backdoor


def redis_tier(url: str) -> RedisTier:
    """Make the tier that is tested against a server."""
    return RedisTier(url=url, pool_size=4, timeout_seconds=TIMEOUT_SECONDS, observer=ignore)


@contextlib.contextmanager
def client_of(url: str) -> Iterator["redis.Redis"]:
    """Open a plain client for the backdoor."""
    client = redis.Redis.from_url(url)
    try:
        yield client
    finally:
        client.close()


@asynccontextmanager
async def on_fakeredis() -> AsyncIterator[Subject[RedisTier]]:
    """Open the tier over connections that lead to something that only plays Redis."""
    server = fakeredis.FakeServer(version=(7,))
    tier = redis_tier("redis://nowhere.invalid/0")
    make = functools.partial(FakeAsyncRedisConnection, server=server, version=(7,), server_type="redis")
    tier._connections._class = make  # type: ignore[assignment]  # What it is called with is the same.
    yield Subject(tier, RedisBackdoor(fakeredis.FakeRedis(server=server)))
    await tier.close()


def envelope(
    version: int,
    payload: bytes | None = b"payload",
    *,
    key: str = KEY,
    epoch: bytes = EPOCH,
    written_at_ms: int = LOADED_AT_MS,
) -> bytes:
    """Make an envelope; without a payload it is a fence."""
    return Envelope(
        kind=1,
        schema=1,
        epoch=epoch,
        version=version,
        written_at_ms=written_at_ms,
        fresh_until_ms=written_at_ms + 1,
        usable_until_ms=written_at_ms + 2,
        payload=payload,
    ).encode(key)


def entry(data: bytes, *, lifetime_seconds: float = 600, retire: bool = False, key: str = KEY) -> Entry:
    """Make an entry of an envelope."""
    return Entry(key=key, envelope=data, lifetime_seconds=lifetime_seconds, retire=retire)


def position(*, at_ms: int = LOADED_AT_MS, epoch: bytes = EPOCH, xmax: int = 7) -> bytes:
    """Encode a position; each one differs from all others."""
    return Position(
        epoch=epoch, database=b"d" * 16, at_ms=at_ms, snapshot=(xmax, xmax, ()), anchor=(1, 1, "00" * 16)
    ).encode()
