"""Calls to a real service over HTTP, one at a time or at a fixed rate."""

import asyncio
import gc
import math
import random
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import orjson

from tests.servers.service import Service

OPERATOR_KEY = "operator-key-of-the-real-services"
ENGINE_KEY = "engine-key-of-the-real-services!!"
HIT = "zpmeow-redis; hit"
MISS = "zpmeow; fwd=miss"
BYPASS = "zpmeow; fwd=bypass"
STALE = "zpmeow; hit; detail=stale"


@dataclass(slots=True, frozen=True, kw_only=True)
class Reply:
    """An answer, read whole, and how long it took from the moment at which it should have been asked for."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    due_at: float
    seconds: float

    @property
    def data(self) -> dict[str, Any]:
        """What stands under `data`."""
        data: dict[str, Any] = orjson.loads(self.body)["data"]
        return data

    @property
    def error(self) -> str:
        """The error's code."""
        code: str = orjson.loads(self.body)["error"]["code"]
        return code

    @property
    def cache_status(self) -> str | None:
        """Who answered."""
        return self.headers.get("Cache-Status")


@dataclass(slots=True, kw_only=True)
class Session:
    """A session that a test made: how to name it and its key."""

    id: str
    name: str
    key: str


class Caller:
    """A client of one service, with the operator's key unless another one is given."""

    def __init__(self, *, service: Service, client: aiohttp.ClientSession) -> None:
        """Call this service through this client."""
        self.service = service
        self._client = client

    async def call(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        key: str | None = OPERATOR_KEY,
        headers: Mapping[str, str] | None = None,
        due_at: float | None = None,
    ) -> Reply:
        """Send a request; `key` None sends none; the reply's time counts from `due_at` (monotonic) if given."""
        sent = dict(headers or {})
        if key is not None:
            sent["X-API-Key"] = key
        if body is not None:
            sent["Content-Type"] = "application/json"
        began = time.monotonic() if due_at is None else due_at
        payload = None if body is None else orjson.dumps(body)
        async with self._client.request(method, self.service.url + path, data=payload, headers=sent) as answer:
            content = await answer.read()
            return Reply(
                status=answer.status,
                headers=answer.headers.copy(),
                body=content,
                due_at=began,
                seconds=time.monotonic() - began,
            )

    async def get(self, path: str, *, key: str | None = OPERATOR_KEY, due_at: float | None = None) -> Reply:
        """Send a GET."""
        return await self.call("GET", path, key=key, due_at=due_at)

    async def create(self, name: str, **fields: object) -> Session:
        """Make a session."""
        reply = await self.call("POST", "/sessions/create", {"name": name, **fields})
        assert reply.status == 201, reply.body
        return Session(id=reply.data["session"]["id"], name=name, key=reply.data["api_key"])

    async def create_many(self, count: int, prefix: str = "session") -> list[Session]:
        """Make some sessions, a few at a time."""
        made: list[Session] = []
        for first in range(0, count, 10):
            numbers = range(first, min(first + 10, count))
            made += await asyncio.gather(*(self.create(f"{prefix}-{number}") for number in numbers))
        return made

    async def until(self, what: str, ask: Callable[[], Awaitable[bool]], *, seconds: float = 10.0) -> float:
        """Ask again and again until the answer is yes; return how long that took, in seconds."""
        began = time.monotonic()
        while not await ask():
            assert time.monotonic() - began < seconds, f"not {what} after {seconds:g} s"
            await asyncio.sleep(0.02)
        return time.monotonic() - began

    async def is_trusted(self) -> bool:
        """Tell whether reads may be answered from Redis."""
        trusted: bool = (await self.get("/metrics")).data["cache"]["trusted"]
        return trusted

    async def until_hits(self, path: str, *, key: str = OPERATOR_KEY, seconds: float = 10.0) -> float:
        """Read until Redis answers."""

        async def hits() -> bool:
            return (await self.get(path, key=key)).cache_status == HIT

        return await self.until(f"a hit of {path}", hits, seconds=seconds)


@dataclass(slots=True)
class Load:
    """What became of requests that were sent at a fixed rate, whether or not those before were answered."""

    replies: list[Reply] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    planned: int = 0
    most_late_seconds: float = 0.0

    @property
    def statuses(self) -> dict[int, int]:
        """Return how often each status came."""
        counts: dict[int, int] = {}
        for reply in self.replies:
            counts[reply.status] = counts.get(reply.status, 0) + 1
        return counts

    def check_was_sent(self) -> None:
        """Fail if less than 95 % of the schedule was kept: such a run shows nothing."""
        sent = len(self.replies) + len(self.failures)
        assert sent >= 0.95 * self.planned, f"sent {sent} of {self.planned}"

    def quantile(self, share: float) -> float:
        """Return the time, in milliseconds, within which this share was answered."""
        ordered = sorted(reply.seconds for reply in self.replies)
        if not ordered:
            return math.nan
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))] * 1000

    def summary(self) -> str:
        """Describe it in a line."""
        return (
            f"{len(self.replies)} answers {self.statuses}, {len(self.failures)} failures,"
            f" p50 {self.quantile(0.5):.1f} ms, p99 {self.quantile(0.99):.1f} ms, max {self.quantile(1):.1f} ms"
        )


Request = Callable[[float], Awaitable[Reply]]
"""Makes one request that was due at the given moment (monotonic)."""


async def send_at_rate(make: Callable[[int], Request], *, per_second: float, seconds: float) -> Load:
    """Send requests on a fixed schedule and wait for all answers, 30 s at most.

    An answer's time counts from its place in the schedule, so that a stalled service (or a stalled client) shows.
    """
    load = Load(planned=int(per_second * seconds))
    # A full collection of a test run's many objects takes 0.1 s, which would be measured as the service's.
    gc.collect()
    gc.disable()
    try:
        await _send(load, make, per_second=per_second, seconds=seconds)
    finally:
        gc.enable()
    return load


async def _send(load: Load, make: Callable[[int], Request], *, per_second: float, seconds: float) -> None:
    began = time.monotonic()
    tasks = []

    async def send(request: Request, due_at: float) -> None:
        try:
            load.replies.append(await request(due_at))
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            load.failures.append(repr(error))

    for number in range(load.planned):
        due_at = began + number / per_second
        wait = due_at - time.monotonic()
        if wait > 0:
            await asyncio.sleep(wait)
        late = time.monotonic() - due_at
        load.most_late_seconds = max(load.most_late_seconds, late)
        if time.monotonic() > began + seconds * 1.05:
            break  # This machine could not keep the schedule: `check_was_sent` tells.
        tasks.append(asyncio.create_task(send(make(number), due_at)))
    if tasks:
        await asyncio.wait_for(asyncio.gather(*tasks), 30)


def reading(caller: Caller, sessions: Sequence[Session], *, seed: int = 1) -> Callable[[int], Request]:
    """Read /info and /status, by the session's key, and by the operator's for every fourth."""
    chance = random.Random(seed)

    def make(number: int) -> Request:
        session = chance.choice(sessions)
        path = f"/sessions/{chance.choice((session.id, session.name))}/{chance.choice(('info', 'status'))}"
        key = session.key if number % 4 else OPERATOR_KEY
        return lambda due_at: caller.get(path, key=key, due_at=due_at)

    return make
