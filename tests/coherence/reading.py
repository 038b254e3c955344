"""Readers: each asks one process, again and again, and has every answer judged.

Some callers hang up at a random moment: that must do no harm to anybody else.
"""

import asyncio
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from tests.coherence.changes import ENGINE_KEY, OPERATOR_KEY
from tests.coherence.http_client import Answer, ConnectionLostError, HttpClient
from tests.coherence.judge import Finding, Judge, Reading
from tests.coherence.ledger import Ledger, Slot
from tests.coherence.observing import Question, StrangeAnswerError, observe
from tests.coherence.timeline import Timeline

STALE = "zpmeow; hit; detail=stale"
_RESOURCES = {"webhook": ("info",), "status": ("status",), "qr": ("qr",), "device": ("info", "status", "credentials")}
_HANG_UP_SECONDS = 0.004  # An answer takes 0.3 to 2 ms: some callers hang up before it comes, some upon it.
_AFTER_LOSS_SECONDS = 0.05


@dataclass(slots=True)
class ReadCounts:
    """What became of the reads. `answered` were judged, `refused` got 503, `lost` their process was away for."""

    answered: int = 0
    cancelled: int = 0
    refused: int = 0
    lost: int = 0
    by_cache_status: Counter[str] = field(default_factory=Counter)
    by_status: Counter[int] = field(default_factory=Counter)
    seconds: list[float] = field(default_factory=list)


@dataclass(slots=True, frozen=True, kw_only=True)
class Court:
    """What a read is judged with."""

    ledger: Ledger
    judge: Judge
    timeline: Timeline
    counts: ReadCounts
    clock: Callable[[], float]


class Reader:
    """A caller of one process."""

    def __init__(self, *, process: str, port: int, court: Court, chance: random.Random) -> None:
        """Call this process, on this port."""
        self.process = process
        self._client = HttpClient(port)
        self._court = court
        self._chance = chance

    def close(self) -> None:
        """Hang up."""
        self._client.close()

    async def connect(self) -> None:
        """Connect, if there is no connection that lives. Raises ConnectionLostError."""
        await self._client.connect()

    async def run(self, *, pause_seconds: float, cancelled_ratio: float) -> None:
        """Read for ever, with random pauses of this mean."""
        while True:
            await asyncio.sleep(self._chance.expovariate(1 / pause_seconds))
            question = choose(self._court.ledger, self._chance)
            if self._chance.random() < cancelled_ratio:
                await self._hang_up_on(question)
            else:
                await self.read(question)

    async def read(self, question: Question) -> Answer | None:
        """Ask, and have the answer judged; return it, None if there was none."""
        court = self._court
        began_at = court.clock()
        try:
            answer = await self._client.ask(question.request())
        except (ConnectionLostError, TimeoutError) as error:
            await self._judge_silence(question, error, began_at)
            return None
        ended_at = court.clock()
        court.counts.seconds.append(ended_at - began_at)
        self._judge(question, answer, began_at, ended_at)
        return answer

    async def _hang_up_on(self, question: Question) -> None:
        began_at = self._court.clock()
        try:
            async with asyncio.timeout(self._chance.uniform(0, _HANG_UP_SECONDS)) as patience:
                answer = await self._client.ask(question.request())
        except (ConnectionLostError, TimeoutError) as error:
            if patience.expired():
                self._court.counts.cancelled += 1
            else:
                await self._judge_silence(question, error, began_at)
            return
        self._judge(question, answer, began_at, self._court.clock())

    def _judge(self, question: Question, answer: Answer, began_at: float, ended_at: float) -> None:
        court, counts = self._court, self._court.counts
        reading = Reading(
            process=self.process,
            began_at=began_at,
            ended_at=ended_at,
            request=str(question.request()),
            cache_status=answer.cache_status,
        )
        counts.by_status[answer.status] += 1
        if answer.status == 503:
            counts.refused += 1
            if not court.timeline.may_refuse(self.process, began_at, ended_at):
                court.judge.report(Finding.REFUSED, reading, answer.body[:300].decode(errors="replace"))
            return
        counts.answered += 1
        counts.by_cache_status[answer.cache_status or "none"] += 1
        is_stale = answer.cache_status == STALE
        # Of a code, too: it is the session's own record, read with it, that nobody vouches for then.
        if is_stale and not court.timeline.may_refuse(self.process, began_at, ended_at):
            court.judge.report(Finding.STALE, reading, "a stale answer")
        try:
            observations = observe(court.ledger, question, answer)
        except StrangeAnswerError as error:
            court.judge.report(Finding.STRANGE, reading, str(error))
            return
        if is_stale:
            for one in observations:
                court.judge.shown_stale(one.register, one.value, reading)
            return
        for one in observations:
            (court.judge.shown_other if one.negated else court.judge.shown)(one.register, one.value, reading)

    async def _judge_silence(self, question: Question, error: Exception, began_at: float) -> None:
        court = self._court
        ended_at = court.clock()
        if court.timeline.is_absent(self.process, began_at, ended_at):
            court.counts.lost += 1
        else:
            finding = Finding.UNANSWERED if isinstance(error, TimeoutError) else Finding.LOST
            reading = Reading(
                process=self.process, began_at=began_at, ended_at=ended_at, request=str(question.request())
            )
            court.judge.report(finding, reading, repr(error))
        # A process that is away would be called in a tight loop.
        await asyncio.sleep(_AFTER_LOSS_SECONDS)


def choose(ledger: Ledger, chance: random.Random) -> Question:
    """Choose what to read: what was written last, a hot session, or any; under present and past names and keys."""
    dice = chance.random()
    if dice < 0.4 and ledger.recent:
        slot, value = chance.choice(ledger.recent)
    elif dice < 0.6:
        slot, value = chance.choice(ledger.hot), chance.choice(tuple(_RESOURCES))
    else:
        slot, value = chance.choice(ledger.slots), chance.choice(tuple(_RESOURCES))
    return question_of(slot, value, ledger, chance)


def question_of(slot: Slot, value: str, ledger: Ledger, chance: random.Random) -> Question:
    """Make a question whose answer shows this value of this slot's session, unless a past name or key leads away."""
    resource = chance.choice(_RESOURCES[value])
    dice = chance.random()
    by_id, reference = False, slot.name
    if dice < 0.05 and slot.past_ids:
        by_id, reference = True, chance.choice(slot.past_ids)
    elif dice < 0.12 and slot.past_names:
        reference = chance.choice(slot.past_names)
    elif dice < 0.65 and slot.session is not None:
        by_id, reference = True, slot.session.id
    dice = chance.random()
    if dice < 0.45:
        key, by_session_key = slot.key, True
    elif dice < 0.5 and slot.past_keys:
        key, by_session_key = chance.choice(slot.past_keys), True
    elif dice < 0.53:
        key, by_session_key = chance.choice(ledger.slots).key, True
    else:
        key, by_session_key = chance.choice((OPERATOR_KEY, ENGINE_KEY)), False
    return Question(resource=resource, reference=reference, by_id=by_id, key=key, by_session_key=by_session_key)
