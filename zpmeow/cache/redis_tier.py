"""A Redis server as a cache tier and as the relay's sink: each method is one conversation, in one round trip as a rule.

Entries are written by scripts that Redis runs as one step (`put_if_newer.lua`, `apply_changes.lua`, and before both
`entries.lua`), so that a command which timed out here and runs there late does no harm. The scripts are called by
their hash; a server that does not know one (new, restarted, SCRIPT FLUSH) is sent the source in a second round trip
of the same conversation.

Connections and the driver's errors are `redis_connections`' business.
"""

import asyncio
import math
import secrets
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from hashlib import sha1
from importlib.resources import files

from typing_extensions import override

from zpmeow.cache.change_sink import ChangeSink
from zpmeow.cache.envelope import MAX_ENVELOPE_BYTES
from zpmeow.cache.errors import CacheUnavailable
from zpmeow.cache.position import POSITION_KEY
from zpmeow.cache.redis_connections import Ask, Command, ErrorReply, RedisConnections, Replies
from zpmeow.cache.tier import MAX_VALUE_AGE_MS, CacheTier, Entry, PutOutcome, TierInfo, Write
from zpmeow.events import CacheOperated, Observer

CANARY_LIFETIME_MS = 2000
"""Long enough to be read back within the same round trip on the slowest server, short enough to leave no trace."""

_MOVED_ON = frozenset({"READONLY", "MASTERDOWN", "LOADING", "NOAUTH", "WRONGPASS", "NOPERM", "MOVED", "CLUSTERDOWN"})
"""Answers after which another server may stand behind the address: the connections are made anew."""

_OUTCOMES = {
    0: PutOutcome.SUPERSEDED,
    1: PutOutcome.APPLIED,
    2: PutOutcome.REPLACED_CORRUPT,
    3: PutOutcome.REFUSED,
}


@dataclass(slots=True, frozen=True)
class _Script:
    source: bytes
    sha: str


def _load_script(*names: str) -> _Script:
    source = b"".join((files("zpmeow.cache") / name).read_bytes() for name in names)
    return _Script(source, sha1(source, usedforsecurity=False).hexdigest())


_PUT_IF_NEWER = _load_script("entries.lua", "put_if_newer.lua")
_APPLY_CHANGES = _load_script("entries.lua", "apply_changes.lua")
_DELETE_IF_SAME = _load_script("delete_if_same.lua")


