"""10,000 random corruptions in a real Redis, read over HTTP: no wrong answer, no error, each one counted.

Entries (session, status, qr, credential) are enveloped: whatever is wrong with one is counted as corrupt, a wrong type
when the fill finds it. Hints (name and key look-ups) hold a bare id without any mark: a damaged one cannot be told from
another id, so that it is counted as nothing and merely proves wrong.
"""

import asyncio
import hashlib
import itertools
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import pytest
import redis as redis_client

from tests.acceptance.real.caller import ENGINE_KEY, HIT, OPERATOR_KEY, Caller, Session
from tests.acceptance.real.conftest import MakeCaller, MakeService
from tests.servers.redis_server import RedisServer
from zpmeow.cache.envelope import MAX_ENVELOPE_BYTES, Envelope, decode

SEED = 20260
SESSIONS = 200
CORRUPTIONS = 10_000
HINT_CORRUPTIONS = 1_000
READERS = 16
ENTITIES = {"session": 1, "status": 2, "qr": 3, "credential": 4}
SCHEMAS = {1: 1, 2: 2, 3: 2, 4: 1}
"""The number of the encoding, by kind."""

ROUTES = {
    "info": ("session", "status", "credential"),
    "status": ("status",),
    "qr": ("qr",),
    "credentials": ("session", "credential"),
}
"""What is damaged before each of the routes is read: what a look-up finds twice is counted twice."""

KINDS = ("flip", "flip", "truncate", "extend", "swap", "other kind", "other schema", "no text", "wrong type")
HUGE_EVERY = 1_000
"""Absurd sizes are few: each is moved over the network several times."""


@pytest.fixture
def store(redis_server: RedisServer) -> Iterator[redis_client.Redis]:
    """The same Redis, seen from beside the service."""
    with redis_client.Redis(port=redis_server.port) as connection:
        yield connection


@dataclass(slots=True, kw_only=True)
class Truth:
    """What must be read of a session."""

    session: Session
    answers: dict[str, dict[str, Any]]


async def make_truth(caller: Caller) -> list[Truth]:
    """Make sessions that all differ in everything, and remember the first, uncached answers."""
    truths = []
    for session in await caller.create_many(SESSIONS, prefix="victim"):
        path = f"/sessions/{session.id}"
        number = session.name.rpartition("-")[2]
        writes = [
            ("PUT", "/credentials", {"device_jid": f"49151{number:>08}@s.whatsapp.net"}),
            ("PUT", "/qr", {"qr_code": f"code of {session.name}", "expires_in": 3600}),
            ("PUT", "/status", {"status": "connecting", "reason": f"reason of {session.name}"}),
        ]
        for method, suffix, body in writes:
            assert (await caller.call(method, path + suffix, body, key=ENGINE_KEY)).status == 200
        answers = {route: (await caller.get(f"{path}/{route}")).data for route in ROUTES}
        assert answers["info"]["session"]["name"] == session.name
        assert answers["qr"]["qr_code"] == f"code of {session.name}"
        truths.append(Truth(session=session, answers=answers))
    return truths


