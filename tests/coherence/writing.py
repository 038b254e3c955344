"""Writers over HTTP: each asks one process for changes, and often reads at once what it has written.

The reads that follow a write are those that find the most: of the same process, which must show it at once, and of the
other one, around the bound.
"""

import asyncio
import random
from collections.abc import Mapping
from dataclasses import dataclass

from tests.coherence.attempt import Attempt, WriteCounts
from tests.coherence.changes import (
    OPERATOR_KEY,
    Change,
    change_value,
    create,
    delete,
    rename,
    rotate_key,
)
from tests.coherence.http_client import Answer, ConnectionLostError, HttpClient, Request
from tests.coherence.judge import Finding, Reading
from tests.coherence.ledger import VALUES, KnownSession, Ledger, Slot
from tests.coherence.observing import Observation
from tests.coherence.reading import Court, Reader, question_of

_CANCELLED_RATIO = 0.03
_HANG_UP_SECONDS = 0.006
_STRUCTURAL_RATIO = 0.22
_RACE_RATIO = 0.25
_RACE_DELAYS_SECONDS = (0.0, 0.005, 0.08)
"""A load takes 1 ms, up to 50 ms more after asking a slow Redis: the write is to come between a load and its fill."""

_RACE_RATIOS = {"delete": 0.7}  # Removals are few, and what brings back what was removed is the worst.
_READ_AT_ONCE_RATIO = 0.5
_READ_ELSEWHERE_RATIO = 0.4
_ELSEWHERE_SECONDS = (0.0, 0.25)  # Around the bound of 100 ms.
_EXPECTED_CONFLICTS = {"SESSION_NAME_TAKEN"}


@dataclass(slots=True, frozen=True, kw_only=True)
class Pen:
    """What a write is noted with."""

    court: Court
    counts: WriteCounts

    def begin(self, change: Change, by: str) -> Attempt:
        """Note that a change is sent."""
        court = self.court
        return Attempt(change, by=by, ledger=court.ledger, counts=self.counts, clock=court.clock)


