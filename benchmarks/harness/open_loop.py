"""An open-loop client: requests start at a fixed rate, whatever has become of those before, and each answer is judged.

An answer is old if the read began after a newer change was acknowledged; wrong if its session or
its webhook's address is one that nobody ever wrote, or if it is no such answer at all.

Time runs from the moment at which a request was due, so that a client or a service that is late hides nothing. If the
client itself was late too often, the figures tell of the client, and the page must say so.
"""

import asyncio
import itertools
import math
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
_LATE_SECONDS = 0.01  # Some times an answer of a service that is well: later than this, the figure is the client's.
_MOST_LATE_RATIO = 0.05  # As in the chaos scenarios: what sent less than 95 % of its load proves nothing.
_EVENTS = ["message", "status"]


@dataclass(slots=True)
class Seen:
    """What callers saw.

    Attributes:
        answered_seconds: how long the reads took that were answered, be it with an old or a wrong body.
        failed_seconds: how long it took the others to fail; an error that comes at once is no short answer.
        faults: how many reads failed, were old, or wrong.
        changes, changes_failed: how many changes were asked for, and how many of them failed.
        late: how many requests, of reads and changes, the client itself began too late.
    """

    answered_seconds: list[float] = field(default_factory=list)
    failed_seconds: list[float] = field(default_factory=list)
    faults: Counter[str] = field(default_factory=Counter)
    changes: int = 0
    changes_failed: int = 0
    late: int = 0

    @property
    def reads(self) -> int:
        """How many there were."""
        return len(self.answered_seconds) + len(self.failed_seconds)

    @property
    def longest_seconds(self) -> float:
        """How long the longest wait was, whatever came of it."""
        return max(itertools.chain(self.answered_seconds, self.failed_seconds), default=0.0)

    @property
    def late_ratio(self) -> float:
        """Which share of the requests the client began too late."""
        return self.late / max(self.reads + self.changes, 1)

    @property
    def is_load(self) -> bool:
        """Whether the client kept to its rate well enough for the figures to tell of the service."""
        return self.late_ratio <= _MOST_LATE_RATIO

    def quantile(self, share: float) -> float:
        """Return how long that share of the answered reads took at most; NaN: none was answered."""
        ordered = sorted(self.answered_seconds)
        return ordered[min(len(ordered) - 1, int(len(ordered) * share))] if ordered else math.nan


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
            await self._change(target, Seen(), time.monotonic())

    async def run(self, seconds: float) -> Seen:
        """Send for so long; return when all are answered or given up."""
        seen, tasks = Seen(), []
        loop, began = asyncio.get_running_loop(), time.monotonic()
        rate = READS_PER_SECOND + CHANGES_PER_SECOND
        for number in range(int(seconds * rate)):
            due_at = began + number / rate
            await asyncio.sleep(due_at - time.monotonic())
            target = self._chance.choice(self._targets)
            is_change = self._chance.random() < CHANGES_PER_SECOND / rate
            if is_change and target.session_id not in self._changing:  # Of two at once nobody knows which came last.
                self._changing.add(target.session_id)
                tasks.append(loop.create_task(self._change(target, seen, due_at)))
            else:
                tasks.append(loop.create_task(self._read(target, seen, due_at)))
        await asyncio.gather(*tasks)
        return seen

    async def read_all(self) -> Seen:
        """Read every session once."""
        seen = Seen()
        for target in self._targets:
            await self._read(target, seen, time.monotonic())
        return seen

    def close(self) -> None:
        """Hang up."""
        for client in self._idle:
            client.close()

    async def _read(self, target: Target, seen: Seen, due_at: float) -> None:
        least = self._acknowledged[target.session_id]  # Now, and not when it was due: it is sent now.
        _count_if_late(seen, due_at)
        status, body = await self._ask(Request(method="GET", path=target.path, key=target.key))
        seconds = time.monotonic() - due_at
        (seen.answered_seconds if status == 200 else seen.failed_seconds).append(seconds)
        fault = "failed" if status != 200 else self._judge(target, body, least)
        if fault is not None:
            seen.faults[fault] += 1

    def _judge(self, target: Target, body: bytes, least: int) -> str | None:
        try:
            data = orjson.loads(body)["data"]
            session_id, url = data["session_id"], str(data["session"]["webhook"]["url"])
            number = int(url.rpartition("/")[2])
        except (ValueError, KeyError, TypeError):
            return "wrong"
        if session_id != target.session_id or number not in self._tried[target.session_id]:
            return "wrong"
        return "old" if number < least else None

    async def _change(self, target: Target, seen: Seen, due_at: float) -> None:
        _count_if_late(seen, due_at)
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


def _count_if_late(seen: Seen, due_at: float) -> None:
    seen.late += time.monotonic() - due_at > _LATE_SECONDS
