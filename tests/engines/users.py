"""The owners of sessions, who wish this and that, and readers who look at what they are told."""

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from enum import Enum
from random import Random
from uuid import UUID

from zpmeow.client import Client, Refused, ServiceAway


class Wish(Enum):
    """How the owner wants the session to be in the end."""

    CONNECTED = "connected"
    DISCONNECTED = "disconnected"
    DELETED = "deleted"


@dataclass(slots=True, eq=False)
class Owned:
    """A session and its owner's last wish. `lock`: an owner wishes one thing after the other."""

    name: str
    id: UUID | None = None
    wish: Wish = Wish.DELETED
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)


@dataclass(slots=True, frozen=True)
class Seen:
    """What a reader was told, and when it asked (wall clock)."""

    session: UUID
    status: str
    asked_at: float


class Users:
    """All of them, through one client with the operator's key."""

    def __init__(self, *, client: Client, chance: Random, sessions: int) -> None:
        """Begin without any session."""
        self._client = client
        self._chance = chance
        self.sessions = [Owned(f"session-{number:03}") for number in range(sessions)]
        self.seen: list[Seen] = []
        self.wishes = 0
        self.codes = 0
        self.unsure: set[Owned] = set()
        """Those whose owner has not heard yet whether the wish was taken."""

        self._unpaired: deque[Owned] = deque(maxlen=10)

    async def create_all(self) -> None:
        """Make all sessions and wish half of them connected."""
        for first in range(0, len(self.sessions), 20):
            await asyncio.gather(*(self._create(owned) for owned in self.sessions[first : first + 20]))
        for owned in self.sessions[::2]:
            await self._connect(owned)

    async def wish_for_ever(self, *, per_second: float) -> None:
        """Wish at random, so often."""
        async with asyncio.TaskGroup() as group:
            while True:
                group.create_task(self.wish_one())
                await asyncio.sleep(self._chance.expovariate(per_second))

    async def wish_one(self) -> None:
        """One owner wishes something."""
        owned = self._chance.choice(self.sessions)
        what = self._chance.random()
        async with owned.lock:
            self.wishes += 1
            self.unsure.add(owned)
            if owned.id is None:
                await self._create(owned)
            elif what < 0.5:
                await self._connect(owned)
            elif what < 0.6:
                await self._pair(owned)
            elif what < 0.93:
                await self._disconnect(owned)
            else:
                await self._delete(owned)
            self.unsure.discard(owned)

    async def confirm(self, owned: Owned) -> None:
        """Wish the last wish once more, of which nobody knows whether it was heard."""
        async with owned.lock:
            try:
                owned.id = (await self._client.session(owned.name)).id
            except Refused:
                owned.id, owned.wish = None, Wish.DELETED
                return
            if owned.wish is Wish.CONNECTED:
                await self._connect(owned)
            else:
                await self._disconnect(owned)

    async def read_for_ever(self, *, per_second: float) -> None:
        """Look at statuses at random, so often."""
        async with asyncio.TaskGroup() as group:
            while True:
                group.create_task(self._read(self._chance.choice(self.sessions)))
                await asyncio.sleep(1 / per_second)

    async def wait_for_codes_for_ever(self) -> None:
        """Wait for codes of sessions made lately, one user after the other; some hang up before there is one."""
        while True:
            owned = self._chance.choice(self._unpaired or self.sessions)
            if owned.id is None:
                await asyncio.sleep(0.05)
                continue
            try:
                async with asyncio.timeout(self._chance.uniform(0.5, 8)):
                    self.codes += await self._client.qr_code(owned.id, wait_seconds=5) is not None
            except TimeoutError:
                continue  # This one has hung up.
            except (Refused, ServiceAway):
                await asyncio.sleep(0.5)

    async def _read(self, owned: Owned) -> None:
        if owned.id is None:
            return
        asked_at = time.time()
        try:
            status = await self._client.status(owned.id)
        except (Refused, ServiceAway):
            return
        self.seen.append(Seen(status.session_id, status.session_status, asked_at))

    async def _create(self, owned: Owned) -> None:
        while True:
            try:
                owned.id = (await self._client.create_session(owned.name)).session.id
            except ServiceAway:
                continue
            except Refused as refused:
                if refused.code != "SESSION_NAME_TAKEN":  # Taken by the try before, of which nobody knew.
                    raise
                owned.id = (await self._client.session(owned.name)).id
            owned.wish = Wish.DISCONNECTED
            self._unpaired.append(owned)
            return

    async def _connect(self, owned: Owned) -> None:
        await self._try(self._client.connect, owned)
        owned.wish = Wish.CONNECTED

    async def _pair(self, owned: Owned) -> None:
        await self._try(lambda session: self._client.pair(session, "5511999999999"), owned)
        owned.wish = Wish.CONNECTED

    async def _disconnect(self, owned: Owned) -> None:
        await self._try(self._client.disconnect, owned)
        owned.wish = Wish.DISCONNECTED

    async def _delete(self, owned: Owned) -> None:
        await self._try(self._client.delete_session, owned)
        owned.wish, owned.id = Wish.DELETED, None

    async def _try(self, do: Callable[[UUID], Awaitable[None]], owned: Owned) -> None:
        """Wish until the service has taken it; that a session is connected already is what was wished."""
        assert owned.id is not None
        while True:
            try:
                await do(owned.id)
            except ServiceAway:
                continue
            except Refused as refused:
                if refused.code != "ALREADY_CONNECTED":
                    raise
            return

    async def unfulfilled(self) -> list[str]:
        """Return which wishes have not come true."""
        found = []
        for owned in self.sessions:
            try:
                status = (await self._client.status(owned.name)).session_status.value
            except Refused as refused:
                status = Wish.DELETED.value if refused.code == "SESSION_NOT_FOUND" else refused.code
            if status != owned.wish.value:
                found.append(f"{owned.name} is {status}, and should be {owned.wish.value}")
        return found
