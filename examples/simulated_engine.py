"""An engine without WhatsApp, to try zpmeow with, and to begin a real one from.

It takes commands, shows QR codes that change every few seconds, "scans" one after a while, reports what it does with a
promise (`valid_for`), loses its connection now and then and comes back, and stops when it is told to: Ctrl-C in order,
SIGUSR1 without a word, as a crash does.

    .venv/bin/python examples/simulated_engine.py --url http://localhost:8080 --scan-after 10

What a real engine does in `_pair` and `_stay_connected` is WhatsApp's affair; everything else it does just so.
"""

import argparse
import asyncio
import os
import random
import secrets
import signal
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID

from zpmeow.client import Client, ClientError, Command, CommandAction, Refused, SessionStatus, work


@dataclass(slots=True, frozen=True, kw_only=True)
class Habits:
    """How the engine behaves; times are seconds.

    Attributes:
        name: what its lines begin with.
        valid_for: for how long a report is promised; it reports three times in that time.
        rotate_every: how long a QR code is shown.
        scan_after: how long the user takes to scan a code, or to enter one.
        reconnect_every: how long a connection lasts on the average; 0: for ever.
    """

    name: str
    valid_for: int
    rotate_every: float
    scan_after: float
    reconnect_every: float


class Engine:
    """Holds sessions, one task each."""

    def __init__(self, *, client: Client, habits: Habits) -> None:
        """Begin with no session."""
        self._client = client
        self._habits = habits
        self.held: dict[UUID, asyncio.Task[None]] = {}
        self._reporting: dict[UUID, asyncio.Lock] = {}

    async def run(self) -> None:
        """Take commands for ever; when it is cancelled, let other engines take over at once."""
        try:
            await work(self._client, self.obey)
        finally:
            sessions = list(self.held)
            await asyncio.gather(*(self._let_go(session) for session in sessions))
            await asyncio.gather(*(self._hand_over(session) for session in sessions))

    async def obey(self, command: Command) -> None:
        """Do a command. Each of these may come twice, and must do no harm then."""
        self._say(command.session_id, f"shall {command.action}")
        match command.action:
            case CommandAction.CONNECT:
                if not await self._still_holds(command.session_id):
                    await self._let_go(command.session_id)
                    await self._hold(command.session_id, phone=None)
            case CommandAction.PAIR:
                await self._let_go(command.session_id)
                await self._hold(command.session_id, phone=command.phone)
            case CommandAction.DISCONNECT | CommandAction.DELETE:
                await self._let_go(command.session_id)  # WhatsApp's goodbye, and with DELETE the logout, belong here.

    async def _still_holds(self, session: UUID) -> bool:
        """Take up again what is held already: the service may have called it silent, and wants to hear `connecting`.

        Reports of one session go one after the other, so that one under way, which may be refused, is over by then.
        """
        if session not in self.held:
            return False
        return await self._report(session, SessionStatus.CONNECTING) and session in self.held

    async def _hold(self, session: UUID, *, phone: str | None) -> None:
        """Begin with a session. Its first report is made here, so that a command is done when it is acknowledged."""
        if not await self._report(session, SessionStatus.CONNECTING):
            return
        task = asyncio.create_task(self._keep(session, phone))
        self.held[session] = task
        task.add_done_callback(lambda done: self._forget(session, done))

    def _forget(self, session: UUID, task: "asyncio.Task[None]") -> None:
        if self.held.get(session) is task:
            del self.held[session]
            self._reporting.pop(session, None)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._say(session, f"let go: {error}")

    async def _let_go(self, session: UUID) -> None:
        task = self.held.pop(session, None)
        if task is not None:
            task.cancel()
            await asyncio.wait([task])
            self._say(session, "let go")

    async def _hand_over(self, session: UUID) -> None:
        """Promise one second more: then the session is silent, and a command to connect goes to another engine."""
        try:
            await self._client.report(session, SessionStatus.CONNECTING, reason="engine stops", valid_for_seconds=1)
        except ClientError as error:
            self._say(session, f"could not be handed over: {error}")

    async def _keep(self, session: UUID, phone: str | None) -> None:
        """Pair the session if it is not, connect it, and keep it connected until nobody wants that any more."""
        if await self._client.device(session) is None and not await self._pair(session, phone):
            return
        while await self._report(session, SessionStatus.CONNECTED):
            self._say(session, "connected")
            if not await self._stay_connected(session):
                return
            self._say(session, "lost its connection, and comes back")
            if not await self._report(session, SessionStatus.CONNECTING, reason="connection lost"):
                return
            await asyncio.sleep(random.uniform(0.1, 0.5))

    async def _pair(self, session: UUID, phone: str | None) -> bool:
        """Show codes until one is scanned or entered, and store the device; False: nobody wants that any more."""
        loop = asyncio.get_running_loop()
        scanned_at, rotate_at = loop.time() + self._habits.scan_after, loop.time()
        if phone is not None:
            code = f"{secrets.token_hex(2)}-{secrets.token_hex(2)}".upper()
            await self._client.put_pairing_code(session, code)
            self._say(session, f"wants {code} entered on the telephone")
            rotate_at = scanned_at
        while (now := loop.time()) < scanned_at:
            if now >= rotate_at:
                await self._show_qr_code(session)
                rotate_at = now + self._habits.rotate_every
            await asyncio.sleep(min(scanned_at - now, rotate_at - now, self._habits.valid_for / 3))
            if not await self._report(session, SessionStatus.CONNECTING):
                return False
        await self._client.put_device(session, f"{secrets.randbelow(10**12):013}:1@s.whatsapp.net")
        self._say(session, "is paired")
        return True

    async def _show_qr_code(self, session: UUID) -> None:
        lives_seconds = max(1, round(self._habits.rotate_every + 5))
        await self._client.put_qr_code(
            session,
            f"2@{secrets.token_urlsafe(60)}",
            expires_in_seconds=lives_seconds,
            issued_at=datetime.now(UTC),
        )
        self._say(session, "shows a QR code")

    async def _stay_connected(self, session: UUID) -> bool:
        """Renew the promise again and again; tell whether the connection broke, False: nobody wants it any more."""
        lasts = random.expovariate(1 / self._habits.reconnect_every) if self._habits.reconnect_every else float("inf")
        ends_at = asyncio.get_running_loop().time() + lasts
        while (left := ends_at - asyncio.get_running_loop().time()) > 0:
            await asyncio.sleep(min(left, self._habits.valid_for / 3))
            if not await self._report(session, SessionStatus.CONNECTED):
                return False
        return True

    async def _report(self, session: UUID, status: SessionStatus, *, reason: str | None = None) -> bool:
        """Report; False: the session is not this engine's any more, and is to be let go.

        It is gone (404), its owner does not want it connected, or it fell silent and is another engine's now (409).
        """
        async with self._reporting.setdefault(session, asyncio.Lock()):
            try:
                await self._client.report(session, status, reason=reason, valid_for_seconds=self._habits.valid_for)
            except Refused as refused:
                self._say(session, f"is not wanted any more: {refused.code}")
                return False
        return True

    def _say(self, session: UUID, what: str) -> None:
        print(f"{datetime.now(UTC):%H:%M:%S} {self._habits.name} {session} {what}", flush=True)