class Writer:
    """A caller of one process who changes sessions."""

    def __init__(
        self, *, process: str, port: int, pen: Pen, readers: Mapping[str, Reader], chance: random.Random
    ) -> None:
        """Call this process; read through these readers, one for each process."""
        self.process = process
        self._client = HttpClient(port)
        self._pen = pen
        self._readers = readers
        self._chance = chance

    def close(self) -> None:
        """Hang up."""
        self._client.close()
        for reader in self._readers.values():
            reader.close()

    async def connect(self) -> None:
        """Connect, if there is no connection that lives. Raises ConnectionLostError."""
        await self._client.connect()

    async def run(self, *, pause_seconds: float) -> None:
        """Write for ever, with random pauses of this mean."""
        while True:
            await asyncio.sleep(self._chance.expovariate(1 / pause_seconds))
            ledger, value = self._pen.court.ledger, self._chance.choice(VALUES)
            if self._chance.random() < _STRUCTURAL_RATIO:
                slot = choose_slot(ledger, self._chance, structural=True)
                if slot.lock.locked() or slot.doubt is not None:
                    continue
                async with slot.lock:
                    await self._write_in_a_race(structural_change(ledger, slot, self._chance), value)
            else:
                slot = choose_slot(ledger, self._chance, structural=False)
                if slot.session is None:
                    continue
                change = change_value(ledger, slot, slot.session, value, self._chance)
                await self._write_in_a_race(change, value)
            await self._read_back(slot, value)

    async def write(self, change: Change) -> Answer | None:
        """Ask for this change, a structural one with its slot's lock; return the answer, None if there was none."""
        return await self._write(change, may_hang_up=False)

    async def make(self, slot: Slot) -> None:
        """Make the session of an empty slot; it must work."""
        async with slot.lock:
            await self._write(create(self._pen.court.ledger, slot, self._chance), may_hang_up=False)
        assert slot.session is not None, f"slot {slot.number} got no session"

    async def _write_in_a_race(self, change: Change, value: str) -> None:
        """Write; sometimes while the same is read through every process, which all have to load it anew."""
        session = change.slot.session
        if session is None or self._chance.random() >= _RACE_RATIOS.get(change.kind, _RACE_RATIO):
            await self._write(change)
            return
        await self._empty_cache(session)
        questions = [question_of(change.slot, value, self._pen.court.ledger, self._chance) for _ in self._readers]
        await asyncio.gather(
            *(reader.read(question) for reader, question in zip(self._readers.values(), questions, strict=True)),
            self._write_after(self._chance.choice(_RACE_DELAYS_SECONDS), change),
        )

    async def _write_after(self, longest_seconds: float, change: Change) -> None:
        await asyncio.sleep(self._chance.uniform(0, longest_seconds))
        await self._write(change)

    async def _empty_cache(self, session: KnownSession) -> None:
        """Let nothing be cached of the session, as an operator can."""
        court = self._pen.court
        request = Request(method="DELETE", path=f"/cache/sessions/{session.id}", key=OPERATOR_KEY)
        began_at = court.clock()
        try:
            answer = await self._client.ask(request)
        except (ConnectionLostError, TimeoutError):
            return  # Nothing depends on it; the write that follows is judged.
        if answer.status not in {200, 404, 503}:
            reading = Reading(process=self.process, began_at=began_at, ended_at=court.clock(), request=str(request))
            court.judge.report(Finding.STRANGE, reading, f"{answer.status} {answer.body[:200]!r}")

    async def _write(self, change: Change, *, may_hang_up: bool = True) -> Answer | None:
        court = self._pen.court
        assert change.request is not None
        hangs_up = may_hang_up and self._chance.random() < _CANCELLED_RATIO
        patience = self._chance.uniform(0, _HANG_UP_SECONDS) if hangs_up else None
        began_at = court.clock()
        attempt = self._pen.begin(change, self.process)
        try:
            async with asyncio.timeout(patience) as hanging_up:
                answer = await self._client.ask(change.request)
        except (ConnectionLostError, TimeoutError) as error:
            attempt.unknown()
            if not hanging_up.expired() and not court.timeline.is_absent(self.process, began_at, court.clock()):
                self._report(Finding.LOST, change, began_at, repr(error))
            return None
        if answer.status in {200, 201}:
            attempt.done(answer.data)
        elif answer.status == 503:
            attempt.unknown()
            if not court.timeline.may_refuse(self.process, began_at, court.clock()):
                self._report(Finding.REFUSED, change, began_at, answer.body[:300].decode(errors="replace"))
        else:
            attempt.refused()
            self._judge_refusal(change, answer, began_at)
        return answer

    def _judge_refusal(self, change: Change, answer: Answer, began_at: float) -> None:
        """Judge a refusal as the read that it is: of a key that opens nothing, of a session that is not there."""
        court = self._pen.court
        assert change.request is not None
        session_id = change.request.path.split("/")[2]
        session = court.ledger.sessions.get(session_id)
        seen: Observation | None = None
        if answer.status == 401:
            seen = Observation(court.ledger.key(change.request.key), None)
        elif answer.status == 404 and session is not None:
            seen = Observation(session.exists, None)
        elif answer.status == 409 and answer.error in _EXPECTED_CONFLICTS:
            return
        if seen is None:
            self._report(Finding.STRANGE, change, began_at, f"{answer.status} {answer.body[:200]!r}")
        else:
            court.judge.shown(seen.register, seen.value, self._reading(change, began_at))

    async def _read_back(self, slot: Slot, value: str) -> None:
        """Read what was written, from the same process at once, and from another one a little later."""
        ledger, chance = self._pen.court.ledger, self._chance
        if chance.random() < _READ_AT_ONCE_RATIO:
            question = question_of(slot, value, ledger, chance)
            await self._readers[self.process].read(question)
        if chance.random() < _READ_ELSEWHERE_RATIO:
            await asyncio.sleep(chance.uniform(*_ELSEWHERE_SECONDS))
            other = chance.choice([name for name in self._readers if name != self.process] or [self.process])
            await self._readers[other].read(question_of(slot, value, ledger, chance))

    def _report(self, finding: Finding, change: Change, began_at: float, what: str) -> None:
        self._pen.court.judge.report(finding, self._reading(change, began_at), f"a write of {change.kind}: {what}")

    def _reading(self, change: Change, began_at: float) -> Reading:
        return Reading(
            process=self.process,
            began_at=began_at,
            ended_at=self._pen.court.clock(),
            request=str(change.request),
        )


def choose_slot(ledger: Ledger, chance: random.Random, *, structural: bool) -> Slot:
    """Choose whose session is changed: half of the values are those of hot ones, mortal slots change most."""
    dice = chance.random()
    if structural and dice < 0.6:
        return chance.choice(ledger.mortal)
    return chance.choice(ledger.hot if dice < 0.5 else ledger.slots)


def structural_change(ledger: Ledger, slot: Slot, chance: random.Random) -> Change:
    """Choose a change to a session's existence, name or key."""
    if slot.session is None:
        return create(ledger, slot, chance)
    if slot.is_mortal and chance.random() < 0.6:
        return delete(ledger, slot, slot.session)
    if chance.random() < 0.5:
        return rename(ledger, slot, slot.session, chance)
    return rotate_key(ledger, slot, slot.session)