class Vandal:
    """Damages one entry at a time in a way of its choice, and always so that it differs from what stood there."""

    def __init__(self, *, store: redis_client.Redis, sessions: list[Session]) -> None:
        """Damage entries of these sessions."""
        self._store: Any = store  # redis-py's types mix those of its two clients.
        self._sessions = sessions
        self._chance = random.Random(SEED)
        self.done = 0
        self.kinds: dict[str, int] = {}

    def damage(self, session: Session, entity: str) -> None:
        """Damage this entry."""
        self.done += 1
        kind = "huge" if self.done % HUGE_EVERY == 0 else self._chance.choice(KINDS)
        self.kinds[kind] = self.kinds.get(kind, 0) + 1
        key = entry_key(session, entity)
        if kind == "wrong type":
            with self._store.pipeline() as both:  # At once: the service may fill it between the two.
                both.delete(key).hset(key, "field", "value").execute()
            return
        found = self._read(key)
        assert found is not None, f"{key} is not cached"
        damaged = self._damaged(kind, found, session, entity)
        if (
            damaged == found
        ):  # Two flips of one bit, or a value that an earlier swap has carried away and this one back.
            damaged = found[:-1]
        self._store.set(key, damaged, keepttl=True)

    def _read(self, key: str) -> bytes | None:
        """Return what stands there, None for another type."""
        (found,) = self._store.mget([key])
        return found if found is None else bytes(found)

    def _damaged(self, kind: str, found: bytes, session: Session, entity: str) -> bytes:  # noqa: PLR0911  (a kind, a line)
        chance = self._chance
        match kind:
            case "flip":
                bytes_ = bytearray(found)
                for _ in range(chance.choice((1, 1, 2, 8))):
                    bytes_[chance.randrange(len(bytes_))] ^= chance.randrange(1, 256)
                return bytes(bytes_)
            case "truncate":
                return found[: chance.randrange(len(found))]
            case "extend":
                return found + chance.randbytes(chance.randrange(1, 100))
            case "swap":
                other = chance.choice([one for one in self._sessions if one is not session])
                return self._read(entry_key(other, entity)) or b"nothing to swap with"
            case "other kind":
                other_entity = chance.choice([one for one in ENTITIES if one != entity])
                return self._read(entry_key(session, other_entity)) or b"nothing to swap with"
            case "other schema":
                return other_schema(found, entry_key(session, entity), ENTITIES[entity], chance.randrange(10, 60_000))
            case "huge":
                return found + bytes(MAX_ENVELOPE_BYTES * chance.choice((1, 8)))
            case _:
                return chance.randbytes(chance.randrange(200))


def entry_key(session: Session, entity: str) -> str:
    """Name the key of an entry."""
    return f"zpmeow:{{{session.id}}}:{entity}"


def other_schema(found: bytes, key: str, kind: int, schema: int) -> bytes:
    """Write the entry as another release might: sound in all but the number of its encoding."""
    envelope = decode(found, key=key, kind=kind, schema=SCHEMAS[kind])
    assert isinstance(envelope, Envelope)
    return Envelope(
        kind=kind,
        schema=schema,
        epoch=envelope.epoch,
        version=envelope.version,
        written_at_ms=envelope.written_at_ms,
        fresh_until_ms=envelope.fresh_until_ms,
        usable_until_ms=envelope.usable_until_ms,
        payload=envelope.payload,
    ).encode(key)


async def read_right(caller: Caller, truth: Truth, *, route: str, wrong: list[str]) -> None:
    """Read one route of a session and hold it against the truth."""
    reply = await caller.get(f"/sessions/{truth.session.id}/{route}")
    if reply.status != 200 or reply.data != truth.answers[route]:
        wrong.append(f"{truth.session.name} {route}: {reply.status} {reply.body!r}")


async def for_each(truths: list[Truth], work: Callable[[Truth], Any]) -> None:
    """Work on all, a few at a time."""
    places = asyncio.Semaphore(READERS)

    async def one(truth: Truth) -> None:
        async with places:
            await work(truth)

    await asyncio.gather(*(one(truth) for truth in truths))


async def all_sound(store: redis_client.Redis, truths: list[Truth], caller: Caller) -> None:
    """Wait until what was damaged has been replaced: nobody waits for fills, and a look-up before is another count."""
    raw: Any = store
    entries = {entry_key(truth.session, entity): kind for truth in truths for entity, kind in ENTITIES.items()}

    async def are_sound() -> bool:
        found = raw.mget(list(entries))
        return all(
            data is not None and isinstance(decode(data, key=key, kind=kind, schema=SCHEMAS[kind]), Envelope)
            for data, (key, kind) in zip(found, entries.items(), strict=True)
        )

    await caller.until("filled again", are_sound)


