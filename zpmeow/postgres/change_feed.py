"""The change feed: what the triggers NOTIFY, and the proof that nothing of it is missing.

    LISTEN ── which database is this? since when? ── opened
      │            notifications, in the order of the commits ──→ changed
      └── three times a second a notification to itself ── it comes back ──→ confirmed

Notifications come in the order of their commits, so that one's own coming back proves that all before it have come.
It also tells of a connection that hangs, of a backend that is stuck, of a queue that is not emptied.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Never
from uuid import uuid4

from zpmeow.domain.changes import Change, ChangeFollower
from zpmeow.domain.errors import DatabaseUnavailable
from zpmeow.postgres import statements
from zpmeow.postgres.change_log import database_identity
from zpmeow.postgres.session import Session, open_session

FEED_NAME = "zpmeow feed"
CHANNEL = "zpmeow_changes"  # The triggers' word: see migrations/0002_change_log.sql.
BEAT_SECONDS = 0.3
SILENCE_SECONDS = 3.0
"""A connection that brings no beat for so long is given up. It has not been believed for two thirds of that."""

_RETRY_SECONDS = 0.2
_MAX_DIGITS = 19  # Of a bigint.
_ROUNDING = timedelta(milliseconds=1)  # Positions are cut to milliseconds: never take one for later than it is.
_BEAT = "SELECT pg_notify($1, $2)"
# A process that has just begun to listen waits for a position from after that: the leader shall write one now.
_ASK_FOR_POSITION = f"SELECT pg_notify('{CHANNEL}', 'position::0')"


class PostgresChangeFeed:
    """Listens on a session of its own, and opens another when that breaks off."""

    def __init__(self, *, url: str, followers: Sequence[ChangeFollower]) -> None:
        """Listen at `url` and tell each of the followers, in this order."""
        self._url = url
        self._followers = followers
        self._session: Session | None = None

    async def run(self) -> Never:
        """Listen for ever."""
        while True:
            try:
                await self._listen()
            except DatabaseUnavailable as error:
                self._lose(str(error))
            except BaseException:
                self._session = None  # Its end is no news.
                self._lose(None)
                raise
            await asyncio.sleep(_RETRY_SECONDS)

    async def _listen(self) -> Never:
        # Its own notifications need not wait for the disk, and must not make the writers wait behind them.
        settings = {"synchronous_commit": "off", "statement_timeout": str(round(SILENCE_SECONDS * 1000))}
        idle_timeout = SILENCE_SECONDS * 2
        async with open_session(
            url=self._url, name=FEED_NAME, settings=settings, idle_timeout_seconds=idle_timeout
        ) as session:
            beats = _Beats(self._confirm)
            session.on_end(lambda: self._end(session))
            self._session = session
            await session.listen(beats.channel, beats.receive)
            await session.listen(CHANNEL, self._receive)
            heard_at = time.monotonic()
            row = await session.fetch_row(statements.LOG_STATE)
            since = row["read_at"] + _ROUNDING
            for follower in self._followers:
                follower.opened(database=database_identity(row), since=since, heard_at=heard_at)
            await session.fetch(_ASK_FOR_POSITION)
            while True:
                await beats.send(session)
                await asyncio.sleep(BEAT_SECONDS)
                beats.check()

    def _end(self, session: Session) -> None:
        """Tell of the end at once, without waiting for the next beat; an older session's end is no news."""
        if session is self._session:
            self._lose("the connection broke off")

    def _receive(self, payload: str) -> None:
        parsed = [_parse(line) for line in payload.split(",")]
        changes = [change for change in parsed if change is not None]
        for follower in self._followers:
            follower.changed(changes)

    def _confirm(self, sent_at: float) -> None:
        for follower in self._followers:
            follower.confirmed(sent_at)

    def _lose(self, reason: str | None) -> None:
        for follower in self._followers:
            follower.lost(reason)


class _Beats:
    """The notifications to itself: which were sent when."""

    def __init__(self, confirmed: Callable[[float], None]) -> None:
        self.channel = f"zpmeow_beat_{uuid4().hex}"
        self._confirmed = confirmed
        self._number = 0
        self._sent_at: dict[int, float] = {}
        self._received_at = time.monotonic()

    async def send(self, session: Session) -> None:
        self._number += 1
        self._sent_at[self._number] = time.monotonic()
        await session.fetch(_BEAT, self.channel, str(self._number))

    def receive(self, payload: str) -> None:
        number = int(payload)
        sent_at = self._sent_at.pop(number, None)
        if sent_at is not None:
            self._received_at = time.monotonic()
            self._confirmed(sent_at)
        for older in [sent for sent in self._sent_at if sent < number]:
            del self._sent_at[older]

    def check(self) -> None:
        """Raise DatabaseUnavailable when none has come back for too long."""
        if time.monotonic() - self._received_at > SILENCE_SECONDS:
            message = f"no notification for {SILENCE_SECONDS:g} s"
            raise DatabaseUnavailable(message)


def _parse(line: str) -> Change | None:
    """Read `entity:key:version`; None for what is none of ours: anybody may NOTIFY on any channel."""
    entity, _, rest = line.partition(":")
    key, _, version = rest.rpartition(":")
    if not version.isascii() or not version.isdecimal() or len(version) > _MAX_DIGITS:
        return None
    return Change(entity=entity, key=key, version=int(version))