class RedisTier(CacheTier, ChangeSink):
    """A CacheTier on one Redis server, 6.2 or newer."""

    def __init__(self, *, url: str, pool_size: int, timeout_seconds: float, observer: Observer) -> None:
        """Prepare; nothing is connected before the first call. Raises ValueError for an unusable URL.

        Args:
            url: redis://, rediss:// or unix://, as redis-py reads them. Never repeated in an error.
            pool_size: how many connections talk at once.
            timeout_seconds: how long to wait for a turn, and for connecting and talking together.
            observer: is told of each operation (get, put, apply, delete, ping, info, scan) with its duration.
        """
        self._connections = RedisConnections(url=url, pool_size=pool_size, timeout_seconds=timeout_seconds)
        self._observer = observer
        self._canary_key = f"zpmeow:canary:{secrets.token_hex(8)}"

    def __repr__(self) -> str:
        """Show how many connections are idle; the address may hold a password."""
        return f"RedisTier(idle_connections={self.idle_connections})"

    @property
    def idle_connections(self) -> int:
        """How many connections wait for a call."""
        return self._connections.idle_count

    @override
    async def get_many(self, keys: Sequence[str]) -> list[bytes | None]:
        if not keys:
            return []
        (values,) = await self._ask("get", [("MGET", *keys)])
        if not isinstance(values, list) or len(values) != len(keys):
            raise await self._confused()
        if not all(value is None or isinstance(value, bytes) for value in values):
            raise await self._confused()
        return values

    @override
    async def put_many(self, writes: Sequence[Write]) -> list[PutOutcome]:
        if not writes:
            return []

        async def put(ask: Ask) -> Replies:
            replies = await ask([_put_command(write) for write in writes])
            if _NO_SCRIPT not in replies:
                return replies
            # Everything from the first one on once more, so that the order stays as asked for.
            first = replies.index(_NO_SCRIPT)
            return replies[:first] + await ask([_put_command(write, with_source=True) for write in writes[first:]])

        replies = await self._converse("put", put)
        outcomes: list[PutOutcome] = []
        for write, reply in zip(writes, replies, strict=True):
            outcome = _put_outcome(write, reply)
            if outcome is None:
                raise await self._confused()
            outcomes.append(outcome)
        return outcomes

    @override
    async def discard(self, key: str, expected: bytes) -> bool:
        return await self._run_script("delete", _DELETE_IF_SAME, 1, key, expected)

    @override
    async def read_position(self) -> bytes | None:
        (position,) = await self.get_many([POSITION_KEY])
        return position

    @override
    async def apply(self, fences: Sequence[Entry], *, expected: bytes | None, position: bytes) -> bool:
        keys = [POSITION_KEY, *(fence.key for fence in fences)]
        return await self._run_script(
            "apply",
            _APPLY_CHANGES,
            len(keys),
            *keys,
            expected or b"",
            position,
            max((_lifetime_ms(fence) for fence in fences), default=0),
            MAX_ENVELOPE_BYTES,
            *(fence.envelope for fence in fences),
        )

    @override
    async def probe(self) -> None:
        # All in one round trip; the value is new each time, so no older canary is taken for this one.
        value = secrets.token_hex(16).encode()
        key = self._canary_key
        commands: list[Command] = [("PING",), ("SET", key, value, "PX", CANARY_LIFETIME_MS), ("GET", key)]
        if await self._ask("ping", commands) != [b"PONG", b"OK", value]:
            raise await self._confused()

    @override
    async def describe(self) -> TierInfo:
        # A server that keeps INFO to itself (hosted ones do, by an ACL or another name) is described by what is left.
        commands: list[Command] = [("INFO", "server"), ("INFO", "memory"), ("DBSIZE",)]
        server, memory, keys = await self._ask("info", commands, errors_are_answers=True)
        if not isinstance(keys, int):
            raise await self._confused()
        server_facts, memory_facts = _facts(server), _facts(memory)
        used = memory_facts.get("used_memory", "")
        return TierInfo(
            version=f"Redis {server_facts.get('redis_version', 'of an unknown version')}",
            total_keys=keys,
            used_memory_bytes=int(used) if used.isdecimal() else None,
            maxmemory_policy=memory_facts.get("maxmemory_policy"),
        )

    async def scan(self, cursor: int, *, pattern: str, count: int) -> tuple[int, list[str]]:
        """Return the next cursor (0: that was all) and about `count` keys that fit the pattern; some may come twice."""
        (reply,) = await self._ask("scan", [("SCAN", cursor, "MATCH", pattern, "COUNT", count)])
        match reply:
            case [bytes() as following, list() as keys]:
                return int(following), [key.decode("utf-8", "replace") for key in keys]
            case _:
                raise await self._confused()

    @override
    async def reset(self) -> None:
        await self._connections.drop()

    @override
    async def close(self) -> None:
        await self._connections.close()

    async def _run_script(self, operation: str, script: _Script, *words: str | bytes | int) -> bool:
        """Run a script that answers 0 or 1."""

        async def run(ask: Ask) -> Replies:
            replies = await ask([("EVALSHA", script.sha, *words)])
            return replies if _NO_SCRIPT not in replies else await ask([("EVAL", script.source, *words)])

        (answer,) = await self._converse(operation, run)
        if answer not in (0, 1):
            raise await self._confused()
        return answer == 1

    async def _ask(self, operation: str, commands: Sequence[Command], *, errors_are_answers: bool = False) -> Replies:
        return await self._converse(operation, lambda ask: ask(commands), errors_are_answers=errors_are_answers)

    async def _converse(
        self,
        operation: str,
        conversation: Callable[[Ask], Awaitable[Replies]],
        *,
        errors_are_answers: bool = False,
    ) -> Replies:
        """Hold a conversation and return its replies; an error reply is raised, unless it is an answer too."""
        clock = asyncio.get_running_loop().time
        began = clock()
        try:
            replies = await self._connections.converse(conversation)
        finally:
            self._observer(CacheOperated(tier="redis", operation=operation, duration_seconds=clock() - began))
        for reply in replies:
            if isinstance(reply, ErrorReply) and not errors_are_answers:
                if reply.code in _MOVED_ON:
                    await self._connections.drop()
                message = f"Redis answered {reply.code}"
                raise CacheUnavailable(message)
        return replies

    async def _confused(self) -> CacheUnavailable:
        """Drop all connections after a reply that fits no question; return the error to raise."""
        await self._connections.drop()
        return CacheUnavailable("unexpected reply")


_NO_SCRIPT = ErrorReply("NOSCRIPT")


def _put_command(write: Write, *, with_source: bool = False) -> Command:
    lifetime_ms = _lifetime_ms(write)
    if not isinstance(write, Entry):
        return ("SET", write.key, write.text, "PX", lifetime_ms)
    script: Command = ("EVAL", _PUT_IF_NEWER.source) if with_source else ("EVALSHA", _PUT_IF_NEWER.sha)
    rest = (write.envelope, lifetime_ms, int(write.retire), MAX_ENVELOPE_BYTES, MAX_VALUE_AGE_MS)
    return (*script, 2, write.key, POSITION_KEY, *rest)


def _lifetime_ms(write: Write) -> int:
    return max(1, math.ceil(write.lifetime_seconds * 1000))


def _put_outcome(write: Write, reply: object) -> PutOutcome | None:
    if isinstance(write, Entry):
        return _OUTCOMES.get(reply) if isinstance(reply, int) else None
    return PutOutcome.APPLIED if reply == b"OK" else None


def _facts(reply: object) -> dict[str, str]:
    """Read the lines `name:value` of an INFO reply; nothing where INFO was refused."""
    if not isinstance(reply, bytes):
        return {}
    lines = (line.partition(":") for line in reply.decode(errors="replace").splitlines())
    return {name: value for name, _, value in lines}
