"""Reads of another tier, those of one turn of the event loop in one conversation.

    get_many([a, p]) ─┐
    get_many([b, p]) ─┼── one turn ── inner.get_many([a, p, b]) ──→ each caller's own values
    get_many([c, p]) ─┘

A busy process reads several requests in one turn, and the conversation with a server costs it more than the values do.
It belongs under the guard: each caller keeps its own deadline. How the conversation went is one verdict, whoever of
them gives it (`CallProgress.is_first_word`). A caller who goes away leaves the others their values.
"""

import asyncio
from collections.abc import Iterator, Sequence

from typing_extensions import override

from zpmeow.cache.call_budget import CallProgress, observed_progress, report_talking, report_waiting, share_progress
from zpmeow.cache.tier import CacheTier, PutOutcome, TierInfo, Write

MOST_KEYS = 256
"""Arbitrary: by then the conversation costs next to nothing, and a reply of some 100 KB keeps nobody waiting."""

Values = asyncio.Future[list[bytes | None]]


class BatchingTier(CacheTier):
    """Another CacheTier that is asked less often."""

    def __init__(self, inner: CacheTier) -> None:
        """Ask `inner`."""
        self._inner = inner
        self._batch: _Batch | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    @override
    async def get_many(self, keys: Sequence[str]) -> list[bytes | None]:
        loop = asyncio.get_running_loop()
        batch = self._batch
        if batch is None:
            batch = self._batch = _Batch()
            loop.call_soon(self._ask, batch)
        values: Values = loop.create_future()
        batch.add(keys, values, observed_progress())
        report_waiting()  # Until the turn is over nothing is sent, and a long turn is no fault of the server.
        if len(batch.keys) >= MOST_KEYS:
            self._batch = None
        return await values

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
        task = asyncio.get_running_loop().create_task(self._answer(batch))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _answer(self, batch: "_Batch") -> None:
        share_progress(batch.progresses)
        report_talking(asyncio.get_running_loop().time())
        keys = list(batch.keys)
        try:
            found = await self._inner.get_many(keys)
            by_key = dict(zip(keys, found, strict=True))
        except asyncio.CancelledError:
            for _, values in batch.waiting():
                values.cancel()
            raise
        except Exception as error:  # noqa: BLE001  (each caller's own to raise)
            for _, values in batch.waiting():
                values.set_exception(error)
        else:
            for wanted, values in batch.waiting():
                values.set_result([by_key[key] for key in wanted])


class _Batch:
    """What is asked for together."""

    __slots__ = ("_asked", "keys", "progresses")

    def __init__(self) -> None:
        self._asked: list[tuple[Sequence[str], Values]] = []
        self.keys: dict[str, None] = {}
        self.progresses: list[CallProgress] = []

    def add(self, keys: Sequence[str], values: Values, progress: CallProgress | None) -> None:
        self._asked.append((keys, values))
        self.keys.update(dict.fromkeys(keys))
        if progress is not None:
            self.progresses.append(progress)

    def waiting(self) -> Iterator[tuple[Sequence[str], Values]]:
        """Return what is asked by those who have not gone away."""
        return ((keys, values) for keys, values in self._asked if not values.done())
