"""The endless tasks that go by what the database says. They begin when the schema is there."""

import asyncio
import random
from collections.abc import Sequence
from contextlib import AsyncExitStack

from zpmeow.bootstrap.cache_wiring import CacheParts, make_cache_feed
from zpmeow.bootstrap.supervision import running
from zpmeow.domain.changes import ChangeFollower, ChangeLog
from zpmeow.domain.commands import CommandQueue
from zpmeow.domain.errors import Unavailable
from zpmeow.events import Observer
from zpmeow.postgres.change_feed import PostgresChangeFeed
from zpmeow.postgres.ready_connections import ReadyConnections
from zpmeow.repositories.inspector import Inspector
from zpmeow.services.control_watch import ControlWatch
from zpmeow.services.silence_sweep import SilenceSweep

_TRUST_SECONDS = 1.0
"""How long the start waits for a believed Redis: with one that is there it takes a few milliseconds."""

_TRUST_POLL_SECONDS = 0.01
_PRUNE_SECONDS = 60.0
_COMMAND_RETENTION_SECONDS = 3600.0  # So long an acknowledgement that is sent again is understood.


class EndlessTasks:
    """Change feed, ready connections, pruning, sweeping; with a cache relay, position watch and inspector, too."""

    def __init__(
        self,
        *,
        parts: CacheParts,
        watch: ControlWatch,
        change_log: ChangeLog,
        inspector: Inspector,
        sweep: SilenceSweep,
        ready: ReadyConnections,
        commands: CommandQueue,
        followers: Sequence[ChangeFollower],
        database_url: str,
        retention_seconds: float,
        observer: Observer,
    ) -> None:
        """Prepare; nothing runs before `start`. `followers` are told by the change feed, after the cache."""
        self._parts = parts
        self._watch = watch
        self._change_log = change_log
        self._inspector = inspector
        self._sweep = sweep
        self._ready = ready
        self._commands = commands
        self._followers = followers
        self._database_url = database_url
        self._retention_seconds = retention_seconds
        self._observer = observer
        self._stack = AsyncExitStack()

    async def start(self) -> None:
        """Start all, and give a Redis that is there the moment that it takes to be believed."""
        relay = self._parts.relay
        enter = self._stack.enter_async_context
        await enter(running("prune", self._prune, observer=self._observer))
        await enter(running("ready-connections", self._ready.run, observer=self._observer))
        await enter(running("silence-sweep", self._sweep.run, observer=self._observer))
        cache = make_cache_feed(self._parts, control_changed=self._watch.look_now, observer=self._observer)
        feed = PostgresChangeFeed(url=self._database_url, followers=(cache, *self._followers))
        await enter(running("change-feed", feed.run, observer=self._observer))
        if relay is None:
            return
        await enter(running("invalidation-relay", relay.run, observer=self._observer))
        await self._wait_for_trust()
        await enter(running("position-watch", self._parts.position_watch.run, observer=self._observer))
        await enter(running("inspector", self._inspector.run, observer=self._observer))

    async def close(self) -> None:
        """Stop all."""
        await self._stack.aclose()

    async def _wait_for_trust(self) -> None:
        deadline = asyncio.get_running_loop().time() + _TRUST_SECONDS
        while self._parts.coherence.verdict.reason is not None and asyncio.get_running_loop().time() < deadline:
            await asyncio.sleep(_TRUST_POLL_SECONDS)
            await self._parts.position_watch.look()

    async def _prune(self) -> None:
        """Remove old lines of the change log and old commands for ever, each process at times of its own."""
        while True:
            await asyncio.sleep(_PRUNE_SECONDS * (0.5 + random.random()))  # noqa: S311  (a pause, no secret)
            try:
                removed = 1
                while removed:
                    removed = await self._change_log.prune(older_than_seconds=self._retention_seconds)
                    removed += await self._commands.prune(older_than_seconds=_COMMAND_RETENTION_SECONDS)
            except Unavailable:
                continue  # The database's own observers tell of it.