async def test_no_corruption_of_an_entry_reaches_a_user_and_each_is_counted(
    redis_server: RedisServer,
    store: redis_client.Redis,
    database_url: str,
    new_service: MakeService,
    new_caller: MakeCaller,
    note: Callable[[str, object], None],
) -> None:
    """10,000 damaged entries: no wrong answer, no error, and the counter of corrupt look-ups says exactly 10,000."""
    service = new_service(
        DATABASE_URL=database_url,
        REDIS_URL=redis_server.url,
        LOG_REQUESTS="false",
        # A timeout on a busy machine is answered from the database, where no corruption can be counted.
        CACHE_TIMEOUT="5s",
    ).start()
    caller = new_caller(service)
    truths = await make_truth(caller)
    vandal = Vandal(store=store, sessions=[truth.session for truth in truths])
    wrong: list[str] = []

    for route, damaged in itertools.cycle(ROUTES.items()):
        await all_sound(store, truths, caller)
        if vandal.done >= CORRUPTIONS:
            break
        for truth, entity in itertools.product(truths, damaged):
            vandal.damage(truth.session, entity)
        await for_each(truths, partial(read_right, caller, route=route, wrong=wrong))

    note("corruptions", {"all": vandal.done, **vandal.kinds})
    metrics = service.metrics()
    assert wrong == []
    counted = metrics.total("zpmeow_cache_lookups_total", outcome="corrupt")
    assert counted == vandal.done
    assert metrics.transitions() == {("open", "half_open"): 1, ("half_open", "closed"): 1}
    assert (await caller.get(f"/sessions/{truths[0].session.id}/info")).cache_status == HIT


async def test_no_corruption_of_a_hint_reaches_a_user(
    redis_server: RedisServer,
    store: redis_client.Redis,
    database_url: str,
    new_service: MakeService,
    new_caller: MakeCaller,
) -> None:
    """Look-ups by name and key that lead elsewhere, nowhere, or are no id at all open and show the right session."""
    service = new_service(
        DATABASE_URL=database_url, REDIS_URL=redis_server.url, LOG_REQUESTS="false", CACHE_TIMEOUT="5s"
    ).start()
    caller = new_caller(service)
    sessions = await caller.create_many(50, prefix="victim")
    chance = random.Random(SEED)
    raw: Any = store
    wrong: list[str] = []

    async def read(session: Session) -> None:
        key = f"zpmeow:key:{hashlib.sha256(session.key.encode()).hexdigest()}"
        for hint in (f"zpmeow:name:{session.name}", key):
            damage_hint(raw, hint, chance, chance.choice(sessions).id)
        for presented in (OPERATOR_KEY, session.key):
            reply = await caller.get(f"/sessions/{session.name}/info", key=presented)
            if reply.status != 200 or reply.data["session"]["id"] != session.id:
                wrong.append(f"{session.name}: {reply.status} {reply.body!r}")

    for _ in range(HINT_CORRUPTIONS // (2 * len(sessions))):
        await asyncio.gather(*(read(session) for session in sessions))

    assert wrong == []
    assert service.metrics().total("zpmeow_cache_lookups_total", outcome="error") == 0
    for session in sessions:
        await caller.until_hits(f"/sessions/{session.name}/info", key=session.key)


def damage_hint(store: Any, hint: str, chance: random.Random, other_id: str) -> None:  # noqa: ANN401  (redis-py's types)
    """Write something wrong under a look-up."""
    match chance.randrange(5):
        case 0:
            store.set(hint, other_id)
        case 1:
            store.set(hint, chance.randbytes(chance.randrange(100)))
        case 2:
            with store.pipeline() as both:  # At once: the service may fill it between the two.
                both.delete(hint).rpush(hint, "value").execute()
        case 3:
            store.set(hint, "00000000-0000-4000-8000-000000000000")
        case _:
            store.set(hint, bytes(1024 * 1024))
