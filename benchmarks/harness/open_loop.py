"""An open-loop client: requests start at a fixed rate, whatever has become of those before, and each answer is judged.

An answer is old if the read began after a newer change was acknowledged; wrong if it shows what nobody ever wrote.
"""

import asyncio
import random
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import orjson

from benchmarks.harness.stage import Target
from benchmarks.harness.subjects import OPERATOR_KEY
from tests.coherence.http_client import ConnectionLostError, HttpClient, Request

READS_PER_SECOND, CHANGES_PER_SECOND = 200.0, 20.0
_EVENTS = ["message", "status"]


@dataclass(slots=True)
class Seen:
    """What callers saw: how long each read took, in seconds, and what was wrong with it, if anything."""

    seconds: list[float] = field(default_factory=list)
    faults: Counter[str] = field(default_factory=Counter)
    changes: int = 0
    changes_failed: int = 0

    def quantile(self, share: float) -> float:
        """Return how long that share of the reads took at most."""
        ordered = sorted(self.seconds)
        return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


class OpenLoop:
    """Reads and changes sessions, and knows what each was changed to."""

    def __init__(self, *, port: int, targets: Sequence[Target], seed: int) -> None:
        """Call the service on this port."""
        self._port = port
        self._targets = targets
        self._chance = random.Random(seed)
        self._idle: list[HttpClient] = []
        self._number = 0
        self._changing: set[str] = set()
        self._acknowledged = dict.fromkeys((target.session_id for target in targets), 0)
        self._tried: dict[str, set[int]] = {target.session_id: {0} for target in targets}

    async def change_all(self) -> None:
        """Change every session once, one after the other, so that each is known."""
        for target in self._targets:
            await self._change(target, Seen())

    async def run(self, seconds: float) -> Seen:
        """Send for so long; return when all are answered or given up."""
        seen, tasks = Seen(), []
        loop, began = asyncio.get_running_loop(), time.monotonic()
        rate = READS_PER_SECOND + CHANGES_PER_SECOND
        for number in range(int(seconds * rate)):
            await asyncio.sleep(began + number / rate - time.monotonic())
            target = self._chance.choice(self._targets)
            is_change = self._chance.random() < CHANGES_PER_SECOND / rate
            if is_change and target.session_id not in self._changing:  # Of two at once nobody knows which came last.
                self._changing.add(target.session_id)
                tasks.append(loop.create_task(self._change(target, seen)))
            else:
                tasks.append(loop.create_task(self._read(target, seen)))
        await asyncio.gather(*tasks)
        return seen

    async def read_all(self) -> Seen:
        """Read every session once."""
        seen = Seen()
        for target in self._targets:
            await self._read(target, seen)
        return seen

    def close(self) -> None:
        """Hang up."""
        for client in self._idle:
            client.close()

    async def _read(self, target: Target, seen: Seen) -> None:
        least, began = self._acknowledged[target.session_id], time.monotonic()
        status, body = await self._ask(Request(method="GET", path=target.path, key=target.key))
        seen.seconds.append(time.monotonic() - began)
        fault = "failed" if status != 200 else self._judge(target, body, least)
        if fault is not None:
            seen.faults[fault] += 1

    def _judge(self, target: Target, body: bytes, least: int) -> str | None:
        try:
            data = orjson.loads(body)["data"]
            number = int(data["session"]["webhook"]["url"].rpartition("/")[2])
        except (ValueError, KeyError, TypeError):
            return "wrong"
        if data["session_id"] != target.session_id or number not in self._tried[target.session_id]:
            return "wrong"
        return "old" if number < least else None

    async def _change(self, target: Target, seen: Seen) -> None:
        self._number += 1
        number = self._number
        self._tried[target.session_id].add(number)
        wanted = {"url": f"https://hooks.test/{number}", "events": _EVENTS}
        path = f"/sessions/{target.session_id}/webhook"
        status, _ = await self._ask(Request(method="PUT", path=path, key=OPERATOR_KEY, body=wanted))
        seen.changes += 1
        if status == 200:
            self._acknowledged[target.session_id] = number
        else:
            seen.changes_failed += 1  # It may have happened: then reads show it, and nothing older than before it.
        self._changing.discard(target.session_id)

    async def _ask(self, request: Request) -> tuple[int, bytes]:
        client = self._idle.pop() if self._idle else HttpClient(self._port)
        try:
            answer = await client.ask(request)
        except (ConnectionLostError, TimeoutError):
            return 0, b""
        self._idle.append(client)
        return answer.status, answer.body
