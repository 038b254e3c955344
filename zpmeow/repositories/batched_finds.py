"""Reads of the truth by id, several in one query: those that come in one turn of the event loop, or while all queries
that may be under way are.

    find(a) ─┐
    find(b) ─┼── one turn ── find_many([a, b, c]) ──→ each caller's own answer
    find(c) ─┘

Without a cache each request is a query, and half of what that costs this process is the conversation, not the answer. A
read that is alone is asked alone, at the end of the turn. A caller who goes away leaves the others their answers. A
batch has a time of its own, whatever its callers have left.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping
from uuid import UUID

from typing_extensions import override

from zpmeow.cache.event_loop import OwnLoop
from zpmeow.domain.errors import Overloaded, Unavailable
from zpmeow.domain.patience import patience_until
from zpmeow.domain.ports import SessionReader, SessionRepository
from zpmeow.domain.records import Entity, Snapshot
from zpmeow.domain.references import ById, SessionReference

MOST_IN_A_BATCH = 100
"""Arbitrary: the conversation costs next to nothing by then, and the first need not wait long for the last."""

MOST_FAILURES = 3
"""Arbitrary: one or two sessions may be unreadable; with more, nothing is left but the statement."""

BATCH_RATIO = 0.9
"""The share of the truth's time that a batch has, from its beginning: its callers learn what became of it, and not only
that their time is over."""

JOINABLE_RATIO = 0.1
"""A batch that has waited for longer than that share of the truth's time takes nobody any more: he would have too
little of it."""

Answer = asyncio.Future[Snapshot | None]


class BatchedFinds(SessionReader):
    """Asks the truth for several sessions at once."""

    def __init__(
        self,
        *,
        truth: SessionRepository,
        most_under_way: int,
        truth_seconds: float,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """Ask `truth`.

        Args:
            truth: is asked.
            most_under_way: so many batches are asked for at once; what comes meanwhile makes up the next.
            truth_seconds: for how long a request may wait for the truth.
            monotonic: the clock of `patience_until`.
        """
        self._truth = truth
        self._most_under_way = most_under_way
        self._batch_seconds = truth_seconds * BATCH_RATIO
        self._joinable_seconds = truth_seconds * JOINABLE_RATIO
        self._monotonic = monotonic
        self._loop = OwnLoop()
        self._open: dict[frozenset[Entity], _Batch] = {}
        self._waiting: deque[_Batch] = deque()
        self._under_way: set[asyncio.Task[None]] = set()

    @property
    def waiting(self) -> int:
        """How many callers wait until a query may be asked for them."""
        return sum(1 for batch in self._waiting for _ in batch.waiting())

    @override
    async def find(
        self, reference: SessionReference, entities: frozenset[Entity], *, with_secrets: bool = False
    ) -> Snapshot | None:
        if with_secrets or not isinstance(reference, ById):
            return await self._truth.find(reference, entities, with_secrets=with_secrets)
        now = self._monotonic()
        batch = self._open.get(entities)
        if batch is None or now > batch.joinable_until:
            batch = self._open[entities] = _Batch(
                entities, joinable_until=now + self._joinable_seconds, ends_at=now + self._batch_seconds
            )
            self._loop().call_soon(self._complete, batch)
        answer: Answer = self._loop().create_future()
        batch.asked.append((reference.id, answer))
        if len(batch.asked) >= MOST_IN_A_BATCH:
            del self._open[entities]
        return await answer

    def _complete(self, batch: "_Batch") -> None:
        """The turn is over: ask, or let it wait, open for others, until one of those under way has ended."""
        if len(self._under_way) < self._most_under_way:
            self._ask(batch)
        else:
            self._waiting.append(batch)

    def _ask(self, batch: "_Batch") -> None:
        if self._open.get(batch.entities) is batch:
            del self._open[batch.entities]
        task = self._loop().create_task(self._answer(batch))
        self._under_way.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._under_way.discard(task)
        if self._waiting:
            self._ask(self._waiting.popleft())

    async def _answer(self, batch: "_Batch") -> None:
        wanted = {session_id for session_id, _ in batch.waiting()}
        if not wanted:
            return
        asked_at = self._monotonic()
        waited_seconds = asked_at - (batch.ends_at - self._batch_seconds)
        with patience_until(batch.ends_at):
            try:
                found = await self._find(wanted, batch.entities)
            except asyncio.CancelledError:
                for _, answer in batch.waiting():
                    answer.cancel()
                raise
            except Unavailable as error:
                # Who waited in line for most of his time is told so: for what only reads, that is always true.
                in_line = waited_seconds > self._monotonic() - asked_at
                batch.fail(Overloaded("no database connection came free in time") if in_line else error)
            except Exception as error:  # noqa: BLE001  (each caller's own to raise)
                if len(wanted) == 1:
                    batch.fail(error)
                else:
                    await self._find_each(batch, wanted)
            else:
                batch.answer(found)

    async def _find_each(self, batch: "_Batch", wanted: Collection[UUID]) -> None:
        """One of the sessions cannot be read: who asked for another one shall not see that.

        Where the first of them all fail it is the statement, and the others need not be asked for.
        """
        failures, one_was_read = 0, False
        for session_id in wanted:
            try:
                found = await self._find([session_id], batch.entities)
            except Exception as error:  # noqa: BLE001  (each caller's own to raise)
                failures += 1
                if failures == MOST_FAILURES and not one_was_read:
                    batch.fail(error)
                    return
                batch.fail(error, only=session_id)
            else:
                one_was_read = True
                batch.answer(found, only=session_id)

    async def _find(self, wanted: Collection[UUID], entities: frozenset[Entity]) -> Mapping[UUID, Snapshot]:
        if len(wanted) > 1:
            return await self._truth.find_many(wanted, entities)
        (session_id,) = wanted
        found = await self._truth.find(ById(session_id), entities)
        return {} if found is None else {session_id: found}


class _Batch:
    """What is asked for together."""

    __slots__ = ("asked", "ends_at", "entities", "joinable_until")

    def __init__(self, entities: frozenset[Entity], *, joinable_until: float, ends_at: float) -> None:
        self.entities = entities
        self.joinable_until = joinable_until
        self.ends_at = ends_at
        self.asked: list[tuple[UUID, Answer]] = []

    def waiting(self, only: UUID | None = None) -> Iterator[tuple[UUID, Answer]]:
        """Return what is asked by those who have not gone away; of one session, or of all."""
        return (
            (session_id, answer)
            for session_id, answer in self.asked
            if not answer.done() and (only is None or session_id == only)
        )

    def answer(self, found: Mapping[UUID, Snapshot], *, only: UUID | None = None) -> None:
        """Tell what was found; who asked for what is missing learns that there is none."""
        for session_id, answer in self.waiting(only):
            answer.set_result(found.get(session_id))

    def fail(self, error: Exception, *, only: UUID | None = None) -> None:
        """Tell that there is no answer."""
        for _, answer in self.waiting(only):
            answer.set_exception(error)
