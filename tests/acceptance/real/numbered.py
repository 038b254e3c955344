"""Writes that carry a number, and reads that know which number is the least they may see.

A write is acknowledged when its answer has come. A read that begins after that must show this number or a higher one:
anything lower is an old answer, whatever happened to Redis in the meantime.
"""

import asyncio
import random
from collections.abc import Sequence
from dataclasses import dataclass, field

from tests.acceptance.real.caller import ENGINE_KEY, OPERATOR_KEY, Caller, Reply, Request, Session

KINDS = ("webhook", "status", "qr")


@dataclass(slots=True)
class Numbered:
    """One value of one session: the numbers sent and acknowledged so far."""

    sent: int = 0
    acknowledged: int = 0
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)


class NumberedSessions:
    """Sessions whose webhook, status and QR code are numbered, and the old answers that were seen of them."""

    def __init__(
        self, *, caller: Caller, sessions: Sequence[Session], kinds: Sequence[str] = KINDS, seed: int = 2
    ) -> None:
        """Write and read these sessions.

        A status has a state, too: after a write of unknown outcome nobody knows which number comes next. Where writes
        may be refused, leave it out of the kinds.
        """
        self._kinds = kinds
        self._caller = caller
        self._sessions = sessions
        self._chance = random.Random(seed)
        self._values = {(session.id, kind): Numbered() for session in sessions for kind in kinds}
        self.old_answers: list[str] = []
        self.writes = 0

    def load(self, *, write_every: int | None = None) -> "NumberedLoad":
        """Return requests for `send_at_rate`: reads, and writes among them once `write_every` is set."""
        return NumberedLoad(self, write_every)

    async def read_all(self) -> None:
        """Read every value once."""
        for session in self._sessions:
            for kind in self._kinds:
                await self.read(session, kind)

    async def write_all(self) -> None:
        """Write every value once."""
        for session in self._sessions:
            for kind in self._kinds:
                reply = await self.write(session, kind)
                assert reply.status == 200, reply.body

    async def write(self, session: Session, kind: str, due_at: float | None = None) -> Reply:
        """Write the next number; a value is written by one at a time, and waiting for that is not the service's."""
        value = self._values[session.id, kind]
        waits = value.lock.locked()
        async with value.lock:
            due_at = None if waits else due_at
            value.sent += 1
            number = value.sent
            match kind:
                case "webhook":
                    method, path, key = "PATCH", "", OPERATOR_KEY
                    body: object = {"webhook": {"url": f"https://hooks.test/{number}", "events": ["message"]}}
                case "status":
                    method, path, key = "PUT", "/status", ENGINE_KEY
                    body = {"status": "connecting" if number % 2 else "connected", "reason": str(number)}
                case _:
                    method, path, key = "PUT", "/qr", ENGINE_KEY
                    body = {"qr_code": f"code {number}", "expires_in": 600}
            reply = await self._caller.call(method, f"/sessions/{session.id}{path}", body, key=key, due_at=due_at)
            if reply.status == 200:
                value.acknowledged = number
            self.writes += 1
            return reply

    async def read(self, session: Session, kind: str, due_at: float | None = None) -> Reply:
        """Read a number and hold it against the last one acknowledged before the read began."""
        value = self._values[session.id, kind]
        least = value.acknowledged
        path = {"webhook": "info", "status": "status", "qr": "qr"}[kind]
        reference = self._chance.choice((session.id, session.name))
        key = self._chance.choice((session.key, session.key, session.key, OPERATOR_KEY))
        reply = await self._caller.get(f"/sessions/{reference}/{path}", key=key, due_at=due_at)
        if reply.status == 200:
            found = _number(kind, reply)
            if not least <= found <= value.sent:
                self.old_answers.append(f"{kind} of {session.name} is {found}, not {least} to {value.sent}")
        return reply

    def pick(self) -> tuple[Session, str]:
        """Choose a value."""
        return self._chance.choice(self._sessions), self._chance.choice(self._kinds)


class NumberedLoad:
    """Requests for `send_at_rate`."""

    def __init__(self, sessions: NumberedSessions, write_every: int | None) -> None:
        """Make every so-manieth a write; None: no writes for now."""
        self._sessions = sessions
        self.write_every = write_every

    def __call__(self, number: int) -> Request:
        """Make the request with this number in the schedule."""
        session, kind = self._sessions.pick()
        if self.write_every is not None and number % self.write_every == 0:
            return lambda due_at: self._sessions.write(session, kind, due_at)
        return lambda due_at: self._sessions.read(session, kind, due_at)


def _number(kind: str, reply: Reply) -> int:
    match kind:
        case "webhook":
            webhook = reply.data["session"]["webhook"]
            return 0 if webhook is None else int(webhook["url"].rpartition("/")[2])
        case "status":
            return int(reply.data["reason"] or 0)
        case _:
            return int(reply.data["qr_code"].rpartition(" ")[2])
