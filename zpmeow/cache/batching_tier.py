"""Reads of another tier, those of one turn of the event loop in one conversation.

    get_many([a, p]) ─┐
    get_many([b, p]) ─┼── one turn ── inner.get_many([a, p, b]) ──→ each caller's own values
    get_many([c, p]) ─┘

A busy process reads several requests in one turn, and the conversation with a server costs it more than the values do.
It stands above the guard, so that a conversation is guarded once, and its failure is one failure, for however many
callers it is held. So only those share one who have all of their request's time for the cache; who has used some of it
asks alone, within what is left. A caller who goes away leaves the others their values, and a conversation that was
begun goes on to its end: broken off, it would cost its connection.
"""

import asyncio
import contextvars
from collections.abc import Callable, Coroutine, Iterator, Sequence
from typing import Any, TypeVar

from typing_extensions import override

from zpmeow.cache.call_budget import budget_or_fresh, open_budget
from zpmeow.cache.event_loop import OwnLoop
from zpmeow.cache.tier import CacheTier, PutOutcome, TierInfo, Write

MOST_KEYS = 256
"""Arbitrary: by then the conversation costs next to nothing, and a reply of some 100 KB keeps nobody waiting."""

T = TypeVar("T")

Values = asyncio.Future[list[bytes | None]]


class BatchingTier(CacheTier):
    """Another CacheTier that is asked less often."""

    def __init__(self, inner: CacheTier, *, check_usable: Callable[[], None], budget_seconds: float) -> None:
        """Ask `inner`.

        Args:
            inner: is asked, within a budget of a conversation's own.
            check_usable: raises what `inner` would raise now without asking anybody, so that nobody waits for that.
            budget_seconds: what the cache calls of one request may take together.
        """
        self._inner = inner
        self._check_usable = check_usable
        self._budget_seconds = budget_seconds
        self._loop = OwnLoop()
        self._batch: _Batch | None = None
        self._tasks: set[asyncio.Task[Any]] = set()

    @override
    async def get_many(self, keys: Sequence[str]) -> list[bytes | None]:
        self._check_usable()
        budget = budget_or_fresh(self._budget_seconds)
        if not budget.is_whole:
            return await asyncio.shield(self._start(self._inner.get_many(keys)))
        loop = self._loop()
        batch = self._batch
        if batch is None:
            batch = self._batch = _Batch()
            # In a context of nobody's: what is asked for several is not charged to the first of them.
            loop.call_soon(self._ask, batch, context=contextvars.Context())
        values: Values = loop.create_future()
        batch.add(keys, values)
        if len(batch.keys) >= MOST_KEYS:
            self._batch = None
        budget.begin(loop.time())
        try:
            return await values
        finally:
            budget.end(loop.time())
            budget.talked_seconds += batch.talked_seconds

    @override
    async def put_many(self, writes: Sequence[Write]) -> list[PutOutcome]:
        return await self._inner.put_many(writes)

    @override
    async def discard(self, key: str, expected: bytes) -> bool:
        return await self._inner.discard(key, expected)

    @override
    async def probe(self) -> None:
        await self._inner.probe()

    @override
    async def describe(self) -> TierInfo:
        return await self._inner.describe()

    @override
    async def reset(self) -> None:
        await self._inner.reset()

    @override
    async def close(self) -> None:
        await self._inner.close()

    def _ask(self, batch: "_Batch") -> None:
        if self._batch is batch:
            self._batch = None
        if not any(True for _ in batch.waiting()):
            return
        self._start(self._answer(batch))

    def _start(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        task = self._loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _answer(self, batch: "_Batch") -> None:
        keys = list(batch.keys)
        with open_budget(self._budget_seconds) as budget:
            try:
                by_key = dict(zip(keys, await self._inner.get_many(keys), strict=True))
            except asyncio.CancelledError:
                for _, values in batch.waiting():
                    values.cancel()
                raise
            except Exception as error:  # noqa: BLE001  (each caller's own to raise)
                batch.talked_seconds = budget.talked_seconds
                for _, values in batch.waiting():
                    values.set_exception(error)
            else:
                batch.talked_seconds = budget.talked_seconds
                for wanted, values in batch.waiting():
                    values.set_result([by_key[key] for key in wanted])


class _Batch:
    """What is asked for together. `talked_seconds`: how long the conversation has lasted, once it is over."""

    __slots__ = ("_asked", "keys", "talked_seconds")

    def __init__(self) -> None:
        self._asked: list[tuple[Sequence[str], Values]] = []
        self.keys: dict[str, None] = {}
        self.talked_seconds = 0.0

    def add(self, keys: Sequence[str], values: Values) -> None:
        self._asked.append((keys, values))
        self.keys.update(dict.fromkeys(keys))

    def waiting(self) -> Iterator[tuple[Sequence[str], Values]]:
        """Return what is asked by those who have not gone away."""
        return ((keys, values) for keys, values in self._asked if not values.done())