async def main() -> None:
    """Run the engine until it is told to stop."""
    arguments = _parse()
    habits = Habits(
        name=arguments.name,
        valid_for=arguments.valid_for,
        rotate_every=arguments.rotate_every,
        scan_after=arguments.scan_after,
        reconnect_every=arguments.reconnect_every,
    )
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGUSR1, lambda: os._exit(1))
    running = asyncio.current_task()
    assert running is not None
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, running.cancel)
    async with Client(arguments.url, api_key=arguments.api_key or None) as client:
        try:
            await Engine(client=client, habits=habits).run()
        except asyncio.CancelledError:
            print(f"{habits.name} stops", flush=True)
        except ClientError as error:
            sys.exit(f"{habits.name}: {error}")


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="An engine without WhatsApp, to try zpmeow with.")
    parser.add_argument("--url", default="http://localhost:8080", help="where zpmeow is")
    parser.add_argument(
        "--api-key",
        default=os.environ.get("ENGINE_API_KEY", ""),
        help="the engines' key (default: ENGINE_API_KEY of the environment)",
    )
    parser.add_argument("--name", default="engine", help="what its lines begin with")
    parser.add_argument("--valid-for", type=int, default=30, help="seconds for which a report is promised")
    parser.add_argument("--rotate-every", type=float, default=20.0, help="seconds for which a QR code is shown")
    parser.add_argument("--scan-after", type=float, default=30.0, help="seconds until the user scans or enters a code")
    parser.add_argument(
        "--reconnect-every", type=float, default=0.0, help="seconds that a connection lasts on the average; 0: for ever"
    )
    return parser.parse_args()


if __name__ == "__main__":
    asyncio.run(main())
